"""Recordings as clips: their times, frame rates, persons and missing joints, and several recordings in one file."""

import json
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from data.custom.prepare import read_clips
from data.poses.read import read
from data.recipes import Recipe
from feeders.feeder_pyskl import Feeder
from graph.skeleton import find_skeleton
from tests.data import pose_files
from torchlight.predict.clips import Settings, clips_of_file, recording_name, recording_of_array, shown_recording
from torchlight.predict.output import file_names
from torchlight.predict.prediction import Prediction
from torchlight.predict.robustness import DegradedClips
from torchlight.predict.stream import Stream, persons_of_array

T, V = 60, 17
RANDOM = np.random.default_rng(0)
WALK = (RANDOM.uniform(1, 2, (V, 3)) + np.linspace(0, 1, T)[:, None, None]).astype(np.float32)  # (T, V, 3)


@pytest.fixture
def body(tmp_path):
    """A skeleton file of 17 joints without a layout."""
    joints = [f"j{i}" for i in range(V)]
    path = tmp_path / "own.yaml"
    path.write_text(f"joints: {joints}\nbones: {[[joint, 'j0'] for joint in joints[1:]]}\n")
    return find_skeleton(path)


def recipe_of(skeleton, **facts) -> Recipe:
    return Recipe(skeleton, {"recipe": "plain", "channels": 3, "num_person": 1, "missing": "interpolate"} | facts)


def predicted(path, recipe, **settings):
    return clips_of_file(path, recipe, Settings(**settings), None)


def test_arrays_of_the_clips_keep_their_frame_rate_with_and_without_a_gap(body, tmp_path):
    recipe, gap = recipe_of(body, rate=30.0), WALK.copy()
    gap[5, 3] = np.nan
    for name, data in (("whole", WALK), ("gap", gap)):
        np.savez(tmp_path / f"{name}.npz", keypoint=data, rate=60.0)
        (clip,) = read_clips(recipe, {name: 0}, tmp_path / f"{name}.npz")
        (found,) = predicted(tmp_path / f"{name}.npz", recipe)
        assert clip.tracks.shape[1] == found.prepared.frames.shape[1] == T and (found.begin, found.end) == (0, 1)
        windows = predicted(tmp_path / f"{name}.npz", recipe, window=0.5, stride=0.5)
        assert [clip.prepared.frames.shape[1] for clip in windows] == [30, 30]
    (stated,) = predicted(tmp_path / "whole.npz", recipe, rate=60.0)
    assert stated.prepared.frames.shape[1] == T // 2


def test_an_absent_person_of_a_padded_array_with_gaps_does_not_move_to_the_origin(body, tmp_path):
    data = np.stack([WALK, WALK])
    data[1, 10:13], data[1, 13:] = np.nan, 0
    np.savez(tmp_path / "a.npz", keypoint=data)
    (clip,) = read_clips(recipe_of(body, num_person=2), {"a": 0}, tmp_path / "a.npz")
    assert (clip.tracks[1, :10] > 1).all() and not clip.tracks[1, 13:].any()


def test_a_suffix_in_capital_letters_is_read(body, tmp_path):
    np.savez(tmp_path / "a.npz", keypoint=1000 * WALK)
    shutil.copy(tmp_path / "a.npz", tmp_path / "B.NPZ")
    recipe = recipe_of(find_skeleton("kinect_v2_25"))
    np.savez(tmp_path / "c.npz", keypoint=1000 * RANDOM.random((T, 25, 3)), rate=30.0)
    shutil.copy(tmp_path / "c.npz", tmp_path / "D.NPZ")
    one, other = (predicted(tmp_path / name, recipe)[0].prepared.frames for name in ("c.npz", "D.NPZ"))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("mirror", [False, True])
