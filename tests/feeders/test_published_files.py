"""Clip stores and published file formats give the same clips; damaged files are refused."""

import pickle

import numpy as np
import pytest
import torch

from feeders import clip_part, feeder_kinetics, feeder_ntu, feeder_pyskl, feeder_ucla
from feeders.clip_store import ClipStore, valid_frames
from feeders.published_files import open_part
from tests import fuzz
from tests.feeders.synthetic import random_clips, rewrite_manifest, write_store
from tests.pretend import gpu


def dense(store, i, T):
    """Clips of a store, padded with zeros: (N, C, T, V, M)."""
    x = np.zeros((len(i), 3, T, store.frames.shape[1], 2), np.float32)
    for n, clip in enumerate(i):
        x[n, :, : store.length[clip]] = store.clip(clip)
    return x


def test_rows_read_at_once_are_the_clips_one_by_one(store):
    whole = ClipStore(store)
    clips = open_part(str(store), "xsub", "train")
    time = torch.tensor([[0, 3, -1, 1], [4, 4, 2, 0], [-1, -1, 63, 1]])
    x = clips.take(torch.tensor([1, 3, 4]), time)
    for n, clip in enumerate((0, 2, 3)):
        for t, frame in enumerate(time[n].tolist()):
            expected = whole.clip(clip)[:, frame] if frame >= 0 else np.zeros((3, 25, 2), np.float32)
            np.testing.assert_array_equal(x[n, :, t], expected)
    assert x.shape == (3, 3, 4, 25, 2) and list(clips.name[:2]) == ["clip_6", "clip_0"]


def test_a_person_shown_twice_is_in_both_slots(tmp_path):
    clips, _ = random_clips([6], 25)
    store = write_store(tmp_path / "twice.clips", clips, [0], [(0, 0)], {"xsub": {"test": [0]}})
    x = feeder_ntu.Feeder(str(store), "xsub", "test").batch([0], 0)["data"]
    assert torch.equal(x[..., 0], x[..., 1]) and (x != 0).all()


def test_a_clip_without_persons_is_empty(tmp_path):
    clips = [*random_clips([6], 18)[0], np.zeros((0, 6, 18, 3), np.float32)]
    store = write_store(tmp_path / "none.clips", clips, [0, 0], [(0, -1), (-1, -1)], {"all": {"test": [0, 1]}})
    assert (feeder_kinetics.Feeder(str(store), "all", "test").batch([0, 1], 0)["data"][1] == 0).all()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_gives_what_the_store_gives(store, tmp_path, save):
    whole = ClipStore(store)
    i = whole.part("xsub", "test")
    x = dense(whole, i, 210).transpose(0, 2, 4, 3, 1).reshape(len(i), 210, 150)
    save(tmp_path / "own.npz", x_train=x[:1], y_train=np.eye(4)[:1], x_test=x, y_test=np.eye(4)[whole.label[i]])
    args = dict(part="test", modality="bone", p_interval=[0.95])
    of_store, of_file = (
        feeder_ntu.Feeder(str(store), "xsub", **args),
        feeder_ntu.Feeder(str(tmp_path / "own.npz"), **args),
    )
    a, b = of_store.batch([0, 1, 2], 0), of_file.batch([0, 1, 2], 0)
    assert torch.equal(a["data"], b["data"]) and torch.equal(a["label"], b["label"])
    again = pickle.loads(pickle.dumps(of_file)).batch([0, 1, 2], 0)
    assert torch.equal(again["data"], a["data"])
    assert of_file.name.tolist() == ["test_0", "test_1", "test_2"]
    assert (of_file.clips.file is not None) == (save is np.savez)  # mapped unless compressed


def test_frames_whose_coordinates_sum_to_zero_are_not_valid_as_in_a_store(tmp_path):
    x = np.ones((1, 4, 150), np.float32)
    x[0, 2] = 0
    x[0, 2, :2] = 1, -1
    both = {f"{kind}_{part}": value for part in ("train", "test") for kind, value in (("x", x), ("y", np.eye(1)))}
    np.savez(tmp_path / "own.npz", **both)
    feeder = feeder_ntu.Feeder(str(tmp_path / "own.npz"), part="test")
    assert feeder.clips.valid.tolist() == [valid_frames(x.reshape(1, 4, 2, 25, 3)[0].transpose(1, 0, 2, 3))] == [3]


