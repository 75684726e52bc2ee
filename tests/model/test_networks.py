"""Properties of every network in model/."""

import inspect
import math
import re
from fnmatch import fnmatch

import pytest
import torch
import torch.nn.functional as F

from model import catalog
from model.network import pool
from tests.model.golden import fill_model
from tests.model.zoo import BODIES, NETWORKS, build, clip, data_norm, min_frames, narrow

GRID = ["skateformer"]  # networks that order the joints of all persons, and may leave some out
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture
def build_narrow(monkeypatch):
    """`build` of a network with one narrow block of each kind."""
    return lambda name, *args, **changed: build(name, *args, **narrow(name, monkeypatch) | changed)


def header_shapes(name: str) -> list[tuple[int, ...]]:
    """The shapes in the header of a model file for one clip, N = 1: input, feature maps, logits."""
    line = re.search(r"\nShapes, [^:]+:(.*)", inspect.getdoc(catalog.load(name)), re.DOTALL)[1].split("\n\n")[0]
    sizes = [shape.split(", ") for shape in re.findall(r"\(([^)]+)\)", line)]
    return [tuple(int(size.replace("N", "") or 1) for size in shape) for shape in sizes]


def test_files_that_define_a_model_are_networks_and_building_blocks_are_not():
    assert {"agcn", "ctrgcn", "stgcn"} <= set(NETWORKS)
    assert not {"__init__", "blocks", "catalog", "fuse_norms", "network", "ops"} & set(NETWORKS)


@every_network
def test_the_header_names_the_paper_and_the_shapes_that_the_network_has(name):
    title, authors, differences, *_ = inspect.getdoc(catalog.load(name)).split("\n\n")
    assert ": " in title and re.search(r"arXiv \d{4}\.\d{5}", authors) and differences
    (N, C, T, V, M), *maps, (_, num_class) = header_shapes(name)
    model, seen = build(name, num_person=M, num_class=num_class, in_channels=C).to("meta").eval(), set()
    for module in model.modules():
        module.register_forward_hook(lambda module, args, output: seen.add(tuple(output.shape)))
    with torch.device("meta"):
        logits, features = model(torch.empty(N, C, T, V, M)), model.features(torch.empty(N, C, T, V, M))
    assert logits.shape == (N, num_class)
    assert features.shape[:3] == (N, *maps[-1][1:3]) and features.shape[4] == M
    assert features.numel() == math.prod(maps[-1])
    assert set(maps) <= seen


@every_network
@pytest.mark.parametrize(
    ("body", "persons", "channels"), [("coco", 5, 3), ("kinetics", 1, 6), ("ucla", 1, 9), ("hand", 1, 2)]
)
def test_any_body_number_of_persons_channels_and_odd_number_of_frames_works(
    name, body, persons, channels, build_narrow
):
    model = build_narrow(name, body, persons, in_channels=channels).eval()
    data = clip(name, C=channels, V=BODIES[body], M=persons, frames=19)
    with torch.no_grad():
        logits, features = model(data), model.features(data)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    assert features.shape[0] == 2 and features.shape[4] == persons
    assert features.shape[3] == BODIES[body] or name in GRID


@every_network
def test_the_shortest_clip_works_and_depends_on_its_content(name):
    model = build(name).eval()
    data = torch.randn(2, 3, min_frames(name), 25, 2)
    with torch.no_grad():
        logits = model(data)
    assert logits.isfinite().all()
    assert not torch.allclose(logits[0], logits[1])


@every_network
def test_frames_that_are_no_multiple_of_the_stride_are_rounded_up_or_down(name):
    (_, _, T, _, _), *_, (_, width, T_out, _), _ = header_shapes(name)
    data = clip(name, N=1, frames=35)
    with torch.no_grad():
        features = build(name).eval().features(data)
    floor = data.shape[2] * T_out // T
    assert features.shape[:3] in [(1, width, frames) for frames in (floor, floor + 1)]


