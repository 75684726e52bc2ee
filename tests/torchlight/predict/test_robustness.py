"""Degraded clips and the accuracy on them."""

import csv

import numpy as np
import pytest
import torch
import yaml

from data.recipes import Recipe
from feeders.feeder_ucla import Feeder
from graph.kinetics import SKELETON as KINETICS
from graph.ucla import SKELETON as UCLA
from tests.torchlight import tiny
from torchlight.commands import robustness as phase
from torchlight.config.options import Config
from torchlight.predict import robustness

BODY = Recipe(UCLA, {"recipe": "ctrgcn", "channels": 3})


def walk(T=40, M=2, V=20, C=3):
    """Smooth motion (M, T, V, C) of two persons, the second absent in the last ten frames."""
    draw = np.random.default_rng(0)
    pose = draw.normal(size=(M, 1, V, C))
    clip = (pose + np.linspace(0, 1, T)[None, :, None, None]).astype(np.float32)
    clip[1:, 30:] = 0
    return clip


def change(name, level, clip=None, recipe=BODY, seed=0):
    return robustness.CURVES[name].change(walk() if clip is None else clip, level, np.random.default_rng(seed), recipe)


@pytest.mark.parametrize("name", robustness.CURVES)
def test_the_first_level_changes_nothing_and_others_are_the_same_in_every_call(name):
    levels = robustness.CURVES[name].levels
    np.testing.assert_array_equal(change(name, levels[0]), walk() if name != "observed" else walk()[:, :40])
    np.testing.assert_array_equal(change(name, levels[-1]), change(name, levels[-1]))
    if name not in ("rate", "observed"):
        assert (change(name, levels[-1]) != change(name, levels[-1], seed=1)).any()


@pytest.mark.parametrize("name", robustness.CURVES)
def test_absent_persons_stay_absent_and_every_number_is_finite(name):
    found = change(name, robustness.CURVES[name].levels[-1])
    assert np.isfinite(found).all() and found.dtype == np.float32
    if name != "observed":
        assert not found[1, 30:].any() and found[1, :30].any((1, 2)).all()


def test_a_short_gap_is_interpolated_and_a_lost_joint_lies_on_its_parent():
    clip = walk()
    np.testing.assert_allclose(change("stretches", 10), clip, atol=1e-5)  # 4 frames of linear motion
    assert np.abs(change("stretches", 70) - clip).max() > 0.1
    moved = (np.abs(change("joints", 3) - clip) > 1e-6).any((0, 1, 3))
    assert 1 <= moved.sum() <= 3
    for joint in np.flatnonzero(moved):
        parents, found = UCLA.parents[joint], change("joints", 3)
        assert joint == parents or np.allclose(found[0, :, joint], found[0, :, parents])


def test_noise_has_the_stated_size():
    clip, found = walk(M=1), change("noise", 4, walk(M=1))
    size = np.median(np.ptp(clip[0], axis=1).max(1))
    assert (found - clip).std() == pytest.approx(0.04 * size, rel=0.05)


def test_a_lower_rate_keeps_every_nth_frame_and_the_length():
    clip = np.random.default_rng(0).normal(size=(1, 11, 20, 3)).astype(np.float32)
    found = change("rate", 4, clip)
    assert found.shape == clip.shape
    np.testing.assert_allclose(found[:, [0, 4, 8]], clip[:, [0, 4, 8]])
    np.testing.assert_allclose(found[:, 2], (clip[:, 0] + clip[:, 4]) / 2, rtol=1e-5)
    np.testing.assert_allclose(found[:, 9:], clip[:, [8, 8]])


@pytest.mark.parametrize("level", [30, 50, 70])
def test_the_stated_share_of_the_joints_is_missing(level):
    clip = np.random.default_rng(0).normal(size=(1, 200, 20, 3)).astype(np.float32)
    changed = (change("stretches", level, clip) != clip).any(3).mean()
    assert changed == pytest.approx(level / 100, abs=0.04)  # one joint of a frame is always kept