def test_joints_at_zero_stay_there_in_files_arrays_and_streams_of_custom_clips(body, tmp_path, mirror):
    data, recipe = WALK.copy(), recipe_of(body)
    data[20:, 2] = 0
    np.save(tmp_path / "a.npy", data)
    (found,) = predicted(tmp_path / "a.npy", recipe, mirror=mirror)
    assert not found.prepared.frames[0, 20:, 2].any() and found.prepared.frames[0, :20, 2].all()
    recording = recording_of_array(data, recipe, Settings())
    assert not np.isnan(recording.points).any()
    assert np.isnan(
        recording_of_array(data, recipe_of(find_skeleton("graph.coco"), recipe="x"), Settings()).points
    ).any()
    (person,) = persons_of_array(np.stack([data[30], 0 * data[30]]), False, keeps_zeros=True)
    assert not np.isnan(person.points).any()


def test_the_person_who_moves_most_is_predicted_if_there_are_more_than_slots(body, tmp_path):
    still = np.broadcast_to(WALK[:1], WALK.shape)
    np.savez(tmp_path / "a.npz", keypoint=np.stack([still, WALK]))
    for settings in ({}, {"window": 1.0, "persons": "scene"}):
        found = predicted(tmp_path / "a.npz", recipe_of(body), **settings)[0].prepared.frames
        assert np.array_equal(found[0, :30], WALK[:30])


def alphapose(path, first: int) -> None:
    rows = [
        {"image_id": f"{t}.jpg", "category_id": 1, "score": 2.0, "box": [0, 0, 9, 9], "idx": 1}
        | {"keypoints": np.c_[100 + 50 * WALK[t - first, :, :2], np.ones(V)].ravel().tolist()}
        for t in range(first, first + T)
    ]
    path.write_text(json.dumps(rows))


def table(path, first: int, column: str = "frame") -> None:
    head = ",".join([column, *(f"j{i}_{axis}" for i in range(V) for axis in "xyz")])
    rows = [",".join(map(str, [first + t, *WALK[t].ravel()])) for t in range(T)]
    path.write_text("\n".join([head, *rows]))


@pytest.mark.parametrize(("first", "begin"), [(0, 0), (1, 0), (90, 3)])
def test_times_count_from_the_first_frame_of_the_video_not_from_the_first_person(first, begin, body, tmp_path):
    table(tmp_path / "t.csv", first)
    recipe = recipe_of(body, channels=4, score=True)
    found = predicted(tmp_path / "t.csv", recipe, window=1.0, stride=1.0, rate=30.0)
    assert [clip.begin for clip in found] == [begin, begin + 1] and found[-1].end == begin + 2
    if first != 1:
        alphapose(tmp_path / "a.json", first)
        coco = recipe_of(find_skeleton("graph.coco"), rate=30.0)
        assert predicted(tmp_path / "a.json", coco, window=1.0)[0].begin == begin


@pytest.mark.parametrize(
    ("numbers", "message"),
    [([0, 1, 1], "one row for each frame, got 2 for frame 1"), ([0, 0.5, 1], "whole frame numbers")],
)
def test_frame_numbers_of_a_table_are_whole_and_different(numbers, message, tmp_path):
    rows = [f"{number},{i},{i}" for i, number in enumerate(numbers)]
    (tmp_path / "t.csv").write_text("\n".join(["frame,nose_x,nose_y", *rows]))
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize("rate", ["0", "nan", "-30"])
def test_a_frame_rate_of_a_file_that_is_no_positive_number_counts_as_not_stated(rate, body, tmp_path):
    joints = "\t\t\t".join(body.joints)
    head = ["PathFileType\t4\t(X/Y/Z)\tt.trc", "DataRate\tUnits", f"{rate}\tm", f"Frame#\tTime\t{joints}\t\t", "\tX1"]
    rows = ["\t".join(map(str, [t + 1, 0.0, *WALK[t].ravel()])) for t in range(T)]
    (tmp_path / "t.trc").write_text("\n".join([*head, *rows]))
    found = predicted(tmp_path / "t.trc", recipe_of(body), window=1.0)[0]
    assert (found.begin, found.end) == (0, 1)
    assert any("no frame rate: 30 frames per second are assumed" in note for note in found.notes)


