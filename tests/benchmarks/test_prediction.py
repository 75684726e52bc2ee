"""The measurements of predictions run on a small network, and their page is up to date with the stored results."""

import json

import numpy as np
import pytest

from benchmarks import long_recordings, pages, prediction, prediction_results_page
from benchmarks.long_recordings import RATE, Windows, curves, join, noise_of
from benchmarks.prediction_results_page import make_page
from data.poses.recording import Facts, Recording
from tests.data.conftest import cli  # noqa: F401
from tests.torchlight.predict.conftest import save_stream, ucla_raw  # noqa: F401
from torchlight.predict import Recognizer
from torchlight.training import checkpoint

DRAW = np.random.default_rng(0)


@pytest.fixture
def network(ucla_raw, tmp_path, cli):  # noqa: F811
    """(checkpoint, raw files) of twelve synthetic clips."""
    assert cli("NW-UCLA", "--raw", ucla_raw, "--out", tmp_path / "u.clips") == 0
    arguments = {"data_path": str(tmp_path / "u.clips"), "split": "xview", "window_size": 8}
    options = {"feeder": "feeders.feeder_ucla.Feeder", "train_feeder_args": arguments, "test_feeder_args": arguments}
    path, _ = save_stream(tmp_path, "graph.ucla.Graph", 1, 20, **options)
    return path, ucla_raw


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Few options and frames, and a folder for results and page; returns it."""
    for name, value in {"WINDOWS": (1.0, 1.5), "THRESHOLDS": (0.1, 0.5), "SWITCH_COSTS": (0.05,)}.items():
        monkeypatch.setattr(long_recordings, name, value)
    monkeypatch.setattr(prediction, "FRAMES", 60)
    monkeypatch.setattr(prediction_results_page, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path


def run(network, *options):
    path, raw = network
    return prediction.main(["--weights", str(path), "--raw", str(raw), "--threads", "1", *options])


def test_the_page_is_up_to_date_with_the_results():
    page = (pages.DOCS / "prediction_results.md").read_text()
    assert page == make_page(), "run python -m benchmarks.prediction_results_page"


def test_every_part_is_measured_stored_printed_and_on_the_page(network, small, capsys):
    assert run(network) == 0
    found = json.loads((small / "results" / "joint.json").read_text())
    assert found["equality"]["clips"] == found["equality"]["equal"] == 4
    assert found["equality"]["difference"] < 1e-4 < found["equality"]["largest"]
    rows = {row["layout"]: row for row in found["layouts"]["rows"]}
    assert rows["kinect_v1_20"]["top1"] == found["equality"]["top1_test"]
    assert rows["kinect_v2_25"]["top1"] == rows["kinect_v1_20"]["top1"]
    assert [rows[name]["imputed"] for name in ("kinect_v2_25", "coco_17, without depth")] == [0, 8]
    assert "mediapipe_pose_33" in found["layouts"]["impossible"]
    assert len(found["segments"]["rows"]) == 4 and found["segments"]["performers"] == ["s01", "s02"]
    assert found["live"]["updates"] > 3 and list(found["live"]["memory_mb"]) == ["6", "30", "60"]
    printed, page = capsys.readouterr().out, (small / "prediction_results.md").read_text()
    for part, table in prediction_results_page.TABLES.items():
        assert table(found[part]) in printed and table(found[part]) in page, part


def test_a_part_that_is_measured_again_replaces_its_results_and_those_of_another_network_are_dropped(network, small):
    file = small / "own.json"
    assert run(network, "--parts", "live", "--out", str(file)) == 0
    assert run(network, "--parts", "equality", "--out", str(file)) == 0
    assert {"live", "equality"} < json.loads(file.read_text()).keys()
    content = checkpoint.load(network[0])
    checkpoint.save(network[0], content | {"epoch": 7})
    assert run(network, "--parts", "equality", "--out", str(file)) == 0
    found = json.loads(file.read_text())
    assert "live" not in found and found["network"]["epoch"] == 7
    assert not (small / "prediction_results.md").exists()


def test_a_raw_folder_without_the_files_is_a_one_line_error(network, small, capsys, tmp_path):
    assert run((network[0], tmp_path / "none"), "--parts", "equality") == 2
    assert "none/a01_s01_e00_v03.json" in capsys.readouterr().err


def test_clips_are_joined_without_a_jump_and_their_borders_are_known():
    x = [DRAW.normal(size=(T, 20, 3)).astype(np.float32) for T in (40, 25, 30)]
    long = join(list(zip([3, 1, 2], x, strict=True)), np.random.default_rng(1))
    assert [s.label for s in long.truth] == [3, 1, 2] and len(long.times) == len(long.frames)
    for segment, clip in zip(long.truth, x, strict=True):
        first, last = (round(t * RATE) for t in (segment.start, segment.end))
        moved = long.frames[first:last] - clip
        assert last - first == len(clip) and np.allclose(moved, moved[0, 0], atol=1e-5)
        assert abs(moved[0, 0, 1]) < 1e-6  # not off the floor
    for before, after in zip(long.truth, long.truth[1:], strict=False):
        assert 1 - 1e-9 <= after.start - before.end <= 2 + 1e-9
        end, begin = round(before.end * RATE) - 1, round(after.start * RATE)
        assert np.allclose(long.frames[end, 0, [0, 2]], long.frames[begin, 0, [0, 2]], atol=1e-5)


def test_the_noise_of_a_clip_is_that_of_its_joints_and_not_their_motion():
    motion = np.linspace(0, 3, 2000)[:, None, None] * np.ones((20, 3))
    assert noise_of(motion + 0.01 * DRAW.normal(size=motion.shape)) == pytest.approx(0.01, rel=0.15)
    assert not noise_of(motion[:2]).any()


def test_padded_windows_hold_zeros_up_to_the_whole_window(network, monkeypatch):
    recognizer, seen = Recognizer(network[0], device="cpu"), []
    predict = recognizer.predict_clips
    monkeypatch.setattr(recognizer, "predict_clips", lambda clips: seen.append(clips[0]) or predict(clips))
    x = DRAW.normal(size=(90, 20, 3)).cumsum(0).astype(np.float32)
    long = {"s01_v01": join([(0, x)], DRAW)}
    for windows, length, observed in (
        (Windows(2.0), 60, 60),
        (Windows(2, 0.25), 15, 15),
        (Windows(2, 0.25, True), 60, 15),
    ):
        found = curves(recognizer, long, windows)["s01_v01"]
        assert found.shape == (90, 10) and np.isfinite(found).all()
        for clip in seen.pop():
            assert clip.prepared.frames.shape[1] == length and clip.prepared.frames[0].any((1, 2)).sum() == observed


def test_the_path_of_a_body_is_removed_and_restored_from_a_picture():
    pose = DRAW.normal(size=(20, 3)) * 0.3
    path = np.stack([np.linspace(-0.5, 0.5, 60), np.zeros(60), np.full(60, 3.0)], 1)
    facts = Facts("benchmark", prediction.BODY, axes="kinect", units="m", rate=RATE)
    x = (pose + path[:, None]).astype(np.float32)
    recording = Recording(x[None], None, ("1",), np.arange(60), facts)
    assert np.ptp(prediction.root_relative(recording).points, axis=1).max() < 1e-5
    moved = -prediction.restored_path(recording).points[0, :, 0]  # x to the left, y up
    assert moved.shape == (60, 3) and np.ptp(moved[:, 0]) == pytest.approx(1, abs=0.15) and np.ptp(moved[:, 1]) < 0.1
    flat = prediction.without_depth(recording)
    assert np.array_equal(flat.points, -x[None, ..., :2]) and flat.facts.axes == "image" and facts.axes == "kinect"