@pytest.mark.parametrize("curve", robustness.CURVES)
def test_frames_that_fill_up_a_window_are_not_degraded(curve):
    level = robustness.CURVES[curve].levels[-1]
    degraded = robustness.DegradedClips.__new__(robustness.DegradedClips)
    degraded.change, degraded.level, degraded.recipe = robustness.CURVES[curve].change, level, BODY
    clip, padding = walk(M=1), np.zeros((1, 60, 20, 3), np.float32)
    whole = degraded.degrade(np.concatenate([clip, padding], 1), np.random.default_rng(0))
    expected = change(curve, level, clip)
    np.testing.assert_array_equal(whole[:, : expected.shape[1]], expected)
    assert whole.shape[1] == (4 if curve == "observed" else 100) and not whole[:, 40:].any()


def test_scores_of_flat_poses_become_zero_and_are_not_moved():
    recipe = Recipe(KINETICS, {"recipe": "stgcn", "channels": 3})
    clip = np.random.default_rng(0).uniform(0.1, 1, (1, 10, 18, 3)).astype(np.float32)
    noisy, lost = change("noise", 8, clip, recipe), change("joints", 4, clip, recipe)
    assert (noisy[..., :2] != clip[..., :2]).all() and (noisy[..., 2] == clip[..., 2]).all()
    assert ((lost == 0).all((0, 1, 3))).sum() == 4


def test_clips_stay_in_main_memory_because_worker_processes_cannot_use_a_gpu(monkeypatch):
    def opened(config, parts):
        raise InterruptedError(config.data_on_device)

    monkeypatch.setattr(phase, "open_experiment", opened)
    with pytest.raises(InterruptedError, match="False"):
        phase.measure(Config(weights="x.pt"))


@pytest.mark.parametrize("name", robustness.CURVES)
def test_clips_at_the_first_level_are_those_of_the_test(store, name):
    arguments = {"part": "test", "window_size": 8}
    feeder = Feeder(data_path=str(store), **arguments)
    degraded = robustness.DegradedClips(feeder, arguments, name, robustness.CURVES[name].levels[0])
    found, expected = (one.batch([5, 0, 7], 0) for one in (degraded, feeder))
    assert expected.keys() == found.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_phase_writes_a_table_whose_whole_clips_are_those_of_the_test(tmp_path, experiment, trained, main):
    argv = ("--config", experiment(), "--weights", trained / "last.pt", "--work-dir", tmp_path)
    code, out, _ = main(*argv, "--phase", "robustness", "--curves", "noise", "observed")
    assert code == 0 and "robustness.png" in out and (tmp_path / "robustness.png").stat().st_size > 1000
    rows = list(csv.DictReader((tmp_path / "robustness.csv").open()))
    assert [row["curve"] for row in rows] == ["noise"] * 6 + ["observed"] * 6
    tested = float(main(*argv, "--phase", "test")[1].partition("test top-1 ")[2].split(" %")[0])
    assert {float(row["top1"]) for row in rows if row["level"] in ("0", "100")} == {tested}
    assert float(rows[5]["top1"]) != tested or float(rows[-1]["top1"]) != tested


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--curves", "nois"], "curves: unknown curve nois; did you mean noise"),
        (["--weights", ""], "weights: missing; --phase robustness needs the file to test"),
    ],
)
def test_mistakes_are_refused(tmp_path, experiment, trained, main, words, message):
    argv = ("--config", experiment(), "--weights", trained / "last.pt", "--work-dir", tmp_path / "run")
    code, _, error = main(*argv, "--phase", "robustness", *words)
    assert code == 2 and message in error and not (tmp_path / "run").exists()


def test_a_feeder_without_raw_clips_is_refused(tmp_path, trained, main):
    draw = np.random.default_rng(0)
    arrays = {"test_data": draw.normal(size=(4, 3, 8, 20, 1)).astype(np.float32), "train_label": np.array([4])}
    np.savez(tmp_path / "clips.npz", **arrays, test_label=np.arange(4))
    options = tiny.options(tmp_path) | {"feeder": "tests.torchlight.own_classes.ArrayFeeder"}
    options |= {"train_feeder_args": {}, "test_feeder_args": {"data_path": str(tmp_path / "clips.npz")}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(options))
    argv = ("--config", tmp_path / "own.yaml", "--weights", trained / "last.pt", "--work-dir", tmp_path / "run")
    code, _, error = main(*argv, "--phase", "robustness")
    assert code == 2 and "feeder: expected raw_clip, from_clips and a skeleton, got tests.torchlight" in error