@pytest.mark.parametrize("rate", [0.0, np.nan, -30.0])
def test_a_frame_rate_of_an_array_that_is_no_positive_number_counts_as_not_stated(rate, body, tmp_path):
    np.savez(tmp_path / "a.npz", keypoint=WALK, rate=rate)
    (found,) = predicted(tmp_path / "a.npz", recipe_of(body, rate=15.0))
    assert found.end == 4
    np.savez(tmp_path / "b.npz", keypoint=WALK, rate=[30.0, 30.0])
    with pytest.raises(ValueError, match="b.npz: rate: expected frames per second, got"):
        predicted(tmp_path / "b.npz", recipe_of(body, rate=15.0))


def test_a_drawn_recording_begins_with_the_frames_before_the_first_person(tmp_path):
    alphapose(tmp_path / "a.json", 90)
    recipe = recipe_of(find_skeleton("graph.coco"), rate=30.0)
    shown = shown_recording(tmp_path / "a.json", recipe, Settings())
    assert shown.points.shape[1] == 90 + T and shown.seen[0].tolist() == [False] * 90 + [True] * T


def test_the_image_size_of_the_training_data_is_assumed_with_a_note_and_in_streams(tmp_path):
    alphapose(tmp_path / "a.json", 0)
    recipe = recipe_of(find_skeleton("graph.coco"), recipe=None, rate=30.0, image_size=[640, 480])
    found = predicted(tmp_path / "a.json", recipe)[0]
    assert found.prepared.image == (480, 640)
    assert "the file has no image size: 640 x 480 as in training is assumed" in found.notes
    stream, made = stream_of(recipe)
    for t in range(60):
        stream.push(t / 30, 100 + WALK[t])
    assert {clip.prepared.image for clip in made} == {(480, 640)}


def test_the_name_of_a_recording_may_be_longer_than_that_of_a_file():
    assert recording_name(f"x.pkl#{'a' * 300}") == "a" * 300


@pytest.mark.parametrize("least", [0.0, 0.9])
def test_windows_of_deeplabcut_tables_use_the_likelihood_of_the_training(least, tmp_path):
    (tmp_path / "b.yaml").write_text("joints: [nose, hip, tail]\nbones: [[nose, hip], [tail, hip]]\n")
    head = ["scorer", *["net"] * 9], ["bodyparts", *np.repeat(["nose", "hip", "tail"], 3)]
    rows = [[t, *[x for v, p in enumerate((1, 0.4, 0.8)) for x in (10 * v + t, t, p)]] for t in range(T)]
    cells = [*head, ["coords", *["x", "y", "likelihood"] * 3], *rows]
    (tmp_path / "t.csv").write_text("\n".join(",".join(map(str, row)) for row in cells))
    facts = {"recipe": "stgcn", "missing": "zero", "image_size": [100, 100], "min_likelihood": least}
    recipe = recipe_of(find_skeleton(tmp_path / "b.yaml"), **facts)
    (whole,), (window,) = predicted(tmp_path / "t.csv", recipe), predicted(tmp_path / "t.csv", recipe, window=2.0)
    assert np.array_equal(whole.prepared.frames, window.prepared.frames)
    assert whole.prepared.frames[0, 5].any(-1).tolist() == [True, least == 0, least == 0]