@every_network
def test_every_parameter_gets_a_gradient_except_those_that_the_file_lists(name, build_narrow):
    model = build_narrow(name)
    data = clip(model).double()
    fill_model(model, data)
    for gate in (p for key, p in model.named_parameters() if key.endswith(".alpha")):
        gate.data.abs_()  # behind a ReLU in Hyper-GCN
    F.cross_entropy(model(data), torch.tensor([0, 1])).backward()
    norms = {key: float(p.grad.norm()) for key, p in model.named_parameters() if p.requires_grad}
    zero = {key for key, norm in norms.items() if norm < 1e-9 * max(norms.values())}
    assert zero == {key for key in norms if any(fnmatch(key, pattern) for pattern in catalog.no_gradient(name))}
    assert all(any(fnmatch(key, pattern) for key in norms) for pattern in catalog.no_gradient(name))


@every_network
def test_rows_of_a_batch_do_not_influence_each_other_in_evaluation(name, build_narrow):
    model = fill_model(build_narrow(name))
    data = clip(model, N=3).double()
    with torch.no_grad():
        together, alone = model(data), torch.cat([model(row[None]) for row in data])
    assert torch.allclose(together, alone, rtol=1e-9, atol=1e-9 * float(together.abs().max()))


@every_network
def test_logits_are_the_classifier_on_top_of_the_pooled_features(name, build_narrow):
    model = build_narrow(name).eval()
    data = clip(model)
    with torch.no_grad():
        assert torch.allclose(model(data), model.classify(pool(model.features(data))), atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in GRID])
def test_exchanged_persons_change_nothing_if_their_input_is_normalized_alike(name, build_narrow):
    model = fill_model(build_narrow(name))
    norm, data = data_norm(model), clip(model).double()
    with torch.no_grad():
        if norm.per_person:
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                values.view(2, -1)[1] = values.view(2, -1)[0]
        logits = model(data)
        assert torch.allclose(model(data.flip(-1)), logits, rtol=1e-9, atol=1e-9 * float(logits.abs().max()))


@every_network
def test_a_norm_per_person_distinguishes_the_persons(name, build_narrow):
    model = build_narrow(name).double().eval()
    norm, data = data_norm(model), clip(model).double()
    if norm is None or not norm.per_person:
        pytest.skip("all persons share the statistics")
    with torch.no_grad():
        norm.weight[: len(norm.weight) // 2] = 3
        assert not torch.allclose(model(data.flip(-1)), model(data), atol=1e-6)


@every_network
def test_training_under_bfloat16_autocast_stays_finite(name, build_narrow):
    model = build_narrow(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(clip(model)), torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_network
def test_data_of_another_shape_is_refused(name, build_narrow):
    model = build_narrow(name)
    for shape, message in (
        ((2, 3, 16, 17, 2), "expected V = 25 (num_point), got V = 17 in (2, 3, 16, 17, 2)"),
        ((2, 3, 16, 25, 1), "expected M = 2 (num_person), got M = 1 in (2, 3, 16, 25, 1)"),
        ((2, 4, 16, 25, 2), "expected C = 3 (in_channels), got C = 4 in (2, 4, 16, 25, 2)"),
        ((2, 3, 16, 25), "expected 5 axes (N, C, T, V, M), got 4 axes (2, 3, 16, 25)"),
    ):
        with pytest.raises(ValueError, match=f"^data: {re.escape(message)}$"):
            model(torch.zeros(shape))


@every_network
def test_too_few_frames_are_refused(name):
    frames = min_frames(name)
    with pytest.raises(ValueError, match=f"data: expected at least {frames} frames, got {frames - 1}"):
        build(name)(torch.zeros(2, 3, frames - 1, 25, 2))


@every_network
def test_another_number_of_joints_than_the_graph_has_is_refused(name):
    with pytest.raises(ValueError, match=r"num_point: expected 25 \(graph ntu_rgb_d\), got 17"):
        build(name, num_point=17)


@every_network
def test_an_unknown_argument_is_refused(name):
    with pytest.raises(TypeError, match="droppout"):
        build(name, droppout=0.5)


def test_a_joint_embedding_refuses_other_data_and_has_statistics_for_every_person():
    model = build("dgstgcn", "coco", 3, channels=[16, 16, 32], joint_embedding=True, in_channels=2)
    assert data_norm(model).num_features == 3 * 17 * 16
    assert model(torch.randn(2, 2, 8, 17, 3)).shape == (2, 5)
    with pytest.raises(ValueError, match=r"data: expected C = 2 \(in_channels\), got C = 3"):
        model(torch.randn(2, 3, 8, 17, 3))
