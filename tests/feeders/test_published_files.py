"""Clip stores and published file formats give the same clips; what is damaged is refused."""

import pickle

import numpy as np
import pytest
import torch

from feeders import feeder_kinetics, feeder_ntu, feeder_pyskl
from feeders.clip_store import ClipStore
from feeders.published_files import open_part
from tests.feeders.synthetic import random_clips, write_store


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
    with pytest.raises(ValueError, match="modality: expected bone, which the data holds .* got joint"):
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


def test_what_is_missing_or_broken_is_named(store, tmp_path):
    (tmp_path / "bad.pkl").write_bytes(b"no pickle")
    np.savez(tmp_path / "NTU60_CS.npz", x_train=np.zeros((2, 5, 150), np.float32), y_train=np.eye(2))
    np.savez(tmp_path / "odd.npz", x_test=np.zeros((2, 5, 151), np.float32), y_test=np.eye(2))
    np.save(tmp_path / "train_data.npy", np.zeros((2, 3, 5, 18, 2), np.float32))
    cases = [
        (("nowhere.clips", "xsub", "test"), "expected a clip store, got no folder"),
        (("nowhere.npz", "", "test"), "cannot be read"),
        (("bad.pkl", "", "test"), "not a pickle of plain data"),
        (("NTU60_CS.npz", "", "test"), "expected the array x_test, got x_train, y_train"),
        (("NTU60_CS.npz", "xview", "train"), "split: expected 'xsub', .* got 'xview'"),
        (("odd.npz", "", "test"), "x_test: expected .N, T, 6 V., .* got shape .2, 5, 151."),
        (("train_data.npy", "", "train"), "train_label.pkl: cannot be read"),
        (("ntu.clips", "xsub", "test", "labels.pkl"), "label_path: expected none .* got 'labels.pkl'"),
    ]
    for (path, *rest), text in cases:
        with pytest.raises(ValueError, match=text):
            open_part(str(tmp_path / path), *rest)
