"""The synthetic data set, checks of a store, and pictures of it."""

import shutil

import numpy as np
import pytest
from PIL import Image

from data import pictures, show
from data.demo.figure import BONES
from data.demo.make import make
from data.poses.read import read
from data.poses.sides import left_share
from feeders.clip_store import ClipStore
from graph.layouts import find_layout
from tests.system.test_clip_view import clips_of, points_of

CLASSES = "data/demo/classes.txt"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "raw"
    assert make(folder) == 240
    return folder


@pytest.fixture(scope="module")
def store(raw, cli):
    out = raw.parent / "demo.clips"
    assert cli("ntu", "--raw", raw, "--classes", CLASSES, "--out", out, "--strict", "--check") == 0
    return ClipStore(out)


def test_the_same_seed_writes_the_same_files_and_another_does_not(raw, tmp_path):
    make(tmp_path / "again", performers=1)
    make(tmp_path / "other", seed=1, performers=1)
    for path in (tmp_path / "again").iterdir():
        if "A008" not in path.name:  # the partner is drawn among all performers
            assert path.read_bytes() == (raw / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / path.name).read_bytes()


def test_every_split_has_every_class_and_none_of_the_clips_is_on_ntus_skip_list(store):
    assert store.manifest["counts"] == {"xsub": {"train": 144, "test": 96}, "xview": {"train": 160, "test": 80}}
    for parts in store.splits.values():
        for numbers in parts.values():
            assert len(np.unique(store.label[numbers])) == 8
    assert 40 <= store.length.min() and store.length.max() <= 60


def test_bones_keep_their_length_and_the_head_falls_or_rises_as_the_class_says(store):
    one = [i for i in range(len(store)) if store.persons[i, 1] < 0]
    clip = store.clip(one[0])[..., 0]
    for joint, (parent, bone) in BONES.items():
        length = np.linalg.norm(clip[:, :, joint] - clip[:, :, parent], axis=0)
        assert length.std() < 0.02 and 0.6 < length.mean() / np.linalg.norm(bone) < 1.5
    height = {label: [] for label in (5, 6)}
    for i in one:
        if store.label[i] in height:
            head = store.clip(i)[1, :, 3, 0]
            height[int(store.label[i])].append(head[-5:].mean() - head[:5].mean())
    assert max(height[5]) < -0.2 and min(height[6]) > 0.2


def test_two_persons_shake_hands_and_false_bodies_are_removed(store):
    assert (store.persons[store.label == 7] == [0, 1]).all()
    assert (store.persons[store.label != 7] == [0, -1]).all()


def test_the_performers_are_not_mirrored(raw):
    names = find_layout("kinect_v2_25").skeleton.joints
    for file in sorted(raw.glob("*P001*.skeleton")):
        ((_, recording),) = read(file)
        assert left_share(recording.points, names) > 0.9, file


def test_a_damaged_store_is_found_by_its_hash(store, tmp_path, cli, capsys):
    copy = tmp_path / "copy.clips"
    shutil.copytree(store.path, copy)
    with open(copy / "frames.npy", "r+b") as file:
        file.seek(5000)
        file.write(b"\xff\xff\xff\x7f")
    assert cli("ntu", "--out", copy, "--check") == 1
    assert "SHA-256 differs" in capsys.readouterr().out


def test_a_check_reports_numbers_that_are_not_finite_constant_joints_empty_classes_and_clips_in_both_parts(
    store, tmp_path
):
    from data.check import common_problems

    spoiled = ClipStore(store.path)
    spoiled.manifest["sha256"] = {}
    spoiled.manifest["num_class"], spoiled.manifest["class_names"] = 9, [*store.manifest["class_names"], "fly"]
    spoiled.frames = np.array(store.frames)
    spoiled.frames[int(store.start[3]), 0, 0] = np.nan
    spoiled.frames[:, 6] = 1
    spoiled.splits["xsub"]["test"] = spoiled.splits["xsub"]["test"][:0]
    spoiled.splits["xview"]["test"] = spoiled.splits["xview"]["train"][:2]
    text = "\n".join(common_problems(spoiled))
    for words in (
        f"1 frame with numbers that are not finite, in {store.name[3]}",
        "joints [6]",
        "8 (fly)",
        "xsub/test is empty",
        "in both train and test",
    ):
        assert words in text, text


def test_clips_are_shown_on_a_page(store, tmp_path, capsys):
    names = store.name[:2].tolist()
    assert show.main([str(store.path), *names, "--out", str(tmp_path / "clips.html")]) == 0
    clips = clips_of((tmp_path / "clips.html").read_text())
    labels = [store.manifest["class_names"][label] for label in store.label[:2]]
    assert [clip["name"] for clip in clips] == [f"{name}: {label}" for name, label in zip(names, labels, strict=True)]
    expected = store.clip(0)[..., 0].transpose(1, 2, 0) * (-1, 1, -1)
    np.testing.assert_allclose(points_of(clips[0])[:, 0], expected, atol=1e-3)
    assert show.main([str(store.path), *names, "--out", str(tmp_path / "clips.gif")]) == 2
    assert "expected a file name ending with .html for several clips" in capsys.readouterr().err


def test_clips_are_shown_moving_or_as_a_strip(store, tmp_path, capsys):
    name = str(store.name[0])
    assert show.main([str(store.path), name, "--out", str(tmp_path / "strip.png")]) == 0
    with Image.open(tmp_path / "strip.png") as picture:
        assert picture.width > 3 * picture.height and len(set(picture.convert("L").tobytes())) > 20
    store.length[0] = 3  # a short film is enough
    pictures.show(store, 0, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as picture:
        assert picture.n_frames == 3
    assert show.main([str(store.path), "nobody", "--out", str(tmp_path / "x.png")]) == 2
    assert show.main([str(store.path), name, "--out", str(tmp_path / "x.bmp")]) == 2
    assert "unknown clip 'nobody'" in capsys.readouterr().err


def test_wrong_command_lines_are_one_error_message(tmp_path, cli, capsys):
    for arguments, words in (
        (("ntu",), "expected --raw DIR"),
        (("deeplabcut",), "expected --csv DIR"),
        (("ntu", "--raw", tmp_path / "nowhere"), "expected a folder, got nothing"),
        (("ntu", "--raw", tmp_path), "expected a folder with raw files"),
        (("ntu", "--check", "--out", tmp_path / "nothing.clips"), "expected a clip store"),
    ):
        assert cli(*arguments) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1


def test_a_drawn_clip_is_not_mirrored(store):
    names = find_layout("kinect_v2_25").skeleton.joints
    x = pictures.project(store.clip(0), store.manifest["up"], 3)[0, 0, :, 0]  # the performer faces the viewer
    assert x[names.index("left shoulder")] > x[names.index("right shoulder")]
    flat = np.random.default_rng(0).random((3, 4, 17, 1))
    assert np.array_equal(pictures.project(flat, "-y", 2), flat[:2] * np.array([1, -1]).reshape(2, 1, 1, 1))
