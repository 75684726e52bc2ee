"""Networks for inference: fewer norms, the same logits."""

import copy

import pytest
import torch
from torch import nn

from model import catalog
from model.fuse_norms import fuse_norms
from tests.model.golden import fill_model
from tests.model.zoo import NETWORKS, build, clip, narrow
from torchlight.training.device import synchronize_norms
from torchlight.training.engine import for_inference

FUSED = [name for name in NETWORKS if "for_inference" in vars(catalog.load(name).Model)]
every_fused_network = pytest.mark.parametrize("name", FUSED)
LEFT = {  # norms that follow no convolution: of the input, after a max pooling, a topology or a linear layer
    "stgcn": 1 + 10,
    "agcn": 1,
    "aagcn": 1,
    "baseline": 1,
    "ctrgcn": 1 + 10 + 10,
    "dgstgcn": 1 + 10,
    "stgcnpp": 1 + 10 + 10,
    "msg3d": 1 + 9,
    "hdgcn": 1 + 10 + 10,
    "blockgcn": 1 + 10 + 10,
    "hypergcn": 1 + 9 + 9,
    "skateformer": 0,
}


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@every_fused_network
def test_a_network_for_inference_gives_the_same_logits_and_features_with_fewer_norms(name, monkeypatch):
    model = build(name, **narrow(name, monkeypatch))
    data = clip(model).double()
    fill_model(model, data)
    found = for_inference(model)
    assert found is not model and norms(found) < norms(model)
    with torch.no_grad():
        assert_same(found(data), model(data))
        assert_same(found.features(data), model.features(data))


@pytest.mark.parametrize("name", LEFT)
def test_only_norms_that_do_not_follow_a_convolution_remain(name):
    assert norms(fuse_norms(build(name))) == LEFT[name]


@every_fused_network
def test_a_subclass_is_evaluated_as_it_is(name, monkeypatch):
    model = build(name, **narrow(name, monkeypatch))
    model.__class__ = type("Model", (type(model),), {})
    assert for_inference(model) is model


def test_a_network_without_batch_norms_in_its_blocks_is_evaluated_as_it_is():
    model = build("tsgcnext")
    assert for_inference(model) is model and model.for_inference() is model


def test_fusing_does_not_change_the_given_network():
    model = build("ctrgcn").train()
    before = copy.deepcopy(model.state_dict())
    assert not fuse_norms(model).training
    assert model.training
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_norm_after_a_topology_stays_a_norm():
    gcn = fuse_norms(build("stgcnpp")).backbone["gcn"][1].gcn
    assert isinstance(gcn.bn, nn.BatchNorm2d)


def test_fusing_a_fused_network_changes_nothing():
    fused = fuse_norms(build("ctrgcn"))
    again = fuse_norms(fused)
    assert norms(again) == LEFT["ctrgcn"]
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in fused.state_dict().items())


@every_fused_network
def test_synchronized_norms_are_fused_in_the_same_way_and_are_plain_norms_on_one_device(name, monkeypatch):
    one = build(name, **narrow(name, monkeypatch))
    data = clip(one).double()
    fill_model(one, data)
    many = copy.deepcopy(one)
    synchronize_norms(many)
    assert all(
        isinstance(m, nn.SyncBatchNorm) for m in many.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)
    )
    assert list(many.state_dict()) == list(one.state_dict())
    fused = fuse_norms(many)
    assert torch.equal(fused(data), fuse_norms(one)(data)) and norms(fused) < norms(many)
    assert_same(many.train()(data).detach(), one.train()(data).detach())
