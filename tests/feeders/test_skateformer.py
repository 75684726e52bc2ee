"""SkateFormer's feeders compared with records of the published ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from feeders import feeder_skateformer, feeder_skateformer_ucla
from feeders import skateformer_transforms as skate
from feeders.feeder_ucla import COPIES
from feeders.modality import derive
from feeders.sampling import spread
from feeders.transforms import choose_frames, drop, linspace_map, min_max
from graph import ntu_rgb_d, ucla
from tests.feeders.synthetic import random_clips, write_store
from tests.model.golden import fill

GOLDEN = Path(__file__).parent / "golden"
ORDER = [joint for group in ntu_rgb_d.GROUPS for joint in group]
UCLA_ORDER = [joint for group in ucla.GROUPS for joint in group]
STEPS = feeder_skateformer.STEPS
MODALITIES = ("joint", "bone", "joint_motion", "bone_motion")


@pytest.fixture(scope="module")
def record():
    with np.load(GOLDEN / "skateformer.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def meta(record):
    return json.loads(str(record["meta"]))


@pytest.fixture(scope="module")
def npz(meta, tmp_path_factory):
    """The recorded clips in the published file format."""
    facts = meta["ntu"]
    x = np.zeros((len(facts["labels"]), 300, 150), np.float32)
    for k, (frames, persons) in enumerate(facts["frames_persons"]):
        clip = fill(f"skateformer/ntu/{k}", (frames, 2, 25, 3), "input").astype(np.float32)
        clip[:, persons:] = 0
        if k == 12:
            clip[10] = 0
        x[k, :frames] = clip.reshape(frames, -1)
    y = np.eye(60)[facts["labels"]]
    path = tmp_path_factory.mktemp("skateformer") / "NTU60_CS.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return str(path)


class Script:
    """Random numbers that are given in advance, in the order in which a feeder asks for them."""

    def __init__(self, *numbers):
        self.numbers = [torch.as_tensor(number, dtype=torch.float64) for number in numbers]

    def uniform(self, k, low=0.0, high=1.0):
        number = self.numbers.pop(0).view(1, -1)
        assert number.shape[1] == k and low <= number.min() and number.max() <= high
        return number

    def integer(self, low, high, k=1):
        number = self.numbers.pop(0).long().view(1, -1)
        assert number.shape[1] == k and (low <= number).all() and (number < high).all()
        return number

    def subset(self, k, n):
        return self.integer(0, n[:, None], k)


def ranks(chosen, n):
    """Numbers whose smallest are those of the chosen places: (n,)."""
    u = 0.5 + torch.arange(n, dtype=torch.float64) / 1000
    u[torch.as_tensor(chosen, dtype=torch.long)] -= 0.5
    return u


def script_of(item, valid):
    """The random numbers of a recorded training clip as the feeder asks for them."""
    drawn = [entry[2] for entry in item["draws"]]
    u, begin = drawn.pop(0)[0], drawn.pop(0)
    length = min(max(int(valid * (0.5 + 0.5 * u)), 64), valid)
    gaps, places = torch.rand(65), torch.rand(64)
    if 64 <= length < 128:
        gaps = ranks(drawn.pop(0), 65)
    elif length >= 128:
        places = (torch.tensor(drawn.pop(0)) + 0.5) / (torch.arange(65) * length // 64).diff()
    branch = drawn.pop(0)[0]
    assert (branch < 0.5) == (item["branch"] == "intra") and (branch >= 0.7) == (item["branch"] == "none")
    place = drawn.pop() if item["branch"] == "inter" else 0
    return [0.5 + 0.5 * u, begin, gaps, places], branch, place, intra_of(drawn)


def intra_of(drawn):
    """The random numbers of the augmentation."""
    if not drawn:
        return [torch.rand(7), torch.zeros(6), torch.zeros(3), [0, 0], 0.0, torch.rand(25), 5, torch.rand(64), 16]
    shear, scale, count, joints, frames, kept = torch.zeros(6), torch.zeros(3), 5, [], 16, []
    swap, coin_shear = drawn.pop(0)[0], drawn.pop(0)
    if coin_shear < 0.5:
        shear = torch.tensor([drawn.pop(0) for _ in range(6)], dtype=torch.float64)
    axis, degrees, coin_rotate, coin_scale = (drawn.pop(0) for _ in range(4))
    if coin_scale < 0.5:
        scale = torch.tensor(drawn.pop(0), dtype=torch.float64).flatten()
    mirror, zeroed, coin_axis, coin_joints = (drawn.pop(0) for _ in range(4))
    if coin_joints < 0.5:
        count, joints, frames, kept = (drawn.pop(0) for _ in range(4))
    coins = [swap, coin_shear, coin_rotate, coin_scale, mirror, coin_axis, coin_joints]
    return [coins, shear, scale, [axis, zeroed], degrees, ranks(joints, 25), count, ranks(kept, 64), frames]


@pytest.mark.parametrize("modality", MODALITIES)
def test_test_clips_are_the_published_ones_to_the_last_bit(record, meta, npz, modality):
    feeder = feeder_skateformer.Feeder(npz, part="test", modality=modality)
    assert feeder.clips.valid.tolist() == meta["ntu"]["valid"]
    chosen = range(0, 13, 2) if modality == "joint" else meta["ntu"]["few"]
    data = feeder.batch(list(chosen), 0)["data"][:, :, :, ORDER]
    np.testing.assert_array_equal(data.numpy(), record[f"ntu/{modality}"])


def test_times_are_the_published_ones_to_the_last_bit(record, npz):
    batch = feeder_skateformer.Feeder(npz, part="test").batch(range(13), 0)
    assert batch["time"].dtype == torch.float32
    np.testing.assert_array_equal(batch["time"].numpy(), record["ntu/time"])


def test_a_store_without_the_padding_gives_the_same_clips(record, meta, npz, tmp_path):
    with np.load(npz) as file:
        x = file["x_test"].reshape(13, 300, 2, 25, 3)
    facts = [(frames, persons) for frames, persons in meta["ntu"]["frames_persons"]]
    clips = [clip[:T, :M].transpose(1, 0, 2, 3) for clip, (T, M) in zip(x, facts, strict=True)]
    slots = [(0, 1) if M == 2 else (0, -1) for _, M in facts]
    path = write_store(
        tmp_path / "n.clips", clips, meta["ntu"]["labels"], slots, {"xsub": {"test": list(range(13))}}, num_class=60
    )
    data = feeder_skateformer.Feeder(str(path), "xsub", "test").batch(range(0, 13, 2), 0)["data"][:, :, :, ORDER]
    np.testing.assert_array_equal(data.numpy(), record["ntu/joint"])


@pytest.mark.parametrize("number", range(6))
def test_the_published_random_numbers_give_the_published_training_clips(record, meta, npz, number):
    item = meta["train"][number]
    feeder = feeder_skateformer.Feeder(npz, p_interval=[0.5, 1])
    clip = torch.tensor([item["clip"]])
    crop, branch, other, intra = script_of(item, meta["ntu"]["valid"][item["clip"]])
    same = [i for i, label in enumerate(meta["ntu"]["labels"]) if label == meta["ntu"]["labels"][item["clip"]]]
    place = (same.index(other) + 0.5) / len(same) if item["branch"] == "inter" else 0
    found = feeder.streams(clip, Script(*crop, [branch, place], *intra), ["joint"])
    np.testing.assert_array_equal(found["time"][0].numpy(), record[f"train/time/{number}"])
    data = found["joint"][0, :, :, ORDER].float().numpy()
    np.testing.assert_allclose(data, record["train/data"][number], rtol=0, atol=1e-6)  # products round by CPU
    assert (data == record["train/data"][number]).mean() > 0.999


def op(name="skateformer/op", frames=16):
    return torch.from_numpy(fill(name, (3, frames, 25, 2), "input").astype(np.float32))[None]


def drawn(meta, name, function):
    return [entry[2] for entry in meta["op"][name] if entry[0] == function]


def linear(shear=None, axis=0, degrees=0.0, scale=None):
    """The clip `op` after one linear step."""
    given = [shear is not None, degrees != 0, scale is not None]
    shear, scale = (torch.tensor(x or [0] * n, dtype=torch.float64)[None] for x, n in ((shear, 6), (scale, 3)))
    matrix = skate.linear_map(
        shear,
        torch.tensor([axis]),
        torch.tensor([degrees], dtype=torch.float64),
        1 + 0.2 * scale,
        torch.tensor([given]),
    )
    return skate.transform(op(), matrix)[0].float().numpy()


def test_linear_steps_are_the_published_ones(record, meta):
    np.testing.assert_array_equal(linear(shear=drawn(meta, "shear", "random.uniform")), record["op/shear"])
    scale = np.ravel(drawn(meta, "scale", "numpy.uniform")).tolist()
    np.testing.assert_array_equal(linear(scale=scale), record["op/scale"])
    for axis in range(3):
        (degrees,) = drawn(meta, f"rotate{axis}", "random.uniform")
        np.testing.assert_array_equal(linear(axis=axis, degrees=degrees), record[f"op/rotate{axis}"])


def test_zeroed_joints_and_mirrored_joints_are_the_published_ones(record, meta):
    joints, frames = drawn(meta, "drop_joint", "random.sample")
    chosen = (torch.isin(torch.arange(n), torch.tensor(x))[None] for n, x in ((25, joints), (64, frames)))
    joint, frame = chosen
    y = drop(op("skateformer/op64", 64), torch.tensor([[True]]), frame=frame, joint=joint)
    np.testing.assert_array_equal(y[0].numpy(), record["op/drop_joint"])
    mirrored = skate.mirror(op(), ntu_rgb_d.SKELETON.left, ntu_rgb_d.SKELETON.right, torch.tensor([True]))
    assert torch.equal(mirrored, op()[:, :, :, record["op/spatial_flip_order"].tolist()])


@pytest.mark.parametrize("absent", ["", "_absent_reference", "_absent_input"])
def test_bone_lengths_of_another_body_are_the_published_ones(record, absent):
    x, reference = op(), op("skateformer/ref")
    if absent:
        (reference if absent == "_absent_reference" else x)[..., 1] = 0
    y = skate.bone_lengths_of(x, reference, ntu_rgb_d.BONE_PARENTS_SKATEFORMER)
    np.testing.assert_allclose(y[0].numpy(), record[f"op/bone_length{absent}"], rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def raw(meta):
    """The recorded test clips of NW-UCLA, (1, C, T, V, 1) float64."""
    with np.load(GOLDEN / "ucla.npz") as file:
        clips = dict(
            zip(file["names"].tolist(), np.split(file["raw"], np.cumsum(file["raw_length"])[:-1]), strict=False)
        )
    return [torch.from_numpy(clips[name]).permute(2, 0, 1)[None, ..., None] for name in meta["ucla"]["names"]]


@pytest.mark.parametrize("modality", MODALITIES)
def test_test_clips_of_ucla_are_the_published_ones(record, raw, modality):
    for k, clip in enumerate(raw):
        frame = linspace_map(torch.tensor([clip.shape[2]]), 64)
        x = derive(choose_frames(min_max(clip), frame), modality, ucla.SKELETON.bone_parents)
        found = x[0, :, :, UCLA_ORDER].float().numpy()
        np.testing.assert_allclose(found, record[f"ucla/{modality}"][k], rtol=0, atol=1e-15)
        time = skate.times(frame, torch.tensor([clip.shape[2]]))
        np.testing.assert_array_equal(time[0].numpy(), record["ucla/time"][k])


@pytest.mark.parametrize("number", range(4))
def test_the_published_random_numbers_give_the_published_training_clips_of_ucla(record, meta, tmp_path, number):
    clip, item = record[f"ucla/train/raw/{number}"], meta["ucla"]["train"][number]["draws"]
    _, x, y, _, frames, coin_axis, *rest = (entry[2] for entry in item)
    axis = rest.pop(0) if coin_axis < 0.5 else 0
    coin, count, joints, kept, when = (*rest, 4, [], 16, [])[:5] if rest[0] >= 0.5 else rest
    path = write_store(tmp_path / "u.clips", [clip[None].astype(np.float32)], [0], [(0,)], {"xview": {"train": [0]}})
    feeder = feeder_skateformer_ucla.Feeder(str(path))
    pool = torch.tensor(frames) * COPIES
    numbers = [[x, y], pool, axis, coin_axis, ranks(joints, 20), count, ranks(when, 64), kept, coin]
    found = feeder.streams(torch.tensor([0]), Script(*numbers), ["joint"])
    data = found["joint"][0, :, :, UCLA_ORDER].float().numpy()
    np.testing.assert_allclose(data, record["ucla/train/data"][number], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found["time"][0].numpy(), record[f"ucla/train/time/{number}"])


def test_a_store_of_ucla_gives_the_published_clips_to_single_precision(record, raw, tmp_path):
    clips = [clip[..., 0].permute(0, 2, 3, 1).numpy() for clip in raw]
    path = write_store(tmp_path / "u.clips", clips, [0] * 6, [(0,)] * 6, {"xview": {"test": list(range(6))}})
    batch = feeder_skateformer_ucla.Feeder(str(path), part="test").batch(range(6), 0)
    np.testing.assert_allclose(batch["data"][:, :, :, UCLA_ORDER].numpy(), record["ucla/joint"], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(batch["time"].numpy(), record["ucla/time"])


def test_sampled_frames_lie_in_order_inside_of_the_clip():
    T = torch.tensor([64, 65, 100, 127, 128, 300])[:, None]
    frames = spread(T, torch.rand(6, 65), torch.rand(6, 64))
    assert (frames.diff(dim=1) > 0).all() and (frames >= 0).all() and (frames < T).all()
    assert torch.equal(frames[0], torch.arange(64))


def test_each_kind_of_augmentation_has_its_share_and_leaves_the_others_alone(tmp_path):
    clips, slots = random_clips([70] * 40, 25)
    path = write_store(tmp_path / "s.clips", clips, [i % 4 for i in range(40)], slots, {"xsub": {"train": range(40)}})

    def batch(**args):
        feeder = feeder_skateformer.Feeder(str(path), "xsub", p_interval=[0.5, 1], repeat=10, **args)
        return feeder.batch(range(400), 0)

    def changed(**args):
        return ((batch(**args)["data"] - plain["data"]).abs().flatten(1).max(1).values > 0).float().mean().item()

    plain = batch(intra_prob=0, inter_prob=0)
    assert changed(intra_prob=0, inter_prob=0.2) == pytest.approx(0.2, abs=0.08)
    for step in STEPS:
        assert changed(intra_prob=0.5, inter_prob=0, steps=[step]) == pytest.approx(0.25, abs=0.08), step
    assert torch.equal(batch()["time"], plain["time"])


def test_steps_for_clips_with_depth_are_refused_without(kinetics_store):
    with pytest.raises(ValueError, match="steps: expected clips with x, y and z for axis, .*, inter_prob, got"):
        feeder_skateformer.Feeder(str(kinetics_store), "all", "train")
    feeder = feeder_skateformer.Feeder(
        str(kinetics_store), "all", "train", inter_prob=0, steps=["swap", "mirror", "joints"], p_interval=[0.5, 1]
    )
    assert feeder.batch([0, 1, 2], 0)["data"].shape == (3, 3, 64, 18, 2)


def test_probabilities_that_exceed_one_together_are_refused(store):
    with pytest.raises(ValueError, match="inter_prob: expected at most 1 - intra_prob, got 0.6"):
        feeder_skateformer.Feeder(str(store), "xsub", inter_prob=0.6)