def test_an_npy_gives_what_the_store_gives(kinetics_store, tmp_path):
    whole = ClipStore(kinetics_store)
    i = whole.part("all", "train")
    np.save(tmp_path / "train_data_joint.npy", dense(whole, i, 80))
    names = [f"a/{whole.name[n]}.skeleton" for n in i]
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((names, whole.label[i].tolist())))
    args = dict(part="train", window_size=50, random_choose=True, random_move=True, modality="bone_motion", repeat=4)
    of_store = feeder_kinetics.Feeder(str(kinetics_store), "all", **args)
    of_file = feeder_kinetics.Feeder(str(tmp_path / "train_data_joint.npy"), **args)
    assert torch.equal(of_store.batch(range(12), 1)["data"], of_file.batch(range(12), 1)["data"])
    assert of_file.name.tolist() == of_store.name.tolist() and torch.equal(of_file.clips.valid, of_store.clips.valid)


def test_a_file_of_bones_is_bones_already(tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 3, 30, 18, 2)).astype(np.float32)
    np.save(tmp_path / "val_data_bone.npy", x)
    (tmp_path / "val_label.pkl").write_bytes(pickle.dumps((["a.json", "b.json"], [0, 1])))
    path = str(tmp_path / "val_data_bone.npy")
    np.testing.assert_array_equal(
        feeder_kinetics.Feeder(path, part="test", modality="bone").batch([0, 1], 0)["data"], x
    )
    with pytest.raises(ValueError, match="modality: expected bone, the modality of the data, .* got joint"):
        feeder_kinetics.Feeder(path, part="test")
    with pytest.raises(ValueError, match="part: expected 'test', .* got 'train'"):
        feeder_kinetics.Feeder(path, part="train", modality="bone")


def test_clips_of_a_store_and_of_a_pickle_are_the_same(store, pickle_file):
    whole = ClipStore(store)
    records = [
        dict(
            frame_dir=str(whole.name[i]),
            label=int(whole.label[i]),
            keypoint=whole.clip(i)[..., : 1 + i % 2].transpose(3, 1, 2, 0),
        )
        for i in range(10)
    ]
    path = pickle_file(
        records, {"xsub_train": [f"clip_{i}" for i in range(7)], "xsub_val": ["clip_7", "clip_8", "clip_9"]}
    )
    a, b = (feeder_pyskl.Feeder(str(p), "xsub", "test", num_clips=2) for p in (store, path))
    order = [a.name.tolist().index(name) for name in b.name]
    assert torch.equal(a.batch(order, 0)["data"], b.batch([0, 1, 2], 0)["data"])


def test_missing_and_broken_files_are_reported_by_name(store, tmp_path):
    (tmp_path / "bad.pkl").write_bytes(b"no pickle")
    np.savez(tmp_path / "NTU60_CS.npz", x_train=np.zeros((2, 5, 150), np.float32), y_train=np.eye(2))
    np.savez(tmp_path / "odd.npz", x_test=np.zeros((2, 5, 151), np.float32), y_test=np.eye(2))
    np.save(tmp_path / "train_data.npy", np.zeros((2, 3, 5, 18, 2), np.float32))
    cases = [
        (("nowhere.clips", "xsub", "test"), "got no folder; create it with the prepare.py of the benchmark"),
        (("ntu/a.clips", "xsub", "test"), "got no folder; create it with python data/ntu/prepare.py --raw DIR"),
        (("nowhere.npz", "", "test"), "cannot be read"),
        (("bad.pkl", "", "test"), "not a pickle of plain data"),
        (("NTU60_CS.npz", "", "test"), "expected the array x_test, got x_train, y_train"),
        (("NTU60_CS.npz", "xview", "train"), "split: expected 'xsub', .* got 'xview'"),
        (("odd.npz", "", "test"), "x_test: expected .N, T, 6 V., .* got shape .2, 5, 151."),
        (("train_data.npy", "", "train"), "train_label.pkl: cannot be read"),
        (("train_data_speed.npy", "", "train"), "train_data_speed.npy: expected joint, .* in the name of the file"),
        (("other.npy", "", "train"), "label_path: expected the path of the labels of .*other.npy, got none"),
        (("ntu.clips", "xsub", "test", "labels.pkl"), "label_path: expected none, because .* got 'labels.pkl'"),
    ]
    for (path, *rest), text in cases:
        with pytest.raises(ValueError, match=text):
            open_part(str(tmp_path / path), *rest)


# Wrong content


def opened(path, *arguments):
    with pytest.raises(ValueError) as caught:
        open_part(str(path), *arguments)
    assert "\n" not in str(caught.value), caught.value
    return str(caught.value)


