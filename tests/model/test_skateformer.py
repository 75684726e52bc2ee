"""SkateFormer: windows, groups of joints, times, and refused arguments."""

import pytest
import torch

from graph import coco, custom, hand, kinetics, ntu_rgb_d, ucla
from graph.body import Skeleton
from graph.partition import derive_groups, find_groups
from model.skateformer import SkateMSA, even_times
from tests.model.golden import Case, deviation, fill_model
from tests.model.zoo import build, clip
from torchlight.training.model_size import model_size

SMALL = {"depths": [1, 1], "channels": [32, 32]}  # clips of 16 frames


@pytest.mark.parametrize("name", ["skateformer_ntu60", "skateformer_ucla"])
def test_given_times_give_the_published_numbers(name):
    case = Case(name)
    time = torch.from_numpy(case.record["extra/index_t"])
    with torch.no_grad():
        logits = case.build().eval()(case.input(), time)
    assert deviation(logits.numpy(), case.record["logits_eval"]) > 1e-4  # those are without
    assert deviation(logits.numpy(), case.record["extra/logits_eval"]) < 1e-9


@pytest.mark.parametrize(
    ("kind", "frames", "joints"),
    [
        (1, [[0, 1], [2, 3]], [[0, 1, 2], [3, 4, 5]]),
        (2, [[0, 1], [2, 3]], [[0, 2, 4], [1, 3, 5]]),
        (3, [[0, 2], [1, 3]], [[0, 1, 2], [3, 4, 5]]),
        (4, [[0, 2], [1, 3]], [[0, 2, 4], [1, 3, 5]]),
    ],
)
def test_the_windows_of_each_type_hold_neighboring_or_distant_frames_and_joints(kind, frames, joints):
    attention = SkateMSA(kind, (2, 3), 1, 0.0)
    x = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij"), -1)[None]  # (1, 4, 6, 2)
    windows = attention.split(x)
    assert windows[0, :, 0, :, 0, 0].tolist() == frames and windows[0, 0, :, 0, :, 1].tolist() == joints
    assert torch.equal(attention.merge(windows), x)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_a_token_attends_to_its_window_only(kind):
    attention, x = SkateMSA(kind, (2, 3), 2, 0.0).double(), torch.randn(1, 4, 6, 12).double()
    changed = x.clone()
    changed[0, 0, 0] += 1
    same = (attention(x) == attention(changed)).all(-1)[0]
    window = attention.split(torch.arange(24).view(1, 4, 6, 1))[0, 0, 0].flatten()
    assert sorted(window.tolist()) == (~same).flatten().nonzero().flatten().tolist()


def test_the_bias_of_types_1_and_3_is_tiled_as_published():
    attention = SkateMSA(1, (4, 3), 2, 0.0)
    table, bias = attention.relative_position_bias_table, attention.bias()
    for r, s in ((0, 0), (1, 0), (5, 11), (11, 2)):
        assert torch.equal(bias[:, r, s], table[r % 4 - s % 4 + 3])


