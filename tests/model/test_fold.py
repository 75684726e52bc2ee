"""Folded for inference, a network says the same with fewer norms."""

import copy

import pytest
import torch
from torch import nn

from model.fold import fold
from tests.model.golden import fill_model
from tests.model.test_networks import clip
from tests.model.zoo import NETWORKS, build
from torchlight.training.device import synchronize_norms
from torchlight.training.engine import for_inference

LEFT = {  # norms that follow no convolution: of the data, behind a max pool, behind a topology, before an activation
    "stgcn": 1 + 10,
    "agcn": 1,
    "aagcn": 1,
    "baseline": 1,
    "ctrgcn": 1 + 10 + 10,
    "dgstgcn": 1 + 10,
    "stgcnpp": 1 + 10 + 10,
    "tsgcnext": 1,
    "msg3d": 1 + 9,
}


def norms(model):
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_gives_the_same_logits_with_fewer_norms(name):
    data = clip(name).double()
    model = fill_model(build(name), data)
    folded = fold(model)
    assert norms(folded) == LEFT[name] <= norms(model)
    with torch.no_grad():
        logits = model(data)
        assert torch.allclose(folded(data), logits, rtol=1e-9, atol=1e-9 * float(logits.abs().max()))


def test_folding_leaves_the_given_network_as_it_was():
    model = build("ctrgcn").train()
    before = copy.deepcopy(model.state_dict())
    assert not fold(model).training
    assert model.training
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_norm_after_a_topology_is_not_taken_for_one_after_the_convolution():
    gcn = fold(build("stgcnpp")).backbone["gcn"][1].gcn
    assert isinstance(gcn.bn, nn.BatchNorm2d)


def test_what_is_folded_once_stays_as_it_is_when_folded_again():
    folded = fold(build("ctrgcn"))
    again = fold(folded)
    assert norms(again) == LEFT["ctrgcn"]
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in folded.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_whose_norms_go_over_all_gpus_says_the_same_alone_and_is_folded_alike(name):
    data = clip(name).double()
    one = fill_model(build(name), data)
    many = copy.deepcopy(one)
    synchronize_norms(many)
    assert all(isinstance(module, nn.SyncBatchNorm) for module in many.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d))
    assert list(many.state_dict()) == list(one.state_dict())
    assert torch.equal(fold(many)(data), fold(one)(data)) and norms(fold(many)) == LEFT[name]
    assert torch.equal(many.train()(data), one.train()(data))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_evaluated_folded_with_its_features_and_its_heirs_are_evaluated_as_they_are(name):
    data = clip(name).double()
    model = fill_model(build(name), data)
    found = for_inference(model)
    assert found is not model and norms(found) == LEFT[name]
    with torch.no_grad():
        features = model.features(data)
        assert torch.allclose(found.features(data), features, rtol=1e-9, atol=1e-9 * float(features.abs().max()))
    model.__class__ = type("Model", (type(model),), {})
    assert for_inference(model) is model