def save_npz(path, save=np.savez, **changes):
    arrays = {"x_test": np.ones((2, 5, 150), np.float32), "y_test": np.eye(2)} | changes
    save(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


OBJECTS = np.zeros((2, 4), object)
NPZ = [
    ({"y_test": OBJECTS}, "y_test: expected booleans, integers, unsigned integers, floats, got dtype object"),
    ({"x_test": OBJECTS}, "x_test: expected floats, got dtype object"),
    ({"x_test": np.ones((2, 5, 150), int)}, "x_test: expected floats, got dtype int64"),
    ({"x_test": np.ones((2, 5, 150), np.longdouble)}, "x_test: expected floats, got dtype float128"),
    ({"x_test": np.ones((2, 5, 150), ">f4")}, "x_test: expected numbers in the byte order of this machine, got >f4"),
    ({"x_test": np.ones((2, 750), np.float32)}, "x_test: expected (N, T, 6 V)"),
    ({"x_test": np.ones((0, 5, 150), np.float32), "y_test": np.eye(2)[:0]}, "x_test: expected (N, T, 6 V)"),
    ({"x_test": np.ones((2, 0, 150), np.float32)}, "x_test: expected (N, T, 6 V)"),
    ({"y_test": np.eye(3)}, "y_test: expected (2, classes), got shape (3, 3)"),
    ({"y_test": np.zeros((2, 0))}, "y_test: expected (2, classes)"),
    ({"y_test": np.array([0, 1])}, "y_test: expected (2, classes), got shape (2,)"),
    ({"y_test": np.ones((2, 2))}, "y_test: expected one-hot rows"),
    ({"y_test": np.full((2, 1), np.nan)}, "y_test: expected one-hot rows"),
    ({"y_test": None}, "expected the array y_test, got x_test"),
]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("changes, message", NPZ)
def test_wrong_arrays_of_an_npz_are_refused(tmp_path, save, changes, message):
    assert message in opened(save_npz(tmp_path / "own.npz", save, **changes), "", "test")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", pickle.dumps([1]), "half"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_files_are_refused(tmp_path, content, save):
    path = save_npz(tmp_path / "own.npz", save)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
    assert "own.npz: not an .npz file" in opened(path, "", "test")


def save_npy(folder, data=None, names=("a", "b"), labels=(0, 1), content=None):
    np.save(folder / "val_data.npy", np.ones((2, 3, 5, 18, 2), np.float32) if data is None else data)
    (folder / "val_label.pkl").write_bytes(pickle.dumps((names, labels)) if content is None else content)
    return folder / "val_data.npy"


NPY = [
    ({"data": np.ones((2, 3, 5, 18), np.float32)}, "val_data.npy: expected an array (N, C, T, V, M), got shape"),
    ({"data": np.ones((2, 3, 0, 18, 2), np.float32)}, "val_data.npy: expected an array (N, C, T, V, M)"),
    ({"data": np.ones((2, 0, 5, 18, 2), np.float32)}, "val_data.npy: expected an array (N, C, T, V, M)"),
    ({"data": np.ones((2, 3, 5, 18, 2), int)}, "val_data.npy: expected floats"),
    ({"data": np.ones((2, 3, 5, 18, 2), object)}, "val_data.npy: expected floats, got dtype object"),
    ({"data": np.ones((2, 3, 5, 18, 2), np.longdouble)}, "val_data.npy: expected floats"),
    ({"data": np.ones((3, 3, 5, 18, 2), np.float32)}, "val_label.pkl: expected 3 names and labels as in val_data.npy"),
    ({"names": 5, "labels": 5}, "val_label.pkl: names: expected a list of text, got 5"),
    ({"names": ["a", None]}, "val_label.pkl: names: expected text of at most 1000 characters, got None"),
    ({"names": ["a", b"b"]}, "names: expected text"),
    ({"names": ["a", "b" * 1001]}, "names: expected text of at most 1000 characters"),
    ({"names": [["a"], "b"]}, "names: expected text"),
    ({"labels": [0, -1]}, "val_label.pkl: labels: expected whole numbers from 0 to 99999, got -1"),
    ({"labels": [0, 10**30]}, "labels: expected whole numbers"),
    ({"labels": [0, 1.5]}, "labels: expected whole numbers from 0 to 99999, got 1.5"),
    ({"labels": [0, None]}, "labels: expected whole numbers"),
    ({"labels": [0, True]}, "labels: expected whole numbers"),
    ({"labels": [[0], [1]]}, "labels: expected whole numbers"),
    ({"labels": np.zeros((2, 1), int)}, "labels: expected whole numbers"),
    ({"labels": 5}, "val_label.pkl: labels: expected a list of whole numbers, got 5"),
    ({"labels": [0]}, "val_label.pkl: expected 2 names and labels as in val_data.npy, got 2 and 1"),
    ({"content": pickle.dumps({"a": 1})}, "val_label.pkl: expected a pair (names, labels), got 'dict'"),
    ({"content": b""}, "val_label.pkl: not a pickle"),
    ({"content": fuzz.PIECES[1]}, "val_label.pkl: not a pickle"),
    ({"content": fuzz.PIECES[2]}, "val_label.pkl: not a pickle"),
]


@pytest.mark.parametrize("changes, message", NPY)
def test_wrong_arrays_and_labels_are_refused(tmp_path, changes, message):
    assert message in opened(save_npy(tmp_path, **changes), "", "test")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"text"])
