"""PoseConv3D, whose input are heatmaps: the properties in `test_networks`, and its own."""

import inspect
import math
import re
from fnmatch import fnmatch

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import catalog, posec3d
from model.network import pool
from model.posec3d import Model
from model.published import open_checkpoint, to_published
from tests.model.golden import fill_model
from torchlight.training.engine import for_inference
from torchlight.training.model_size import model_size

SMALL = {  # few channels
    "slowonly": {"width": 4, "blocks": (2, 1, 1)},
    "c3d": {"width": 4},
    "x3d": {},
}
every_network = pytest.mark.parametrize("network", SMALL)


def build(network="slowonly", num_class=5, **changed):
    return Model(num_class, 17, 2, "graph.coco.Graph", network=network, **changed)


def maps(N=2, K=17, T=4, H=16, W=16):
    return torch.rand(N, K, T, H, W)


@pytest.mark.parametrize(
    ("changed", "parameters", "entries"),
    [
        ({"num_class": 60}, 2024860, 260),
        ({"num_class": 120}, 2055640, 260),
        ({"num_class": 99}, 2044867, 260),
        ({"num_class": 400}, 2199280, 260),
        ({"num_class": 400, "blocks": (3, 4, 6)}, 3208560, 260),
        ({"num_class": 51, "blocks": (3, 4, 6)}, 3029523, 260),
        ({"num_class": 60, "network": "c3d"}, 3404892, 38),
        ({"num_class": 99, "network": "c3d"}, 3414915, 38),
        ({"num_class": 60, "network": "x3d"}, 254508, 213),
        ({"num_class": 99, "network": "x3d"}, 262971, 213),
    ],
)
def test_parameters_and_entries_are_as_published(changed, parameters, entries):
    with torch.device("meta"):
        model = build(**changed)
    assert sum(p.numel() for p in model.parameters()) == parameters and len(model.state_dict()) == entries


@pytest.mark.parametrize(
    ("network", "changed", "found"),
    [
        ("slowonly", {}, "20.416 G"),
        ("slowonly", {"num_class": 400, "blocks": (3, 4, 6)}, "18.931 G"),
        ("c3d", {}, "21.913 G"),
        ("x3d", {}, "0.709 G"),
    ],
)
def test_multiply_adds_of_a_view_are_those_of_the_layers(network, changed, found):
    with torch.device("meta"):
        size = model_size(build(network, **{"num_class": 60} | changed), (17, 48, 64, 64))
    assert size["multiply-adds of one clip"] == found and size["input (K, T, H, W)"] == "(17, 48, 64, 64)"


def test_the_header_names_the_paper_and_the_shapes_that_the_network_has():
    title, authors, differences, shapes = inspect.getdoc(posec3d).split("\n\n")
    assert ": " in title and re.search(r"arXiv \d{4}\.\d{5}", authors) and differences
    sizes = [
        tuple(int(n.replace("N", "") or 1) for n in shape.split(", "))
        for shape in re.findall(r"\(([^)]+)\)", shapes.split(":")[1])
    ]
    seen = set()
    with torch.device("meta"):
        model = build(num_class=60).eval()
        for module in model.modules():
            module.register_forward_hook(lambda module, args, output: seen.add(tuple(output.shape)))
        assert model(torch.empty(sizes[0])).shape == sizes[-1]
    assert set(sizes[1:-1]) <= seen
    assert catalog.is_network(posec3d)


@every_network
def test_every_parameter_gets_a_gradient_except_those_that_the_file_lists(network):
    model = build(network, **SMALL[network])
    data = maps().double()
    model = fill_model(model, data).train()
    F.cross_entropy(model(data), torch.tensor([0, 1])).backward()
    norms = {key: float(p.grad.norm()) for key, p in model.named_parameters()}
    zero = {key for key, norm in norms.items() if norm < 1e-9 * max(norms.values())}
    patterns = posec3d.NO_GRADIENT if network == "x3d" else ()
    assert zero == {key for key in norms if any(fnmatch(key, pattern) for pattern in patterns)}


