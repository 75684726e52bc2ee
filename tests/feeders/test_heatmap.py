"""Heatmaps equal the records of the published pipeline (PYSKL; mmaction2 where it differs) step by step.

In golden/heatmaps.npz are clips a to d, what each step makes of them, the random numbers of two trainings of each, and
the first two frames of the maps.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from feeders import feeder_heatmap, heatmaps
from feeders.feeder_heatmap import Feeder
from feeders.random_numbers import RandomNumbers
from feeders.sampling import uniform_test
from graph import coco
from tests.feeders.synthetic import random_clips, write_store

BODY = coco.SKELETON
SIDES = {"joint": (BODY.left, BODY.right), "limb": (coco.LEFT_LIMBS, coco.RIGHT_LIMBS)}
TOLERANCE = {"joint": 1e-6, "limb": 5e-6}
SPLIT = {"train": ["b", "d"], "val": ["a", "b", "d"]}


@pytest.fixture(scope="module")
def record():
    with np.load(Path(__file__).parent / "golden" / "heatmaps.npz") as file:
        return dict(file)


@pytest.fixture
def poses(record, pickle_file):
    """The clips a, b and d as a file; c has coordinates that are not finite."""
    rows = [
        {"frame_dir": name, "label": i, "keypoint": record[f"{name}/keypoint"]}
        | {"keypoint_score": record[f"{name}/score"], "img_shape": tuple(record[f"{name}/img_shape"].tolist())}
        for i, name in enumerate("abd")
    ]
    return str(pickle_file(rows, SPLIT))


def read(record, name, frames):
    """Points (1, 2, T, V, M) and scores (1, T, V, M) of frames of a recorded clip, and its size."""
    points, score = (record[f"{name}/{key}"][:, frames].astype(np.float32) for key in ("keypoint", "score"))
    size = torch.from_numpy(record[f"{name}/img_shape"])[None]
    return torch.from_numpy(points).permute(3, 1, 2, 0)[None], torch.from_numpy(score).permute(1, 2, 0)[None], size


def assert_points(found, size, record, step):
    points = found[0].permute(3, 1, 2, 0).numpy()
    np.testing.assert_array_equal(points, record[f"{step}/keypoint"], step)
    if size is not None:
        np.testing.assert_array_equal(size[0].numpy(), record[f"{step}/img_shape"], step)


def assert_maps(found, record, key, kind):
    np.testing.assert_allclose(found.numpy(), record[key], rtol=0, atol=TOLERANCE[kind], err_msg=key)


@pytest.mark.parametrize("name", "abcd")
def test_steps_of_a_test_equal_the_records_bit_for_bit(record, name):
    points, _, size = read(record, name, record[f"{name}/eval/inds"])
    boxed, size = heatmaps.compact(points, size)
    assert_points(boxed, size, record, f"{name}/eval/compact")
    assert_points(*heatmaps.resize(boxed, size, 64, 64), record, f"{name}/eval/resize")
    kept, size = heatmaps.resize_short(boxed, size, 64)
    assert_points(kept, size, record, f"{name}/mm/resize")
    assert_points(*heatmaps.center_crop(kept, size, 64), record, f"{name}/mm/crop")


@pytest.mark.parametrize("name", "abcd")
@pytest.mark.parametrize("seed", [0, 4])
def test_steps_of_a_training_equal_the_records_bit_for_bit(record, name, seed):
    run = f"{name}/train{seed}"
    points, score, size = read(record, name, record[f"{run}/inds"])
    points, size = heatmaps.compact(points, size)
    points, size = heatmaps.resize_short(points, size, 64)
    assert_points(points, size, record, f"{run}/resize")
    begin, end = torch.from_numpy(record[f"{run}/box"]).split(2)
    place = (begin + 0.5) / (size[0].flip(0) - (end - begin) + 1)  # the random number in the middle of its interval
    points, size = heatmaps.random_crop(points, size, torch.from_numpy(record[f"{run}/u"])[None], place[None])
    assert_points(points, size, record, f"{run}/crop")
    points, size = heatmaps.resize(points, size, 56, 56)
    assert_points(points, None, record, f"{run}/resize56")
    act = torch.from_numpy(record[f"{run}/flipped"])[None]
    points, score = heatmaps.flip(points, score, 56, act, BODY.left, BODY.right)
    assert_points(points, None, record, f"{run}/flip")
    np.testing.assert_array_equal(score[0].permute(2, 0, 1), record[f"{run}/flip/keypoint_score"])
    if f"{run}/joint" in record:
        maps = heatmaps.joint_maps(points, score, 56, 56, 1e-3)
        assert_maps(maps[:, :, :2], record, f"{run}/joint", "joint")
        maps = heatmaps.limb_maps(points, score, coco.LIMBS, 56, 56, 1e-3)
        assert_maps(maps[:, :, :2], record, f"{run}/limb", "limb")


def test_boxes_of_every_setting_equal_the_records(record):
    cases = json.loads(str(record["meta"]))["compact_cases"]
    assert len(cases) == 24
    for i, (ratio, beyond) in enumerate(cases):
        points = torch.from_numpy(record[f"compact/{i}/in"]).permute(3, 1, 2, 0)[None]
        ratio = ratio if ratio is None or isinstance(ratio, list) else [ratio, ratio]
        assert_points(*heatmaps.compact(points, torch.tensor([[240, 320]]), ratio, beyond), record, f"compact/{i}")


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("joint_f4", {}),
        ("limb_f4", {}),
        ("limb_f8", {"dtype": torch.float64}),
        ("limb_default_f8", {"dtype": torch.float64, "limbs": coco.LIMBS_DEFAULT}),
        ("joint_noscore", {"score": 1}),
        ("limb_noscore", {"score": 1}),
        ("joint_sigma07_scaling05", {"scale": 0.5, "height": 7, "width": 10, "sigma": 0.7}),
        ("mm_joint", {"threshold": 1e-4}),
    ],
)
def test_maps_of_joints_on_all_borders_and_thresholds_equal_the_records(record, key, options):
    points = torch.from_numpy(record["target/keypoint"]).permute(3, 1, 2, 0)[None]
    score = torch.from_numpy(record["target/score"]).permute(1, 2, 0)[None]
    score = torch.ones_like(score) if "score" in options else score
    points = points.to(options.get("dtype", torch.float32)) * options.get("scale", 1)
    kind = "limb" if "limb" in key else "joint"
    draw = heatmaps.joint_maps if kind == "joint" else heatmaps.limb_maps
    limbs = () if kind == "joint" else (options.get("limbs", coco.LIMBS),)
    more = {name: options[name] for name in ("sigma",) if name in options}
    size = options.get("height", 12), options.get("width", 20), options.get("threshold", 1e-3)
    assert_maps(draw(points, score, *limbs, *size, **more)[0].transpose(0, 1), record, f"target/{key}", kind)


def test_limbs_drawn_in_parts_equal_those_drawn_at_once(record, monkeypatch):
    points, score, _ = read(record, "b", slice(0, 5))
    whole = heatmaps.limb_maps(points / 30, score, coco.LIMBS, 40, 64, 1e-3)
    monkeypatch.setattr(heatmaps, "CHUNK", 2 * 17 * 40 * 64)
    assert torch.equal(heatmaps.limb_maps(points / 30, score, coco.LIMBS, 40, 64, 1e-3), whole) and whole.max() > 0.5


@pytest.mark.parametrize("name", "abcd")
def test_test_frames_equal_the_records(record, name):
    T = record[f"{name}/keypoint"].shape[1]
    np.testing.assert_array_equal(uniform_test(T, 48, 10), record[f"{name}/inds_48_10"])
    np.testing.assert_array_equal(uniform_test(T, 48, 10, draw_share=False), record[f"{name}/mm_inds_48_10"])


@pytest.mark.parametrize("kind", ["joint", "limb"])
def test_the_rows_of_a_tested_clip_are_its_samples_and_then_their_mirror_images(record, poses, kind):
    feeder = Feeder(poses, part="test", modality=kind, window_size=8, num_clips=2, mirror=True)
    batch = feeder.batch([1, 2], 0)
    assert batch["clips"] == 4 and batch["data"].shape == (8, *feeder.shape) and batch["label"].tolist() == [1, 2]
    for rows, name in zip(batch["data"].split(4), "bd", strict=True):
        assert_maps(rows[:, :, :2], record, f"{name}/eval/{kind}", kind)
    mirrored = heatmaps.mirror_maps(batch["data"][:2], *SIDES[kind])
    assert torch.equal(mirrored, batch["data"][2:4]) and not torch.equal(mirrored, batch["data"][:2])


def test_the_pipeline_of_mmaction2_gives_its_maps(record, poses):
    feeder = Feeder(poses, part="test", window_size=8, num_clips=2, pipeline="mmaction2")
    draws = uniform_test(60, 8, 2, draw_share=False)
    assert not np.array_equal(draws, record["a/eval/inds"])
    feeder.sample = lambda length, random: torch.from_numpy(record["a/eval/inds"])[None]  # as in the record
    assert_maps(feeder.batch([0], 0)["data"][:, :, :2], record, "a/mm/joint", "joint")


def test_maps_of_any_size_show_the_whole_box_with_the_pipeline_of_mmaction2(poses, record):
    points = torch.from_numpy(record["a/keypoint"])[None].float().permute(0, 4, 2, 3, 1)  # (1, 2, T, V, M)
    size = torch.from_numpy(record["a/img_shape"])[None].long()
    placed = [
        Feeder(poses, part="test", size=side, pipeline="mmaction2").place(points, points[:, 0], size, None)[0]
        for side in (64, 32)
    ]
    seen = (points != 0).all(1, keepdim=True).expand_as(points)
    assert torch.allclose(placed[0][seen], 2 * placed[1][seen], atol=1)  # up to a pixel of the central crop


def test_training_batches_keep_the_contract_and_both_streams_show_the_same_poses(poses):
    feeder = Feeder(poses, window_size=4, size=16, repeat=3, also=["limb"])
    batch = feeder.batch([0, 1, 4], 2)
    assert batch["data"].shape == (3, *feeder.shape) == (3, 17, 4, 16, 16) and "clips" not in batch
    assert batch["data"].dtype == torch.float32 and batch["data"].is_contiguous() and batch["data"].max() > 0.3
    limbs = Feeder(poses, window_size=4, size=16, repeat=3, modality="limb")
    assert torch.equal(batch["data_limb"], limbs.batch([0, 1, 4], 2)["data"])
    assert torch.equal(batch["data"][2], feeder.batch([4], 2)["data"][0])
    assert not torch.equal(batch["data"][2], batch["data"][0]) and not torch.equal(
        batch["data"], feeder.batch([0, 1, 4], 3)["data"]
    )


def test_crops_are_uniform_within_the_picture_and_fit_into_it():
    N = 4000
    random = RandomNumbers(0, 0, torch.arange(N))
    points, size = torch.ones(N, 2, 1, 1, 1), torch.tensor([[64, 80]]).expand(N, 2)
    moved, found = heatmaps.random_crop(points, size, random.uniform(20), random.uniform(2))
    left, top = (1 - moved[:, i, 0, 0, 0] for i in (0, 1))
    assert ((left >= 0) & (left + found[:, 1] <= 80) & (top >= 0) & (top + found[:, 0] <= 64)).all()
    share = found.prod(1) / (64 * 80)
    assert share.min() > 0.54 and share.max() < 1.02
    reach = (80 - found[:, 1])[found[:, 1] < 70]
    assert abs(float((left[found[:, 1] < 70] / reach).mean()) - 0.5) < 0.02


def test_the_square_in_the_middle_is_cut_where_no_random_part_fits():
    points, size = torch.ones(1, 2, 1, 1, 1), torch.tensor([[10, 40]])
    u = torch.ones(1, 20, dtype=torch.float64)  # wide and large: 1.33 x the square root of 400 is higher than 10
    moved, found = heatmaps.random_crop(points, size, u, torch.zeros(1, 2))
    assert found.tolist() == [[10, 10]] and moved.flatten().tolist() == [1 - 15, 1]


def test_classes_that_count_twice_are_twice_in_an_epoch_of_the_training_only(poses):
    plain = Feeder(poses, window_size=4, size=16)
    feeder = Feeder(poses, window_size=4, size=16, repeat=2, twice=[2, 3])
    assert plain.label.tolist() == [1, 2] and feeder.label.tolist() == [1, 2, 2] and len(feeder) == 6
    batch = feeder.batch([1, 2], 0)
    assert batch["label"].tolist() == [2, 2] and not torch.equal(*batch["data"])
    assert Feeder(poses, part="test", twice=[0, 3]).label.tolist() == [0, 1, 2]


def test_classes_that_count_twice_keep_soft_labels_and_groups(poses, monkeypatch):
    clips = feeder_heatmap.BatchFeeder(poses).clips
    clips.target, clips.group = np.eye(3, dtype=np.float32)[clips.label], np.array(["s1", "s2"])
    monkeypatch.setattr("feeders.batch_feeder.open_part", lambda *args, **options: clips)
    feeder = Feeder(poses, window_size=4, size=16, twice=[2, 3])
    assert feeder.group.tolist() == ["s1", "s2", "s2"] and feeder.target.argmax(1).tolist() == [1, 2, 2]
    assert feeder.batch([2], 0)["label"].shape[0] == 1


def test_absent_joints_of_poses_without_scores_are_not_drawn(record, pickle_file):
    row = {"frame_dir": "x", "label": 0, "keypoint": record["b/keypoint"], "img_shape": (480, 640)}
    feeder = Feeder(str(pickle_file([row], {"val": ["x"]})), part="test", window_size=3)
    row["keypoint"][:, :, 4] = 0
    without = Feeder(str(pickle_file([row], {"val": ["x"]}, "y.pkl")), part="test", window_size=3)
    assert feeder.channels == 2 and (feeder.batch([0], 0)["data"].amax((2, 3, 4)) > 0.5).all()
    assert without.batch([0], 0)["data"][0, 4].max() == 0


@pytest.mark.parametrize(
    ("change", "arguments", "text"),
    [
        ({"img_shape": None}, {}, "expected poses in pixels and the image size of every clip .* got none"),
        ({"keypoint": 25}, {}, "expected 2-D poses .* got 3 channels of ntu_rgb_d; project 3-D joints"),
        ({"keypoint": 20}, {}, "expected 2-D poses .* got 3 channels of ucla; project 3-D joints"),
        ({"keypoint": 18}, {"modality": "limb"}, "modality: expected joint for the skeleton kinetics, got limb"),
        ({}, {"modality": "bone"}, "modality: expected joint or limb, got 'bone'"),
        ({}, {"append_joints": True}, "append_joints, relative: expected neither with heatmaps, got at least one"),
        ({}, {"part": "train", "num_clips": 2}, "num_clips, mirror: expected 1 and false for the training part"),
        ({}, {"twice": [3]}, r"twice: expected \[first class, last class \+ 1\], got \[3\]"),
        ({}, {"size": 4}, "size: expected an integer from 8 to 1024, got 4"),
    ],
)
def test_data_and_arguments_that_give_no_heatmaps_are_one_line_errors(pickle_file, change, arguments, text):
    clip = random_clips([9], change.get("keypoint", 17))[0][0]
    row = {"frame_dir": "x", "label": 0, "keypoint": clip, "img_shape": (480, 640)}
    if clip.shape[2] == 17:
        row |= {"keypoint": clip[..., :2], "keypoint_score": clip[..., 2]}
    row |= {key: value for key, value in change.items() if key != "keypoint"}
    file = pickle_file([row], {"val": ["x"], "train": ["x"]})
    with pytest.raises(ValueError, match=text) as error:
        Feeder(str(file), **{"part": "test"} | arguments)
    assert "\n" not in str(error.value)


def test_a_clip_without_the_size_of_its_picture_is_refused(record, pickle_file):
    row = {"frame_dir": "x", "label": 0, "keypoint": record["b/keypoint"], "img_shape": (480, 640)}
    other = {key: value for key, value in (row | {"frame_dir": "y"}).items() if key != "img_shape"}
    with pytest.raises(ValueError, match="the image size of every clip"):
        Feeder(str(pickle_file([row, other], {"val": ["x", "y"]})), part="test")


def test_stores_without_sizes_of_pictures_are_refused(tmp_path):
    clips, persons = random_clips([9, 9], 17)
    store = write_store(tmp_path / "x.clips", clips, [0, 1], persons, {"a": {"train": [0], "test": [1]}})
    with pytest.raises(ValueError, match="the image size of every clip"):
        Feeder(str(store), "a", "test")


def test_clips_in_memory_are_drawn_like_those_of_a_file(record, poses):
    clip = np.concatenate([record["b/keypoint"], record["b/score"][..., None]], -1).astype(np.float32)
    arguments = {"part": "test", "window_size": 8, "num_clips": 2}
    size = tuple(record["b/img_shape"].tolist())
    feeder = Feeder.from_clips([clip], {"skeleton": "graph.coco"}, [size], **arguments)
    assert torch.equal(feeder.batch([0], 0)["data"], Feeder(poses, **arguments).batch([1], 0)["data"])
    with pytest.raises(ValueError, match="--image-size WIDTH HEIGHT"):
        Feeder.from_clips([clip], {"skeleton": "graph.coco"}, [None], **arguments)


def test_the_tables_of_limbs_are_consistent():
    assert set(coco.LIMBS) == set(coco.LIMBS_DEFAULT) and len(coco.LIMBS) == 17
    swap = heatmaps.swapped(17, BODY.left, BODY.right)
    for limbs, left, right in feeder_heatmap.LIMBS.values():
        assert [tuple(swap[joint] for joint in limbs[i]) for i in left] == [limbs[i] for i in right]
