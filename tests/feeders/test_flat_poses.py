"""The 2-D poses of ProtoGCN, ACLNet, SkeletonAgent and mmaction2: detections, added joints, streams, normalization."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from feeders import feeder_heatmap
from feeders.detections import persons
from feeders.feeder_pyskl import Feeder
from feeders.sampling import uniform_test
from graph import coco

STREAMS = {
    "j": "joint",
    "b": "bone",
    "k": "kbone",
    "jm": "joint_motion",
    "bm": "bone_motion",
    "km": "kbone_motion",
}


@pytest.fixture(scope="module")
def published():
    with np.load(Path(__file__).parent / "golden" / "firework8.npz") as file:
        return dict(file)


def write_pickle(path, split, *records):
    common = {"img_shape": (1080, 1920)}
    records = [{"frame_dir": f"c{i}", "label": i} | common | record for i, record in enumerate(records)]
    ids = [record["frame_dir"] for record in records]
    path.write_bytes(pickle.dumps({"split": {split: ids}, "annotations": records}))
    return str(path)


def rows(batch):
    """(n, C, T, V, M) -> (n, M, T, V, C) array"""
    return batch["data"].permute(0, 4, 2, 3, 1).numpy()


FLAT = [("coco20", key) for key in ("b", "k", "jm", "bm", "km", "b_skeletonagent", "bm_skeletonagent")]
FLAT += [("uav", key) for key in ("b", "k", "jm", "bm", "km")]


@pytest.mark.parametrize("body, key", FLAT)
def test_streams_of_twenty_joints_and_of_uav_human_are_the_published_ones(tmp_path, published, body, key):
    path = write_pickle(
        tmp_path / "a.pkl", "val", {"keypoint": published["coco_xy"], "keypoint_score": published["coco_score"]}
    )
    stream, _, agent = key.partition("_")
    args = dict(part="test", pre_normalize="", sampling="loop", window_size=12)
    args |= {"skeleton": "graph.uav"} if body == "uav" else {"middle_joints": True}
    feeder = Feeder(path, modality=STREAMS[stream], subtract_scores=bool(agent), **args)
    assert feeder.num_point == feeder.shape[2] == (20 if body == "coco20" else 17)
    np.testing.assert_allclose(rows(feeder.batch([0], 0))[0], published[f"{body}_{key}"], rtol=1e-6, atol=1e-6)


def write_detections(tmp_path, published, **changes):
    found = {"keypoint": published["k400_keypoint"]}
    (tmp_path / "part_0.pkl").write_bytes(pickle.dumps({"c0": found}))
    record = {"frame_inds": published["k400_frame_inds"], "raw_file": "data/nowhere/part_0.pkl", "total_frames": 99}
    return write_pickle(tmp_path / "k400.pkl", "val", record | changes)


@pytest.mark.parametrize("key", ["j", "bm", "km"])
def test_detections_of_kinetics_become_the_published_clips(tmp_path, published, key):
    path = write_detections(tmp_path, published)
    args = dict(part="test", middle_joints=True, pre_normalize="", sample_first=True, window_size=16, num_clips=3)
    feeder = Feeder(path, modality=STREAMS[key], **args)
    assert feeder.num_person == 2 and feeder.frames.tolist() == [len(np.unique(published["k400_frame_inds"]))]
    np.testing.assert_array_equal(uniform_test(int(feeder.frames[0]), 16, 3), published["k400_frames16x3"])
    expected = published[f"k400_{key}_len16_clips3"]
    np.testing.assert_allclose(rows(feeder.batch([0], 0)), expected, rtol=1e-6, atol=1e-6)


def test_many_detections_of_a_frame_are_sorted_by_their_scores_and_two_are_kept():
    keypoint = np.random.default_rng(0).random((14, 17, 3)).astype(np.float16)
    frame = np.array([7] * 11 + [3] * 3)
    found = persons(frame, keypoint, "here")
    total = keypoint[:, :, 2].sum(1)
    first, second = np.argsort(-total[:11], kind="stable")[:2]
    np.testing.assert_array_equal(found[:, 1], keypoint[[first, second]])
    np.testing.assert_array_equal(found[:, 0], keypoint[11 + np.argsort(-total[11:], kind="stable")[:2]])
    np.testing.assert_array_equal(persons(frame[1:], keypoint[1:], "here")[:, 1], keypoint[[1, 2]])


def test_detections_are_sorted_by_scores_in_half_precision():
    keypoint = np.zeros((11, 17, 3), np.float32)
    keypoint[:, :, 2] = 0.9
    keypoint[1, :, 2], keypoint[:, :, 0] = 0.9001, np.arange(11)[:, None]  # equal in float16
    assert persons(np.zeros(11, int), keypoint, "here")[:, 0, 0, 0].tolist() == [0, 1]


def test_the_size_of_a_picture_is_assumed_only_for_clips_without_one(tmp_path):
    point = {"keypoint": np.full((1, 3, 17, 2), 100, np.float16), "keypoint_score": np.ones((1, 3, 17), np.float16)}
    args = dict(part="test", skeleton="graph.coco", pre_normalize="2d", window_size=3)
    records = {"img_shape": (480, 640)}, {"img_shape": (1080, 1920)}, {"img_shape": None}
    sizes = Feeder(write_pickle(tmp_path / "a.pkl", "val", *(point | record for record in records)), **args)
    x = rows(sizes.batch([0, 1, 2], 0))[:, 0, 0, 0, 0]
    np.testing.assert_allclose(x, [100 / 320 - 1, 100 / 960 - 1, 100 / 960 - 1], atol=1e-6)
    assert sizes.raw_clip(0)[1] == (480, 640) and sizes.raw_clip(2)[1] is None


def test_heatmaps_show_ten_persons_of_a_frame_and_graphs_take_two(tmp_path):
    keypoint = np.zeros((14, 17, 3), np.float16)
    keypoint[:, :, 0] = 20 + 20 * np.arange(14)[:, None]  # side by side
    keypoint[:, :, 1], keypoint[:, :, 2] = 10 * np.arange(17), np.linspace(0.5, 0.9, 14)[:, None]
    (tmp_path / "part.pkl").write_bytes(pickle.dumps({"c0": {"keypoint": keypoint}}))
    path = write_pickle(tmp_path / "k400.pkl", "val", {"frame_inds": np.zeros(14, int), "raw_file": "part.pkl"})
    maps = feeder_heatmap.Feeder(path, part="test", window_size=1, size=64)
    assert maps.num_person == 10 and Feeder(path, part="test", pre_normalize="2d").num_person == 2
    nose = maps.batch([0], 0)["data"][0, 0, 0].amax(0)
    peaks = (nose[1:-1] > nose[:-2]) & (nose[1:-1] >= nose[2:]) & (nose[1:-1] > 0.3)
    assert peaks.sum() == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw_file": 5}, "c0: raw_file: expected the path of a pickle"),
        ({"raw_file": "nowhere.pkl"}, "nowhere.pkl: cannot be read"),
        ({"frame_dir": "c9"}, "part_0.pkl: expected the detections of c9, got None"),
        ({"frame_inds": np.zeros(3, int)}, "c0: frame_inds: expected 71 frame numbers"),
        ({"frame_inds": "x"}, "c0: frame_inds: expected 71 frame numbers, got 'x'"),
    ],
)
def test_detections_that_are_missing_or_damaged_are_refused(tmp_path, published, changes, message):
    with pytest.raises(ValueError, match=message):
        Feeder(write_detections(tmp_path, published, **changes), part="test", pre_normalize="", middle_joints=True)


@pytest.mark.parametrize("content", [[1], {"c0": 5}, {"c0": {}}, {"c0": {"keypoint": np.ones((71, 17))}}])
def test_files_without_detections_are_refused(tmp_path, published, content):
    path = write_detections(tmp_path, published)
    (tmp_path / "part_0.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"part_0.pkl: .*expected (the detections|numbers)"):
        Feeder(path, part="test", pre_normalize="", middle_joints=True)


@pytest.mark.parametrize("key", ["j", "b", "jm", "bm"])
def test_the_normalization_of_mmaction2_is_computed_in_half_precision(tmp_path, key):
    draw = np.random.default_rng(0)
    keypoint = (draw.random((1, 9, 17, 2)) * 1000).astype(np.float16)
    score = draw.random((1, 9, 17)).astype(np.float16)
    score[0, 0] = 0
    path = write_pickle(
        tmp_path / "n.pkl", "val", {"keypoint": keypoint, "keypoint_score": score}, {"keypoint": keypoint.repeat(2, 0)}
    )
    records = pickle.loads(Path(path).read_bytes())
    records["annotations"][1]["keypoint_score"] = score.repeat(2, 0)
    Path(path).write_bytes(pickle.dumps(records))
    x = np.concatenate([keypoint, score[..., None]], -1)  # float16, as are all steps up to the bones
    x[..., 0] = (x[..., 0] - np.float16(960)) / np.float16(960)
    x[..., 1] = (x[..., 1] - np.float16(540)) / np.float16(540)
    if "b" in key:
        start = x[:, :, list(coco.SKELETON.bone_parents)]
        bones = (x - start).astype(np.float32)
        bones[..., 2] = ((x[..., 2] + start[..., 2]) / np.float16(2)).astype(np.float32)
        x = bones
    if "m" in key:
        y = np.zeros_like(x)
        y[:, :-1] = x[:, 1:] - x[:, :-1]
        y[:, :-1, :, 2] = (x[:, 1:, :, 2] + x[:, :-1, :, 2]) / x.dtype.type(2)
        x = y
    args = dict(part="test", skeleton="graph.coco", sampling="uniform_mmaction2", window_size=9)
    feeder = Feeder(path, modality=STREAMS[key], pre_normalize="2d_mmaction2", **args)
    found = rows(feeder.batch([0], 0))[0]
    np.testing.assert_array_equal(found[:1], x.astype(np.float32))
    assert not found[1].any()  # the second person is absent
    single = rows(Feeder(path, modality=STREAMS[key], pre_normalize="2d", **args).batch([0], 0))[0]
    assert not np.array_equal(single[:1], found[:1])


def test_mmaction2_0_loops_the_first_frames_and_takes_a_fixed_picture_size(tmp_path):
    keypoint = np.random.default_rng(0).random((1, 7, 17, 3)).astype(np.float32) * 1000
    records = [{"frame_dir": "a", "label": 0, "keypoint": keypoint, "img_shape": (480, 640)}]
    (tmp_path / "val.pkl").write_bytes(pickle.dumps(records))
    args = dict(part="test", skeleton="graph.coco", sampling="loop", window_size=30)
    feeder = Feeder(str(tmp_path / "val.pkl"), pre_normalize="2d_mmaction2_0", **args)
    expected = (keypoint[0, np.arange(30) % 7] - [960, 540, 0.5]) / [1920, 1080, 1]
    found = rows(feeder.batch([0], 0))[0]
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6)
    assert not found[1].any()
    with pytest.raises(ValueError, match="split: expected '' for .*val.pkl, a list of records without splits"):
        Feeder(str(tmp_path / "val.pkl"), split="xsub", **args)
    with pytest.raises(ValueError, match="num_clips: expected 1 unless"):
        Feeder(str(tmp_path / "val.pkl"), num_clips=10, **args)