@every_network
def test_logits_are_the_classifier_on_the_mean_of_the_features_at_any_size(network):
    data = maps(3, T=5, H=20, W=17).double()
    model = fill_model(build(network, **SMALL[network]), data)
    with torch.no_grad():
        logits, features = model(data), model.features(data)
        alone = torch.cat([model(row[None]) for row in data])
    assert features.shape[:3] == (3, model.cls_head["fc_cls"].in_features, 3 if network == "slowonly" else 5)
    assert torch.allclose(logits, model.classify(pool(features)), atol=1e-5)
    assert torch.allclose(logits, alone, atol=1e-6) and not torch.allclose(logits[0], logits[1], atol=1e-6)


@every_network
def test_the_network_for_inference_has_no_norms_and_the_same_logits(network):
    data = maps().double()
    model = fill_model(build(network, **SMALL[network]), data)
    found = for_inference(model)
    assert any(isinstance(module, nn.BatchNorm3d) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm3d) for module in found.modules())
    with torch.no_grad():
        expected = model(data)
        assert torch.allclose(found(data), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@every_network
def test_training_under_bfloat16_autocast_stays_finite(network):
    model = build(network, **SMALL[network])
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(maps()), torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())


@every_network
def test_initial_weights_are_those_of_the_paper(network):
    torch.manual_seed(0)
    model = build(network)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 5000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert float(module.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.1), name
        if isinstance(module, nn.BatchNorm3d):
            assert (module.weight == (0 if name.endswith("conv3.bn") else 1)).all(), name
    assert float(model.cls_head["fc_cls"].weight.detach().std()) == pytest.approx(0.01, rel=0.1)


def test_temporal_strides_shorten_the_clip():
    model = build(temporal_strides=(1, 1, 1), **SMALL["slowonly"])
    assert model.features(maps(T=7)).shape[2] == 7 and build(**SMALL["slowonly"]).features(maps(T=7)).shape[2] == 4


@pytest.mark.parametrize("shape", [(2, 16, 4, 8, 8), (2, 17, 4, 8), (2, 17, 0, 8, 8), (2, 3, 64, 17, 2)])
def test_data_other_than_heatmaps_are_refused(shape):
    with pytest.raises(ValueError, match=r"data: expected heatmaps \(N, 17, T, H, W\) .* got \(2, .*Feeder makes them"):
        build("x3d")(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"network": "slowfast"}, "network: expected slowonly, c3d or x3d, got 'slowfast'"),
        ({"blocks": (4, 6)}, r"blocks: expected three integers >= 1, one for each stage, got \[4, 6\]"),
        ({"temporal_strides": (1, 0, 1)}, "temporal_strides: expected three integers >= 1"),
        ({"width": 0}, "width: expected an integer >= 1, got 0"),
        ({"network": "c3d", "blocks": (1, 1, 1)}, "blocks, temporal_strides: expected none for the network c3d"),
        ({"network": "x3d", "width": 8}, "width: expected none for the network x3d"),
        ({"graph": "graph.ucla.Graph"}, r"num_point: expected 20 \(graph ucla\), got 17"),
    ],
)
def test_arguments_that_no_network_has_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        Model(**{"num_class": 5, "num_point": 17, "num_person": 2, "graph": "graph.coco.Graph"} | arguments)


@pytest.mark.parametrize(
    ("changed", "special"),
    [
        ({}, {"network": "slowonly", "blocks": [4, 6, 3]}),
        ({"blocks": (3, 4, 6), "num_class": 400}, {"network": "slowonly", "blocks": [3, 4, 6]}),
        ({"width": 8, "blocks": (1, 1, 2)}, {"network": "slowonly", "blocks": [1, 1, 2], "width": 8}),
        ({"network": "c3d"}, {"network": "c3d"}),
        ({"network": "x3d", "in_channels": 5}, {"network": "x3d", "in_channels": 5}),
    ],
)
def test_the_arguments_follow_from_a_published_file_which_needs_no_conversion(changed, special):
    state = build(**changed).state_dict()
    found = open_checkpoint(state)
    args = {"num_class": changed.get("num_class", 5), "num_point": 17, "num_person": 2, "graph": "graph.coco.Graph"}
    assert found.model == "model.posec3d.Model" and found.state == state and not found.dropped
    assert found.model_args == args | {"in_channels": 17} | special
    assert to_published(state, found.model, found.model_args).keys() == state.keys()
    state.pop("cls_head.fc_cls.weight")
    with pytest.raises(ValueError, match="expected a complete checkpoint of PYSKL PoseConv3D"):
        open_checkpoint(state)
