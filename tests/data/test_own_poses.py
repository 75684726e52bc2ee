"""Pose files of other programs become clips of a body layout or of a custom skeleton."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from data.custom import prepare
from data.poses.read import read
from data.poses.recording import Facts, Recording
from data.raw_files import clip_name, file_state, find_files
from data.recipes import Recipe
from feeders.clip_store import ClipStore
from feeders.feeder_kinetics import Feeder as Kinetics
from feeders.feeder_ntu import Feeder
from feeders.feeder_pyskl import Feeder as Pyskl
from feeders.feeder_skateformer import Feeder as Skateformer
from graph.custom import Graph
from graph.layouts import find_layout
from graph.skeleton import find_skeleton, skeleton_name
from tests.data import pose_files
from tests.data.pose_files import FRAMES, people


@pytest.fixture
def make(tmp_path, cli):
    """(options) -> the store of `tmp_path/raw`."""

    def run(skeleton, *options) -> ClipStore:
        out = tmp_path / "s.clips"
        arguments = ("--raw", tmp_path / "raw", "--skeleton", skeleton, "--out", out, "--overwrite", *options)
        assert cli("custom", *arguments) == 0
        return ClipStore(out)

    return run


def write_classes(raw, form: str, suffix: str = "") -> None:
    """Two clips of each of two classes, in folders."""
    for i, name in enumerate(("run/a", "run/b", "eat/c", "eat/d")):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        pose_files.FORMS[form](raw / (name + suffix), *([] if form == "pyskl" else [i]))


def clip(store: ClipStore, name: str) -> np.ndarray:
    """(M, T, V, C)"""
    return store.clip(store.name.tolist().index(name)).transpose(3, 1, 2, 0)


def left_out(tmp_path) -> dict[str, str]:
    report = json.loads((tmp_path / "s.clips.report.json").read_text())["left out"]
    return {entry["file"]: entry["reason"] for entry in report}


@pytest.mark.parametrize("form", pose_files.FORMS)
@pytest.mark.parametrize("skeleton", ["kinect_v2_25", "coco_17"])
def test_every_form_becomes_clips_that_pass_the_checks(form, skeleton, tmp_path, make):
    write_classes(tmp_path / "raw", form)
    store = make(skeleton, "--recipe", "plain", "--check")
    names = [f"{name}#{part}" for name in "abcd" for part in ("one", "two")] if form == "pyskl" else list("abcd")
    assert store.name.tolist() == names and store.manifest["class_names"] == ["eat", "run"]
    assert store.manifest["skeleton"] == {"kinect_v2_25": "graph.ntu_rgb_d", "coco_17": "graph.coco"}[skeleton]
    assert store.manifest["rate"] == 30 and store.manifest["up"] == ("y" if skeleton == "kinect_v2_25" else "-y")
    assert set(store.length) == {27 if form == "mediapipe" else FRAMES} and store.frames.shape[1:] in ((25, 3), (17, 3))


def test_the_person_who_moves_most_fills_the_only_slot_and_the_score_is_the_third_channel(tmp_path, make):
    write_classes(tmp_path / "raw", "coco")
    found = clip(make("coco_17", "--recipe", "plain"), "b")
    assert np.allclose(found[0, ..., :2], people(17, 1)[1], atol=1e-3) and (found[..., 2] == 0.5).all()
    centered = clip(make("coco_17"), "b")
    assert np.allclose(centered[..., :2], found[..., :2] - found[0, 0, 0, :2], atol=1e-3)
    assert np.array_equal(centered[..., 2], found[..., 2])
    both = clip(make("coco_17", "--persons", 2, "--channels", 2, "--recipe", "plain"), "b")
    assert both.shape == (2, FRAMES, 17, 2)
    assert np.allclose(sorted(both[:, 0, 0, 0]), sorted(people(17, 1)[:, 0, 0, 0]), atol=1e-3)


def test_a_short_gap_of_a_joint_is_interpolated(tmp_path, make):
    write_classes(tmp_path / "raw", "table")
    found, whole = clip(make("coco_17", "--recipe", "plain"), "a")[0], people(17, 0)[1]
    assert np.allclose(found[5, 1, :2], (whole[4, 1] + whole[6, 1]) / 2, atol=1e-3)
    assert np.allclose(np.delete(found[..., :2], 5, 0), np.delete(whole, 5, 0), atol=1e-3)


def test_recordings_are_resampled_to_the_frame_rate_and_arrays_of_the_body_are_not(tmp_path, make):
    write_classes(tmp_path / "raw", "mediapipe")
    np.savez(tmp_path / "raw/eat/own.npz", keypoint=people(25, 3, 3), rate=np.array(15.0))
    store = make("ntu", "--persons", 2, "--recipe", "plain")
    assert store.length[store.name == "a"] == 2 * FRAMES - 1
    assert np.array_equal(clip(store, "own"), people(25, 3, 3))
    assert set(make("ntu", "--persons", 2, "--frame-rate", 7.5).length) == {FRAMES, (FRAMES + 1) // 2}


def test_recordings_of_one_file_are_named_labeled_and_omitted_separately(tmp_path, make):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in "xyz":
        pose_files.pyskl(raw / name)
    rows = "x,walk,train\ny#one,sit,test\nz,walk,test\nz#one,sit,test\n"
    (raw / "labels.csv").write_text(f"name,label,split\n{rows}")
    store = make("coco")
    assert store.name.tolist() == ["x#one", "x#two", "y#one", "z#one", "z#two"]
    assert [store.manifest["class_names"][i] for i in store.label] == ["walk", "walk", "sit", "sit", "walk"]
    assert store.name[store.part("own", "train")].tolist() == ["x#one", "x#two"]
    reasons = left_out(tmp_path)
    assert reasons["y.pkl#two"] == "not in labels.csv" and "at least one person, got none" in reasons["x.pkl#nobody"]
    assert reasons.keys() == {"x.pkl#nobody", "y.pkl#two", "y.pkl#nobody", "z.pkl#nobody"}


def test_assumptions_are_summarized_once_at_the_end(tmp_path, make, capsys):
    write_classes(tmp_path / "raw", "coco")
    pose_files.mediapipe(tmp_path / "raw/eat/m")
    store = make("kinect_v2_25")
    guessed = store.manifest["source"]["guessed"]
    assert guessed["layout coco_17, from the number of joints"] == 4
    assert max(guessed.values()) == 4 and sum("depth" in text for text in guessed) == 1
    out = capsys.readouterr().out
    assert out.count("assumed for 4 clips: layout coco_17") == 1 and out.count("assumed for 1 clip: ") >= 1


def test_recordings_that_cannot_become_clips_are_in_the_report(tmp_path, make):
    raw = tmp_path / "raw"
    write_classes(raw, "mediapipe")
    (raw / "run/empty.json").write_text(json.dumps([{"image_id": 0, "keypoints": [0] * 51}]))
    (raw / "run/frames").mkdir()
    (raw / "run/frames/0.json").write_text('{"people": []}')
    (raw / "run/other.csv").write_text("snout_x,snout_y\n1,2\n2,3\n")
    np.savez(raw / "run/nobody.npz", keypoint=np.full((4, 33, 3), np.nan))
    pose_files.coco_results(raw / "run/flat")
    np.savez(raw / "run/crowd.npz", keypoint=people(33, 0, 3))
    make("mediapipe_pose_33")
    reasons = left_out(tmp_path)
    assert reasons["flat.json"].startswith("layout: expected recordings of mediapipe_pose_33, got coco_17")
    assert reasons["other.csv"].startswith("expected a layout with a map to mediapipe_pose_33, got the joints snout")
    assert reasons["nobody.npz"] == "expected at least one person, got none in 4 frames"
    assert "expected an array (up to 1 persons" in reasons["crowd.npz"]
    assert all("expected" in reason and str(tmp_path) not in reason for reason in reasons.values())
    assert reasons.keys() == {"empty.json", "frames", "other.csv", "nobody.npz", "flat.json", "crowd.npz"}


@pytest.mark.parametrize(
    "options, reason",
    [
        ((), "--skeleton: expected a YAML file or a body layout, got none; known: kinect_v1_20"),
        (("--skeleton", "kinect_v2_52"), "got 'kinect_v2_52'; did you mean kinect_v2_25?"),
        (("--skeleton", "graph.coc"), "got 'graph.coc'; did you mean graph.coco?"),
        (("--skeleton", "coco_17", "--layout", "openpose_81"), "got 'openpose_81'; did you mean openpose_18?"),
        (("--skeleton", "coco_17", "--frame-rate", "nan"), "expected a number from 0.1 to 1000, got 'nan'"),
    ],
)
def test_a_wrong_option_is_refused_with_the_nearest_name(options, reason, tmp_path, cli, capsys):
    write_classes(tmp_path / "raw", "coco")
    assert cli("custom", "--raw", tmp_path / "raw", "--out", tmp_path / "s.clips", *options) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1


def test_a_body_is_found_by_its_layout_an_alias_or_its_module():
    assert skeleton_name("mediapipe") == "mediapipe_pose_33" and skeleton_name("ucla") == "graph.ucla"
    assert skeleton_name("graph.hand") == "graph.hand" and skeleton_name("no/such.yaml") == "no/such.yaml"
    assert find_skeleton("mediapipe_pose_33").num_joint == Graph("mediapipe_pose_33").num_node == 33


def test_a_table_of_a_custom_skeleton_with_gaps_is_completed(tmp_path, make):
    raw = tmp_path / "raw"
    raw.mkdir()
    (tmp_path / "rat.yaml").write_text("joints: [nose, hip, tail]\nbones: [[nose, hip], [tail, hip]]\n")
    parts = ["nose", "tail", "hip"]
    heads = [["scorer", *["net"] * 9], ["bodyparts", *np.repeat(parts, 3)], ["coords", *["x", "y", "likelihood"] * 3]]
    for name in "ab":
        rows = [
            [t, *[v for part in range(3) for v in (10 * part + t, t, 0.1 if (t, part) == (2, 1) else 1)]]
            for t in range(6)
        ]
        (raw / f"{name}.csv").write_text("\n".join(",".join(map(str, row)) for row in [*heads, *rows]))
    (raw / "labels.csv").write_text("name,label,split\na,0,train\nb,1,test\n")
    found = clip(make(tmp_path / "rat.yaml", "--channels", 2, "--recipe", "plain"), "a")[0]
    assert np.array_equal(found[..., 0], np.arange(6)[:, None] + [0, 20, 10])
    assert "rate" not in ClipStore(tmp_path / "s.clips").manifest


def test_folders_that_are_one_recording_are_clips_and_changes_of_their_files_are_detected(tmp_path):
    folder = pose_files.openpose(tmp_path / "run" / "take.01")
    pose_files.openpose(tmp_path / "run" / "take.02")
    (tmp_path / "run" / "x.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").touch()
    files = find_files([tmp_path], r".*\.json", is_clip=prepare.is_recording)
    assert [clip_name(file) for file in files] == ["take.01", "take.02", "x"]
    before, inner = file_state(folder), sorted(folder.iterdir())[0]
    os.utime(inner, ns=(1, 1))
    assert file_state(folder) != before


def test_the_reader_of_clips_can_be_sent_to_worker_processes(tmp_path):
    path = pose_files.coco_results(tmp_path / "a")
    recipe = Recipe(find_skeleton("graph.coco"), {"recipe": "plain", "num_person": 1, "channels": 3})
    read = pickle.loads(pickle.dumps(prepare.partial(prepare.read_clips, recipe, {"a": 0})))
    assert read(path)[0].tracks.shape == (1, FRAMES, 17, 3)


@pytest.mark.parametrize("body", ["kinect_v2_25", "smpl_22"])
def test_an_empty_cell_of_a_table_of_the_skeleton_changes_neither_axes_nor_units(body, tmp_path):
    skeleton, points = find_skeleton(body), people(find_layout(body).num_joint, 1, 3)[1]
    head = ",".join(f"{joint}_{axis}" for joint in skeleton.joints for axis in "xyz")
    rows = [[f"{x:.4f}" for x in frame.ravel()] for frame in points]
    rows[5][3:6] = ["", "", ""]
    (tmp_path / "a.csv").write_text("\n".join([head, *map(",".join, rows)]))
    recipe = Recipe(skeleton, {"recipe": "plain", "num_person": 1, "channels": 3})
    (found,) = prepare.read_clips(recipe, {"a": 0}, tmp_path / "a.csv")
    expected = points.copy()
    expected[5, 1] = (points[4, 1] + points[6, 1]) / 2
    np.testing.assert_allclose(found.tracks[0], expected, atol=1e-4)
    assert np.array_equal(recipe.read_raw(tmp_path / "a.csv")[0].frames, found.tracks)


GAPS = people(33, 1, 3)[1] + np.float32(5)  # (T, 33, 3), no coordinate is 0
GAPS[3:6, 4] = np.nan  # a short gap
GAPS[2:, 7] = np.nan  # a joint that is lost
GAPS[:, 9] = np.nan  # one that was never seen


def own_body(tmp_path, clips: dict[str, np.ndarray]):
    """A body of 33 joints without a layout, and files of it with NaN."""
    joints = [f"j{i}" for i in range(33)]
    (tmp_path / "own.yaml").write_text(f"joints: {joints}\nbones: {[[joint, 'j0'] for joint in joints[1:]]}\n")
    (tmp_path / "raw").mkdir()
    for name, points in clips.items():
        np.savez(tmp_path / f"raw/{name}.npz", keypoint=points)
    rows = "".join(f"{name},{name},{part}\n" for name, part in zip(clips, ("train", "test"), strict=True))
    (tmp_path / "raw/labels.csv").write_text(f"name,label,split\n{rows}")
    return tmp_path / "own.yaml"


@pytest.mark.parametrize("missing", ["interpolate", "hold", "zero", "mask"])
def test_missing_joints_are_filled_as_documented_also_in_prediction_and_counted(missing, tmp_path, make, capsys):
    body = own_body(tmp_path, {"a": GAPS, "b": np.nan_to_num(GAPS, nan=1.0)})
    channels = ("--channels", 4) if missing == "mask" else ()
    store = make(body, "--recipe", "plain", *(() if missing == "interpolate" else ("--missing", missing)), *channels)
    found, seen = clip(store, "a")[0], ~np.isnan(GAPS).any(-1)
    assert store.manifest["missing"] == missing and np.array_equal(found[seen][:, :3], GAPS[seen])
    short, lost, never = found[4, 4, :3], found[8, 7, :3], found[8, 9, :3]
    if missing in ("interpolate", "mask"):
        assert short == pytest.approx((GAPS[2, 4] + GAPS[6, 4]) / 2, abs=1e-5)
        assert lost - found[8, 0, :3] == pytest.approx(GAPS[1, 7] - GAPS[1, 0], abs=1e-5)  # its offset from the parent
        assert np.array_equal(never, found[8, 0, :3])
    elif missing == "hold":
        assert np.array_equal(short, GAPS[2, 4]) and np.array_equal(lost, GAPS[1, 7]) and not never.any()
    else:
        assert not short.any() and not lost.any() and not never.any()
    if missing == "mask":
        assert np.array_equal(found[..., 3], seen) and (clip(store, "b")[..., 3] == 1).all()
        arguments = {"window_size": FRAMES, "p_interval": [1.0], "modality": "bone"}
        mask = Feeder(str(tmp_path / "s.clips"), "own", **arguments).batch([0], 0)["data"][0, 3, ..., 0].numpy()
        assert np.allclose(mask, (1.0 * seen + seen[:, :1]) / 2)  # a bone has the mean of its two ends
    share = json.loads((tmp_path / "s.clips.report.json").read_text())["share of missing joints"]
    assert share == {"a": round(1 - seen.mean(), 4)} and "joints are missing in 1 clip: " in capsys.readouterr().out
    recipe = Recipe(find_skeleton(body), store.manifest)
    ((_, recording),) = read(tmp_path / "raw/a.npz")
    assert np.array_equal(recipe.whole(recording)[0].frames[0], found)


@pytest.mark.parametrize("feeder", [Kinetics, Skateformer, Pyskl, Feeder], ids=lambda kind: kind.__module__)
@pytest.mark.parametrize("modality", ["bone", "joint_motion"])
def test_every_feeder_averages_the_mask_in_bones_and_motions(feeder, modality):
    points = np.concatenate([people(25, 1, 3)[1], np.ones((FRAMES, 25, 1), np.float32)], -1)[None]
    facts = {"skeleton": "graph.ntu_rgb_d", "num_class": 1, "num_person": 1, "channels": 4, "missing": "mask"}
    facts |= {"pad": "repeat"}
    sizes = {"window_size": FRAMES} | ({"pre_normalize": ""} if feeder is Pyskl else {})
    mask = feeder.from_clips([points], facts, part="test", modality=modality, **sizes).batch([0], 0)["data"][0, 3]
    assert (mask[:-1, :, 0] == 1).all()


@pytest.mark.parametrize(
    ("skeleton", "options", "reason"),
    [
        ("coco_17", ("--channels", 4), "--channels: expected 2 or 3 for the 2-D body coco, got 4"),
        ("coco_17", ("--channels", 2, "--missing", "mask"), "--channels: expected 3 (x, y, mask) with"),
        ("kinect_v2_25", ("--missing", "mask"), "--channels: expected 4 (x, y, z, mask) with --missing mask, got 3"),
    ],
)
def test_a_mask_needs_a_channel(skeleton, options, reason, tmp_path, cli, capsys):
    write_classes(tmp_path / "raw", "coco")
    assert cli("custom", "--raw", tmp_path / "raw", "--out", tmp_path / "s", "--skeleton", skeleton, *options) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["hold", "zero", "mask"])
def test_a_joint_that_was_not_seen_has_the_score_0(missing, tmp_path, make):
    points = np.concatenate([people(33, 1, 3)[1], np.full((FRAMES, 33, 1), 0.5, np.float32)], -1)
    points[5, 1, :3] = np.nan
    body = own_body(tmp_path, {"a": points, "b": points})
    score = clip(make(body, "--channels", 4, "--missing", missing), "a")[0, ..., 3]
    assert score[5, 1] == 0 and (np.delete(score, 5, 0) == 0.5).all()


def test_a_fourth_channel_of_an_array_is_the_score_and_is_not_rotated(tmp_path, make):
    points = np.concatenate([people(33, 1, 3)[1], np.full((FRAMES, 33, 1), 0.25, np.float32)], -1)
    body = own_body(tmp_path, {"a": points, "b": points + np.float32(0.5)})
    store = make(body, "--channels", 4)
    assert (clip(store, "a")[..., 3] == 0.25).all() and not clip(store, "a")[0, 0, 0, :3].any()
    arguments = {"data_path": str(tmp_path / "s.clips"), "split": "own", "window_size": 8}
    plain, turned = (Feeder(**arguments, random_rot=rotate).batch([0], 0)["data"] for rotate in (False, True))
    assert torch.equal(plain[:, 3], turned[:, 3]) and not torch.allclose(plain[:, :3], turned[:, :3])


@pytest.mark.parametrize(("skeleton", "joints", "recipe"), [("coco", 17, "plain"), ("kinetics", 18, "agcn")])
def test_a_joint_that_was_not_seen_has_the_score_0_in_poses_without_scores(skeleton, joints, recipe):
    points = people(joints, 1, 2)[1][None].copy()
    points[0, :, 3] = np.nan
    layout = {17: "coco_17", 18: "openpose_18"}[joints]
    recording = Recording(points, None, ("1",), np.arange(FRAMES), Facts("t", layout, image_size=(640, 480)))
    facts = {"recipe": recipe, "channels": 3, "num_person": 1}
    frames = Recipe(find_skeleton(f"graph.{skeleton}"), facts).whole(recording)[0].frames
    assert not frames[0, :, 3].any() and (np.delete(frames[0], 3, 1)[..., 2] == 1).all()


def test_frames_in_the_folder_of_recordings_itself_are_refused_with_advice(tmp_path, cli, capsys):
    pose_files.openpose(tmp_path / "raw")
    arguments = ("--raw", tmp_path / "raw", "--skeleton", "coco_17", "--out", tmp_path / "s.clips")
    assert cli("custom", *arguments) == 2
    assert "--raw: expected a folder of recordings, got the frames of one or more" in capsys.readouterr().err
