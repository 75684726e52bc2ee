"""What holds for every network."""

from fnmatch import fnmatch

import pytest
import torch
import torch.nn.functional as F

from tests.model.golden import fill_model
from tests.model.zoo import BODIES, MIN_FRAMES, NETWORKS, PER_PERSON_NORM, SHARED_NORM, build

every_network = pytest.mark.parametrize("name", NETWORKS)


def clip(name, N=2, C=3, V=25, M=2, frames=8):
    return torch.randn(N, C, max(frames, MIN_FRAMES[name]), V, M)


def test_every_network_of_the_room_is_tested_here():
    import pkgutil

    import model

    assert {module.name for module in pkgutil.iter_modules(model.__path__)} - {"blocks", "fold", "products"} == set(NETWORKS)


@every_network
@pytest.mark.parametrize(("body", "persons", "channels"), [("coco", 5, 3), ("kinetics", 1, 6), ("ucla", 1, 9), ("hand", 1, 2)])
def test_any_body_number_of_persons_channels_and_odd_number_of_frames_works(name, body, persons, channels):
    model = build(name, body, persons, in_channels=channels).eval()
    data = clip(name, C=channels, V=BODIES[body], M=persons, frames=19)
    with torch.no_grad():
        logits, features = model(data), model.features(data)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    assert features.shape[0] == 2 and features.shape[3:] == (BODIES[body], persons)


@every_network
def test_the_shortest_clip_works_and_depends_on_its_content(name):
    model = build(name).eval()
    data = torch.randn(2, 3, MIN_FRAMES[name], 25, 2)
    with torch.no_grad():
        logits = model(data)
    assert logits.isfinite().all()
    assert not torch.allclose(logits[0], logits[1])


@every_network
def test_time_is_divided_by_the_strides_of_the_network(name):
    frames = 35
    with torch.no_grad():
        features = build(name).eval().features(clip(name, N=1, frames=frames))
    widths = {"tsgcnext": 384, "msg3d": 384}
    assert features.shape == (1, widths.get(name, 256), frames // 16 if name == "tsgcnext" else 9, 25, 2)


@every_network
def test_gradients_reach_every_parameter_that_is_not_named_dead(name):
    data = clip(name).double()
    model = fill_model(build(name), data)
    F.cross_entropy(model(data), torch.tensor([0, 1])).backward()
    norms = {key: 0.0 if p.grad is None else float(p.grad.norm()) for key, p in model.named_parameters()}
    largest = max(norms.values())
    dead = {key for key in norms if any(fnmatch(key, pattern) for pattern in model.dead_parameters)}
    assert {key for key, norm in norms.items() if norm < 1e-9 * largest} == dead
    for pattern in model.dead_parameters:
        assert any(fnmatch(key, pattern) for key in norms), pattern


@every_network
def test_rows_of_a_batch_do_not_influence_each_other_in_evaluation(name):
    model = fill_model(build(name))
    data = clip(name, N=3).double()
    with torch.no_grad():
        together, alone = model(data), torch.cat([model(row[None]) for row in data])
    assert torch.allclose(together, alone, rtol=1e-9, atol=1e-9 * float(together.abs().max()))


@every_network
def test_logits_are_the_head_on_top_of_the_features(name):
    model = build(name).eval()
    heads = {"stgcn": "fcn", "dgstgcn": "cls_head.fc_cls", "stgcnpp": "cls_head.fc_cls"}
    seen = {}
    model.get_submodule(heads.get(name, "fc")).register_forward_hook(lambda module, args, output: seen.update(pooled=args[0]))
    data = clip(name)
    with torch.no_grad():
        model(data)
        pooled = model.features(data).mean((2, 3, 4))
        pooled = model.norm(pooled) if name == "tsgcnext" else pooled
    assert torch.allclose(seen["pooled"].flatten(1), pooled, atol=1e-6)


@pytest.mark.parametrize("name", SHARED_NORM)
def test_exchanged_persons_change_nothing_where_they_share_the_norm(name):
    model = fill_model(build(name))
    data = clip(name).double()
    with torch.no_grad():
        logits = model(data)
        assert torch.allclose(model(data.flip(-1)), logits, rtol=1e-9, atol=1e-9 * float(logits.abs().max()))


@pytest.mark.parametrize("name", PER_PERSON_NORM)
def test_exchanged_persons_only_matter_through_the_norm_of_each(name):
    model = build(name).double().eval()
    data = clip(name).double()
    with torch.no_grad():
        logits = model(data)
        assert torch.allclose(model(data.flip(-1)), logits, atol=1e-9)
        model.data_bn.weight[: len(model.data_bn.weight) // 2] = 3
        assert not torch.allclose(model(data.flip(-1)), model(data), atol=1e-6)


@every_network
def test_training_under_bfloat16_autocast_stays_finite(name):
    model = build(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(clip(name)), torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_network
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 3, 16, 17, 2), ["V = 17", "V = 25", "num_point"]),
        ((2, 3, 16, 25, 1), ["M = 1", "M = 2", "num_person"]),
        ((2, 4, 16, 25, 2), ["C = 4", "C = 3", "in_channels"]),
        ((2, 3, 16, 25), ["4 axes", "(N, C, T, V, M)"]),
    ],
)
def test_data_of_another_shape_is_refused_in_words(name, shape, words):
    with pytest.raises(ValueError) as error:
        build(name)(torch.zeros(shape))
    assert all(word in str(error.value) for word in words)


@every_network
def test_too_few_frames_are_refused_in_words(name):
    with pytest.raises(ValueError, match=f"found {MIN_FRAMES[name] - 1} frames; allowed are {MIN_FRAMES[name]}"):
        build(name)(torch.zeros(2, 3, MIN_FRAMES[name] - 1, 25, 2))


@every_network
def test_another_number_of_joints_than_the_graph_has_is_refused(name):
    with pytest.raises(ValueError, match="found 17.*ntu_rgb_d has 25"):
        build(name, num_point=17)


@every_network
def test_an_unknown_argument_is_refused(name):
    with pytest.raises(TypeError, match="droppout"):
        build(name, droppout=0.5)