def test_damaged_npy_files_are_refused(tmp_path, content):
    save_npy(tmp_path).write_bytes(content)
    assert "val_data.npy: not a NumPy array file" in opened(tmp_path / "val_data.npy", "", "test")


def pyskl_records(**changes):
    records = [{"frame_dir": f"c{i}", "label": i, "keypoint": np.ones((1, 6, 25, 3))} for i in range(3)]
    records[1] = {key: value for key, value in (records[1] | changes).items() if value is not ...}
    return {"split": {"train": ["c0", "c1", "c2"]}, "annotations": records}


PYSKL = [
    ([1], 'expected {"split": ..., "annotations": ...}, got \'list\''),
    ({"split": {}}, 'expected {"split": ..., "annotations": ...}'),
    (pyskl_records() | {"annotations": {"a": 1}}, "annotations: expected a list of mappings"),
    (pyskl_records() | {"annotations": []}, "annotations: expected a list of mappings, got []"),
    (pyskl_records() | {"annotations": [5]}, "annotations: expected a list of mappings, got [5]"),
    (pyskl_records() | {"split": ["train"]}, "split: expected a mapping of names to ids, got ['train']"),
    (pyskl_records() | {"split": None}, "split: expected a mapping"),
    (pyskl_records() | {"split": {"train": 5}}, "split: train: expected a list of text, got 5"),
    (pyskl_records() | {"split": {"train": [[1]]}}, "split: train: expected text"),
    (pyskl_records() | {"split": {5: ["c0"]}}, "split: expected a mapping of names to ids"),
    (pyskl_records() | {"split": {"val": ["c0"]}}, "split: expected train, got none of them; known: val"),
    (pyskl_records() | {"split": {"train": ["x"]}}, "split: train: expected the frame_dir of at least one annotation"),
    (pyskl_records(frame_dir=...), "annotations: frame_dir: expected text"),
    (pyskl_records(frame_dir="c0"), "annotations: frame_dir: expected each name once, got 'c0' 2 times"),
    (pyskl_records(frame_dir=["c1"]), "annotations: frame_dir: expected text"),
    (pyskl_records(label=...), "annotations: label: expected whole numbers from 0 to 99999, got None"),
    (pyskl_records(label=-1), "annotations: label: expected whole numbers from 0 to 99999, got -1"),
    (pyskl_records(label=[1]), "annotations: label: expected whole numbers"),
    (pyskl_records(keypoint=...), "annotations: c1: keypoint: expected numbers (M, T, V, C), got None"),
    (pyskl_records(keypoint=[1]), "annotations: c1: keypoint: expected numbers (M, T, V, C), got [1]"),
    (pyskl_records(keypoint="x"), "annotations: c1: keypoint: expected numbers"),
    (pyskl_records(keypoint=np.ones((6, 25, 3))), "c1: keypoint: expected numbers (M, T, V, C), got <f8 (6, 25, 3)"),
    (pyskl_records(keypoint=np.ones((1, 0, 25, 3))), "c1: keypoint: expected numbers (M, T, V, C)"),
    (pyskl_records(keypoint=np.array([[[["x"]]]])), "c1: keypoint: expected numbers"),
    (
        pyskl_records(keypoint=np.ones((1, 6, 24, 3))),
        "c1: expected (M, T, 25, 3) as in the first clip, got (1, 6, 24, 3)",
    ),
    (pyskl_records(keypoint=np.ones((200, 6, 25, 3))), "c1: keypoint: expected at most 100 persons"),
    (pyskl_records(keypoint=np.full((1, 6, 25, 3), np.nan)), "c1: expected finite coordinates below 1e+09"),
    (pyskl_records(keypoint=np.full((1, 6, 25, 3), 1e30)), "c1: expected finite coordinates below 1e+09"),
    (pyskl_records(keypoint_score=5), "c1: keypoint_score: expected numbers (1, 6, 25), got 5"),
    (pyskl_records(keypoint_score=np.ones((1, 6))), "c1: keypoint_score: expected numbers (1, 6, 25), got <f8 (1, 6)"),
    (pyskl_records(img_shape=5), "c1: img_shape: expected height and width in pixels, got 5"),
    (pyskl_records(img_shape=(0, 3)), "c1: img_shape: expected height and width"),
]


