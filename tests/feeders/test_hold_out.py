"""Training clips that are held out replace the test part, which is then not read."""

import pickle

import numpy as np
import pytest
import torch

from feeders.feeder_kinetics import Feeder as KineticsFeeder
from feeders.feeder_pyskl import Feeder as PysklFeeder
from feeders.feeder_ucla import Feeder
from feeders.published_files import open_part
from tests.feeders.synthetic import random_clips, rewrite_index, write_store

NAMES = [f"a{a:02d}_s{s:02d}_e00_v{v:02d}" for a in (1, 2) for s in (1, 2, 10) for v in (1, 2, 3)]


@pytest.fixture
def views(tmp_path):
    """Three performers and three cameras; the test part is the third camera."""
    clips = [clip[:1] for clip in random_clips([10 + i for i in range(len(NAMES))], 20)[0]]
    third = np.array([name.endswith("v03") for name in NAMES])
    splits = {"xview": {"train": np.flatnonzero(~third), "test": np.flatnonzero(third)}}
    labels = [int(name[2]) - 1 for name in NAMES]
    path = write_store(
        tmp_path / "u.clips", clips, labels, [(0,)] * len(NAMES), splits, num_class=2, skeleton="graph.ucla"
    )
    return rewrite_index(path, name=np.array(NAMES))


def names(path, part, *words):
    return set(Feeder(str(path), part=part, hold_out=words).name)


def test_training_clips_are_divided_and_no_part_contains_test_clips(views):
    training = {name for name in NAMES if not name.endswith("v03")}
    held = {name for name in training if "_s01_" in name or name.endswith("v02")}
    assert names(views, "test", "s01", "v02") == held and names(views, "train", "s01", "v02") == training - held
    assert names(views, "test", "s10") == {name for name in training if "_s10_" in name}


def test_a_held_out_clip_is_the_training_clip_with_the_transforms_of_testing(views):
    held, whole = Feeder(str(views), part="test", hold_out=["s02"]), Feeder(str(views), part="train")
    same = [whole.name.tolist().index(name) for name in held.name]
    assert held.label.tolist() == whole.label[same].tolist()
    for i, clip in enumerate(same):
        length = int(whole.clips.length[clip])
        one, other = (
            clips.take(torch.tensor([k]), torch.arange(length)[None])
            for clips, k in ((held.clips, i), (whole.clips, clip))
        )
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_published_arrays_and_pickles_can_be_divided_too(tmp_path, pickle_file):
    data = np.random.default_rng(0).normal(size=(4, 3, 6, 18, 2)).astype(np.float32)
    np.save(tmp_path / "train_data_joint.npy", data)
    (tmp_path / "train_label.pkl").write_bytes(
        pickle.dumps((["x_p1.json", "x_p2.json", "y_p1.json", "y_p2.json"], [0, 0, 1, 1]))
    )
    feeder = KineticsFeeder(str(tmp_path / "train_data_joint.npy"), part="test", hold_out=["p2"])
    torch.testing.assert_close(feeder.batch([0, 1], 0)["data"], torch.from_numpy(data[[1, 3]]), rtol=0, atol=0)
    records = [
        {
            "frame_dir": f"x_p{i}",
            "label": 0,
            "img_shape": (100 * (i + 1), 200),
            "keypoint": np.ones((1, 5, 17, 2)),
            "keypoint_score": np.ones((1, 5, 17)),
        }
        for i in range(3)
    ]
    path = pickle_file(records, {"xsub_train": [record["frame_dir"] for record in records]})
    held = PysklFeeder(str(path), "xsub", "test", hold_out=["p1", "p2"], pre_normalize="2d", skeleton="graph.coco")
    assert held.name.tolist() == ["x_p1", "x_p2"] and held.image[:, 0].tolist() == [200, 300]


def test_words_that_match_no_clip_or_all_clips_are_refused(views):
    with pytest.raises(
        ValueError,
        match="hold_out: expected words .* a01, a02, e00, s01, s02, s10, v01, v02, got s07",
    ):
        open_part(str(views), "xview", "train", hold_out=["s01", "s07"])
    with pytest.raises(ValueError, match="hold_out: expected words that leave clips to train on, got v01, v02"):
        open_part(str(views), "xview", "test", hold_out=["v01", "v02"])
