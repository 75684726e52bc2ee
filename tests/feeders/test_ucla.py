from pathlib import Path

import numpy as np
import pytest
import torch

from feeders.feeder_ucla import Feeder, rotate_xy
from feeders.modality import derive
from feeders.transforms import choose_frames, linspace_map, min_max
from graph.ucla import SKELETON
from tests.feeders.synthetic import write_store

MODALITIES = {
    "joint": "joint",
    "bone": "bone",
    "joint_motion": "motion",
    "bone_motion": "bone_motion",
}  # word: key of the records


@pytest.fixture(scope="module")
def record():
    with np.load(Path(__file__).parent / "golden" / "ucla.npz") as file:
        return dict(file)


@pytest.fixture
def raw(record):
    """The recorded clips as (1, C, T, V, 1) float64: the tested ones, then those of training."""
    clips = np.split(record["raw"], np.cumsum(record["raw_length"])[:-1])
    return [torch.from_numpy(clip).permute(2, 0, 1)[None, ..., None] for clip in clips]


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_clip_in_double_precision_gives_the_published_numbers(record, raw, modality):
    for clip, expected in zip(raw, record[MODALITIES[modality]], strict=False):
        x = choose_frames(min_max(clip), linspace_map(torch.tensor([clip.shape[2]]), 52))
        found = derive(x, modality, SKELETON.bone_parents)[0].float().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


def test_the_published_rotation_and_frames_give_the_published_training_clips(record, raw):
    for i, expected in enumerate(record["train"]):
        x = rotate_xy(raw[len(record["names"]) + i], torch.from_numpy(record["train_degrees"][i : i + 1]))
        x = choose_frames(min_max(x), torch.from_numpy(record["train_frames"][i : i + 1]))
        np.testing.assert_array_equal(x[0].float().numpy(), expected)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_store_gives_the_published_numbers_to_single_precision(record, raw, tmp_path, modality):
    clips = [clip[..., 0].permute(0, 2, 3, 1).numpy() for clip in raw[:12]]
    path = write_store(tmp_path / "u.clips", clips, [0] * 12, [(0,)] * 12, {"xview": {"test": list(range(12))}})
    found = Feeder(str(path), part="test", modality=modality).batch(range(12), 0)["data"].numpy()
    np.testing.assert_allclose(found, record[MODALITIES[modality]], rtol=0, atol=2e-6)


def test_an_axis_without_extent_gives_zeros_instead_of_nan(tmp_path):
    clip = np.random.default_rng(0).normal(size=(1, 9, 20, 3)).astype(np.float32)
    clip[..., 2] = 1.5
    path = write_store(tmp_path / "still.clips", [clip], [0], [(0,)], {"xview": {"test": [0]}})
    data = Feeder(str(path), part="test")[0]["data"]
    assert torch.isfinite(data).all() and (data[2] == 0).all() and data[0].max() == 1 and data[0].min() == -1


def test_training_scales_by_the_extent_of_the_whole_clip(ucla_store):
    feeder = Feeder(str(ucla_store), repeat=20, seed=3)
    data = feeder.batch(range(len(feeder)), 0)["data"]
    assert data.abs().max() <= 1 and data.shape[1:] == feeder.shape == (3, 52, 20, 1)
    short = data[feeder.batch(range(len(feeder)), 0)["index"] == 1]  # 20 frames, nearly all of them drawn
    assert short.amax((1, 2, 3, 4)).min() > 0.99


def test_a_window_longer_than_the_sampled_range_of_the_shortest_clip_is_refused(ucla_store):
    with pytest.raises(
        ValueError, match="window_size: expected at most 100 frames, 100 times the shortest clip, got 101"
    ):
        Feeder(str(ucla_store), window_size=101)


def test_axes_and_joints_are_dropped_in_half_of_the_training_clips(ucla_store):
    args = {"repeat": 300, "window_size": 64, "seed": 1}
    whole, axis, joint = (
        Feeder(str(ucla_store), **args, **more) for more in ({}, {"drop_axis": True}, {"drop_joint": True})
    )
    numbers = range(len(whole))
    x, without_axis, without_joint = (feeder.batch(numbers, 0)["data"] for feeder in (whole, axis, joint))
    gone = (without_axis == 0).flatten(2).all(2)  # (N, C)
    assert torch.equal(without_axis, x.masked_fill(gone[:, :, None, None, None], 0))
    assert gone.sum(1).max() == 1 and gone.any(1).double().mean().item() == pytest.approx(0.5, abs=0.05)
    gone = (without_joint == 0).all(1)[..., 0]  # (N, T, V)
    frames, joints = gone.any(2), gone.any(1)
    assert torch.equal(gone, frames[:, :, None] & joints[:, None])
    assert torch.equal(without_joint, x.masked_fill(gone[:, None, ..., None], 0))
    dropped = gone.flatten(1).any(1)
    assert dropped.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert sorted(set(joints.sum(1)[dropped].tolist())) == list(range(4, 13))
    assert sorted(set(frames.sum(1)[dropped].tolist())) == list(range(16, 33))


def test_nothing_is_dropped_in_testing(ucla_store):
    args = {"part": "test", "window_size": 64}
    dropping = Feeder(str(ucla_store), drop_axis=True, drop_joint=True, **args)
    assert torch.equal(dropping.batch([0, 1], 0)["data"], Feeder(str(ucla_store), **args).batch([0, 1], 0)["data"])


def test_an_absent_person_stays_at_zero_and_does_not_change_the_scale_of_the_others():
    x = torch.rand(2, 3, 8, 20, 2) + 1
    x[0, ..., 1] = 0
    found = min_max(x)
    assert torch.equal(found[:1, ..., :1], min_max(x[:1, ..., :1])) and not found[0, ..., 1].any()
    assert found[1].amax() == 1 and found[1].amin() == -1 and not min_max(torch.zeros(1, 3, 8, 20, 1)).any()