@pytest.mark.parametrize("content, message", PYSKL)
def test_wrong_annotations_are_refused(tmp_path, content, message):
    (tmp_path / "own.pkl").write_bytes(pickle.dumps(content))
    assert message in opened(tmp_path / "own.pkl", "", "train")


def test_clips_of_a_split_without_an_annotation_are_left_out_with_a_warning(tmp_path, caplog):
    (tmp_path / "own.pkl").write_bytes(pickle.dumps(pyskl_records() | {"split": {"train": ["x9", "c2", "x1"]}}))
    assert open_part(str(tmp_path / "own.pkl"), "", "train").name.tolist() == ["c2"]
    assert "split: train: left out 2 clips without an annotation; the first is 'x1'" in caplog.text


def test_one_array_in_many_annotations_is_stored_once(tmp_path):
    array = np.ones((1, 100, 25, 3))
    records = [{"frame_dir": f"c{i}", "label": 0, "keypoint": array} for i in range(100)]
    names = [record["frame_dir"] for record in records]
    (tmp_path / "own.pkl").write_bytes(pickle.dumps({"split": {"train": names}, "annotations": records}))
    assert "annotations: expected at most" in opened(tmp_path / "own.pkl", "", "train")


def test_forged_and_damaged_pickles_are_refused(tmp_path):
    for i, piece in enumerate(fuzz.PIECES[:13]):
        (tmp_path / f"{i}.pkl").write_bytes(piece)
        assert f"{i}.pkl: " in opened(tmp_path / f"{i}.pkl", "", "train")


# Coordinates that are not finite


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("recipe", ["store, ucla", "store, pyskl", "store, ntu", "store, kinetics", "npz", "npy"])
def test_coordinates_that_are_not_finite_are_found_in_main_memory_and_before_a_gpu(
    tmp_path, store, ucla_store, kinetics_store, monkeypatch, recipe, number
):
    feeder, split = feeder_kinetics.Feeder, ""
    if recipe.startswith("store"):
        split, path, feeder = {
            "ucla": ("xview", ucla_store, feeder_ucla.Feeder),
            "pyskl": ("xsub", store, feeder_pyskl.Feeder),
            "ntu": ("xsub", store, feeder_ntu.Feeder),
            "kinetics": ("all", kinetics_store, feeder_kinetics.Feeder),
        }[recipe.split(", ")[1]]
        rewrite_manifest(path, sha256=None)  # as if written by another program
        frames = np.load(path / "frames.npy")
        frames[int(ClipStore(path).start[0]), 3, 1] = number
        np.save(path / "frames.npy", frames)
    elif recipe == "npz":
        x = np.random.default_rng(0).normal(size=(2, 9, 150)).astype(np.float32)
        x[0, 1, 2] = number
        path, feeder = tmp_path / "own.npz", feeder_ntu.Feeder
        np.savez(path, x_train=x, y_train=np.eye(2))
    else:
        data = np.random.default_rng(0).normal(size=(2, 3, 9, 18, 2)).astype(np.float32)
        data[0, 1, 2, 3, 0] = number
        np.save(tmp_path / "train_data.npy", data)
        (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))
        path = tmp_path / "train_data.npy"
    with pytest.raises(ValueError, match="clip .*: expected finite coordinates below 1e[+]09, got"):
        made = feeder(str(path), split, "train")
        made.batch(range(len(made)), 0)
    with gpu(monkeypatch), pytest.raises(ValueError, match="expected finite coordinates below 1e[+]09, got"):
        feeder(str(path), split, "train").to("cuda:0")


def test_stores_that_were_checked_when_written_are_not_checked_again(store, monkeypatch):
    def fail(x):
        raise AssertionError("checked")

    monkeypatch.setattr(clip_part, "is_finite", fail)
    feeder_ntu.Feeder(str(store), "xsub").batch([0, 1], 0)
    rewrite_manifest(store, sha256=None)
    with pytest.raises(AssertionError, match="checked"):
        feeder_ntu.Feeder(str(store), "xsub").batch([0, 1], 0)