@pytest.mark.parametrize("settings", [{}, {"window": 0.3}])
def test_recordings_of_a_file_that_cannot_be_used_are_named_and_the_others_predicted(settings, tmp_path):
    path = pose_files.pyskl(tmp_path / "clips")
    recipe = recipe_of(find_skeleton("graph.coco"), recipe=None)
    failed: dict[str, str] = {}
    found = clips_of_file(path, recipe, Settings(**settings), None, failed)
    assert {clip.source for clip in found} == {f"{path}#one", f"{path}#two"} and list(failed) == [f"{path}#nobody"]
    assert failed[f"{path}#nobody"].startswith(f"{path}#nobody: expected at least one person")
    with pytest.raises(ValueError, match="#nobody: expected at least one person"):
        clips_of_file(path, recipe, Settings(**settings), None)
    only = [entry for entry in pickle.loads(path.read_bytes())["annotations"] if entry["frame_dir"] == "nobody"]
    path.write_bytes(pickle.dumps({"annotations": only}))
    with pytest.raises(ValueError, match="expected at least one person"):
        clips_of_file(path, recipe, Settings(**settings), None, {})


def test_names_may_contain_number_signs_and_names_of_folders_dots(tmp_path):
    (tmp_path / "take #1.json").touch()
    (tmp_path / "P01.cam1").mkdir()
    (tmp_path / "P01.cam2").mkdir()
    sources = [
        f"{tmp_path}/take #1.json",
        f"{tmp_path}/take #1.json#a#b",
        f"{tmp_path}/P01.cam1",
        f"{tmp_path}/P01.cam2",
    ]
    assert [recording_name(source) for source in sources] == ["take #1", "a#b", "P01.cam1", "P01.cam2"]
    names = [file.name for file in file_names(tmp_path / "o.csv", sources)]
    assert names == ["o-take_1.csv", "o-take_1-a_b.csv", "o-P01.cam1.csv", "o-P01.cam2.csv"]


def test_degraded_clips_have_the_joints_of_the_data_if_the_feeder_adds_some():
    data = np.concatenate([RANDOM.uniform(100, 500, (1, T, V, 2)), np.ones((1, T, V, 1))], -1).astype(np.float32)
    facts = {"skeleton": "graph.coco", "num_class": 2, "num_person": 1, "channels": 3}
    arguments = {"part": "test", "pre_normalize": "2d", "window_size": 16, "align_spine": False, "middle_joints": True}
    feeder = Feeder.from_clips([data], facts, [(720, 1280)], **arguments)
    feeder.label = np.zeros(1, int)
    for curve, level in (("stretches", 30), ("noise", 2), ("rate", 2)):
        assert DegradedClips(feeder, arguments, curve, level).batch([0], 0)["data"].shape[-2] == 20


def stream_of(recipe: Recipe, persons: str = "each") -> tuple[Stream, list]:
    """A stream with a network that always predicts the first class, and the clips that it gets."""
    made: list = []

    def predict(clips):
        made.extend(clips[0])
        p = np.array([1.0, 0.0])
        return [Prediction(c.source, c.person, c.begin, c.end, p, p, ["a", "b"], 1.0, 0, (), None) for c in clips[0]]

    network = SimpleNamespace(recipe=recipe, repeated_to=None)
    return Stream([network], predict, settings=Settings(window=1.0, persons=persons)), made


def test_the_assumed_image_size_of_a_stream_does_not_become_smaller():
    stream, made = stream_of(recipe_of(find_skeleton("graph.coco"), recipe=None, rate=30.0))
    for t in range(120):
        x = 700 + 1100 * np.sin(np.pi * t / 119)  # to the right and back
        stream.push(t / 30, (x, 300, 0) + RANDOM.random((V, 3)).astype(np.float32))
    sizes = [clip.prepared.image for clip in made]
    assert sizes == sorted(sizes) and len(set(sizes)) > 1
    assert len(stream.facts.guessed) == len(set(sizes))


def test_the_label_of_a_scene_ends_when_all_persons_have_left(body):
    stream, _ = stream_of(recipe_of(body, rate=30.0), "scene")
    updates = [update for t in range(60) for update in stream.push(t / 30, WALK[t])]
    assert updates[-1] == updates[-1] | {"track": "", "state": "label", "label": "a"}
    assert stream.push(4.0, np.zeros((0, V, 3))) == [{"track": "1", "state": "lost"}, {"track": "", "state": "lost"}]
    assert not stream.states