def test_the_bias_of_types_2_and_4_depends_on_the_frame_offset_and_both_joints():
    attention = SkateMSA(4, (4, 3), 2, 0.0)
    table, bias = attention.relative_position_bias_table, attention.bias()
    for r, s in ((0, 0), (1, 0), (5, 11), (11, 2)):
        assert torch.equal(bias[:, r, s], table[r // 3 - s // 3 + 3, r % 3, s % 3])


def test_attention_is_dropped_in_training_only():
    attention, x = SkateMSA(1, (2, 3), 2, 0.5), torch.randn(1, 4, 6, 12)
    assert not torch.equal(attention.train()(x), attention(x))
    assert torch.equal(attention.eval()(x), attention(x))


def test_times_that_are_not_given_are_evenly_spread():
    model, data = build("skateformer", **SMALL).eval(), clip("skateformer")[:, :, :16]
    time = torch.linspace(-1, 1, 16).expand(2, -1)
    assert torch.equal(even_times(data), time)
    with torch.no_grad():
        assert torch.equal(model(data), model(data, time))
        assert not torch.allclose(model(data), model(data, time / 2))
        assert torch.equal(model.features(data, time).mean((2, 3, 4)), model.features(data).mean((2, 3, 4)))


def test_joints_outside_of_the_groups_have_no_effect():
    model, data = fill_model(build("skateformer", **SMALL)), torch.randn(1, 3, 16, 25, 2).double()
    changed = data.clone()
    changed[:, :, :, 20] += 1
    with torch.no_grad():
        assert torch.equal(model(data), model(changed))


def test_windows_follow_from_the_groups_of_the_body():
    sizes = {}
    for body, persons in (("ntu_rgb_d", 2), ("ucla", 1), ("hand", 1), ("kinetics", 2), ("coco", 3)):
        attention = build("skateformer", body, persons, **SMALL).stages[0]["blocks"][0].transformer.attention
        sizes[body] = [(a.frames, a.joints) for a in attention]
    assert sizes["ntu_rgb_d"] == [(8, 8), (8, 12)] * 2 and sizes["ucla"] == [(8, 4), (8, 5)] * 2
    assert sizes["hand"] == [(8, 4), (8, 5)] * 2 and sizes["kinetics"] == [(8, 6), (8, 12)] * 2
    assert sizes["coco"] == [(8, 9), (8, 15)] * 2


def test_groups_of_bodies_without_a_table_are_limbs():
    assert derive_groups(hand.SKELETON) == tuple(tuple(range(i, i + 4)) for i in range(1, 21, 4))
    limbs = {frozenset(group) for group in derive_groups(kinetics.SKELETON)}
    assert {frozenset(range(i, i + 3)) for i in (2, 5, 8, 11)} <= limbs
    parents = (0, 0, 0, 1, 2, 3, 4, 1, 2, 7, 8, 9, 10)  # a head, two arms, two legs
    stick = Skeleton("stick figure", tuple(map(str, range(13))), parents, parents, 0)
    assert find_groups(stick) == ((1, 3, 5), (7, 9, 11), (2, 4, 6), (8, 10, 12))


@pytest.mark.parametrize("body", [ntu_rgb_d, ucla, coco, hand, kinetics])
def test_groups_hold_different_joints(body):
    joints = [joint for group in find_groups(body.SKELETON) for joint in group]
    assert len(set(joints)) == len(joints) >= body.SKELETON.num_joint - 2
    assert len({len(group) for group in find_groups(body.SKELETON)}) == 1


def test_a_custom_body_works_with_derived_and_with_given_groups():
    parents = (0, 0, 1, 2, 0, 4, 5)
    body = Skeleton("crab", tuple("abcdefg"), parents, parents, 0)
    args = {"num_class": 3, "num_point": 7, "num_person": 1, "graph": "graph.custom.Graph"} | SMALL
    data = torch.randn(2, 3, 16, 7, 1)
    for groups, J in ((None, 6), ([[0, 1, 2, 3]], 4), ([[3, 2], [6, 5], [0, 1]], 6)):
        model = build("skateformer", **args | {"graph": custom.Graph(body), "groups": groups})
        assert model.joint_person_embedding.shape == (32, J)
        assert model(data).shape == (2, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"groups": [[0, 1], [2]]},
            r"groups: expected lists of equal length of joints 0 to 24, got \[\[0, 1\], \[2\]\]",
        ),
        ({"groups": [[0, 25]]}, "groups: expected lists of equal length of joints 0 to 24"),
        ({"groups": []}, "groups: expected lists of equal length"),
        ({"groups": [[0, 1], [1, 2]]}, "groups: expected every joint at most once"),
        ({"type_2_size": [8, 7]}, r"type_2_size: expected .* a divisor of 48 \(2 persons x 6 groups x 4 joints\), got"),
        ({"type_3_size": [0, 8]}, "type_3_size: expected frames and joints of a window"),
        ({"num_heads": 12}, "num_heads: expected a multiple of 8, got 12"),
        ({"channels": [96, 192, 192, 200]}, r"channels: expected multiples of 32 \(num_heads\)"),
        ({"depths": [2, 2]}, "depths: expected 4 integers >= 1, one for each width"),
        ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
        ({"mlp_ratio": 0.01, "channels": [32] * 4}, "mlp_ratio: expected one hidden channel or more of 32, got 0.01"),
        ({"drop_path": 1.0}, "drop_path: expected a rate from 0 to below 1, got 1.0"),
    ],
)
def test_impossible_arguments_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        build("skateformer", **changed)


def test_a_body_of_two_joints_is_refused():
    body = Skeleton("stick", ("a", "b"), (0, 0), (0, 0), 0)
    with pytest.raises(ValueError, match="skeleton stick: expected at least 3 joints to group, got 2"):
        build("skateformer", num_point=2, graph=custom.Graph(body))


@pytest.mark.parametrize(("sizes", "frames"), [({}, 64), ({"type_1_size": [6, 8]}, 192)])
def test_frames_that_the_windows_do_not_divide_are_refused(sizes, frames):
    model = build("skateformer", **sizes).eval()
    assert model.min_frames == frames
    with pytest.raises(ValueError, match=f"data: expected a multiple of {frames} frames, got {frames + 8}"):
        model(torch.zeros(1, 3, frames + 8, 25, 2))


def test_windows_of_single_frames_take_any_number_of_frames():
    sizes = {f"type_{i}_size": [1, 8] for i in range(1, 5)}
    with torch.no_grad():
        assert build("skateformer", **sizes).eval()(torch.randn(1, 3, 13, 25, 2)).isfinite().all()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_multiply_adds_include_those_of_the_attention(device):
    model = build("skateformer").to(device)
    with torch.device(device):
        assert model_size(model, (3, 64, 25, 2))["multiply-adds of one clip"] == "3.464 G"
