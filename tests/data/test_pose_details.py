"""Details of pose files: units, axes, layouts, ids and frame numbers that follow from the content."""

import csv
import json
import pickle

import numpy as np
import pytest

from data.poses.convert import Body, to_body
from data.poses.read import read
from graph.layouts import find_layout
from graph.skeleton import find_skeleton
from tests.data.test_poses import SIZE, T, as_json, openpose, rows, sleap, triples, walk, yolo


@pytest.mark.parametrize(("numbers", "tracks"), [([7, 9], {"7", "9"}), ([0.8, 0.9], {"1", "2"})])
def test_a_single_number_after_the_joints_of_a_yolo_row_is_an_id_if_it_is_whole(tmp_path, numbers, tracks):
    path = yolo(tmp_path)
    for file in path.iterdir():
        found = [line.split()[:56] for line in file.read_text().splitlines()]
        file.write_text("\n".join(" ".join([*row, str(n)]) for row, n in zip(found, numbers, strict=True)))
    ((_, recording),) = read(path)
    assert set(recording.tracks) == tracks


def test_the_body_of_136_halpe_joints_is_used(tmp_path):
    found = [{"image_id": f"{t}.jpg", "keypoints": triples(p), "idx": 1} for t, p in enumerate(walk(136, 1)[0])]
    ((_, recording),) = read(as_json("alphapose", found)(tmp_path))
    assert recording.facts.layout == "halpe_26" and "first 26 of 136 joints" in recording.facts.guessed[0]
    np.testing.assert_allclose(recording.points[0], walk(136, 1)[0][:, :26])
    assert recording.score.shape == (1, T, 26)


@pytest.mark.parametrize("scale", [3, 4])
def test_openpose_coordinates_relative_to_the_image_are_shares(tmp_path, scale):
    path = openpose(tmp_path, 17)
    for file in path.iterdir():
        content = json.loads(file.read_text())
        for person in content["people"]:
            flat = np.reshape(person["pose_keypoints_2d"], (17, 3))
            flat[:, :2] = flat[:, :2] / SIZE if scale == 3 else 2 * flat[:, :2] / SIZE - 1
            person["pose_keypoints_2d"] = flat.ravel().tolist()
        file.write_text(json.dumps(content))
    ((_, recording),) = read(path)
    points = recording.points[np.argsort(recording.points[:, 0, 0, 0])]
    assert recording.facts.units == "share" and "1 across the image" in recording.facts.guessed[0]
    np.testing.assert_allclose(points * SIZE, walk(17), atol=0.01)


@pytest.mark.parametrize("scale", [(1, 1), SIZE])
def test_openpose_frames_in_one_file_have_the_size_of_the_canvas(tmp_path, scale):
    points = walk(18) / np.float32(scale)
    people = [[{"pose_keypoints_2d": triples(p)} for p in frame] for frame in points.swapaxes(0, 1)]
    frames = [{"people": found, "canvas_width": int(SIZE[0]), "canvas_height": int(SIZE[1])} for found in people]
    ((_, recording),) = read(as_json("dwpose", [{**frames[0], "people": []}, *frames])(tmp_path))
    facts = recording.facts
    assert (facts.layout, facts.units) == ("openpose_18", "px" if scale == (1, 1) else "share")
    assert facts.image_size == tuple(SIZE) and not recording.seen[:, 0].any()
    found = recording.points[np.argsort(recording.points[:, 1, 0, 0]), 1:]
    np.testing.assert_allclose(found, points, rtol=1e-5)


@pytest.mark.parametrize(
    ("dims", "names", "layout"),
    [
        (2, find_layout("coco_17").skeleton.joints, "coco_17"),
        (2, find_layout("coco_17").skeleton.joints[::-1], None),
        (3, find_layout("h36m_17").skeleton.joints, "h36m_17"),
        (3, (), None),
    ],
)
def test_names_of_joints_in_an_mmpose_file_have_priority_over_their_number_and_depth_is_kept(
    tmp_path, dims, names, layout
):
    points = np.concatenate([walk(17, 1)[0], np.ones((T, 17, 1))], 2)[..., :dims]
    found = [{"frame_id": t, "instances": [{"keypoints": points[t].tolist()}]} for t in range(T)]
    meta = {"keypoint_id2name": {str(i): name for i, name in enumerate(names)}}
    ((_, recording),) = read(as_json("m", {"meta_info": meta, "instance_info": found})(tmp_path))
    facts = recording.facts
    assert (facts.layout, facts.joints) == (layout, tuple(names))
    assert (facts.axes, facts.units) == (("image", "px") if dims == 2 else ("camera", "unknown"))
    if names:
        body = to_body(recording, Body(find_skeleton("graph.coco" if dims == 2 else "h36m_17"), dims == 2))
        place = names.index("left hip")
        assert dims == 3 or np.array_equal(body.points[0, :, 11], points[:, place])
        assert dims == 2 or body.points[..., 2].all()
    else:
        with pytest.raises(ValueError, match="expected a layout with a map to .*; give --layout"):
            to_body(recording, Body(find_skeleton("graph.ntu_rgb_d"), is_flat=False))


def test_animals_of_a_sleap_table_without_tracks_are_tracked(tmp_path):
    path, points = sleap(tmp_path), walk(3)
    head, *found = csv.reader(path.read_text().splitlines())
    both = [[["", t, 0.9, *triples(p[t])] for p in points[:: 1 if t % 2 else -1]] for t in range(T)]
    ((_, one),) = read(rows(path, [head], [["", *row[1:]] for row in found]))
    ((_, two),) = read(rows(path, [head], sum(both, [])))
    assert one.points.shape == (1, T, 3, 2) and not one.facts.guessed
    np.testing.assert_allclose(two.points[np.argsort(two.points[:, 0, 0, 0])], points, atol=1e-3)


def test_columns_may_have_dots_in_their_names_and_frame_numbers_any_spelling(tmp_path):
    for head in ("R.Heel_x,Frame,R.Heel_y", "R.Heel.x,frame_idx,R.Heel.y"):
        (tmp_path / "c.csv").write_text(f"{head}\n1,10,2\n3,12,4\n")
        ((_, recording),) = read(tmp_path / "c.csv")
        assert recording.facts.joints == ("R.Heel",) and recording.frames.tolist() == [10, 11, 12]
        assert np.array_equal(recording.points[0, :, 0], [[1, 2], [np.nan] * 2, [3, 4]], equal_nan=True)


def test_the_fixed_format_of_pandas_is_refused_with_a_solution(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "fixed.h5", "w") as file:
        file.create_group("df_with_missing").attrs["pandas_type"] = "frame"
    with pytest.raises(ValueError, match="fixed.h5: expected a DeepLabCut table, .* packages pandas and tables: "):
        read(tmp_path / "fixed.h5")


def test_the_kind_of_landmarks_follows_from_their_usual_range_not_from_single_joints(tmp_path):
    image = np.concatenate([walk(33, 1)[0] / SIZE, np.full((T, 33, 1), 0.1)], 2)
    outside, scale = image.copy(), np.array([*SIZE, 1])
    outside[2, 31, 1] = 3.2  # an ankle below the image
    world = image - (image[:, 23:24] + image[:, 24:25]) / 2
    world[3, 23] += 0.1  # a frame with a wrong hip
    mocap = 1000 * (image + 1)
    for name, points in {
        "outside": outside,
        "world": world,
        "pixels": image[..., :2] * SIZE,
        "depth": image * scale,
        "mocap": mocap,
        "no": image + (5, 5, 0),
    }.items():
        np.save(tmp_path / f"{name}.npy", points)
    units = {"outside": "share", "world": "m", "pixels": "px", "depth": "px", "mocap": "mm"}
    assert {name: read(tmp_path / f"{name}.npy")[0][1].facts.units for name in units} == units
    with pytest.raises(ValueError, match="expected landmarks of MediaPipe or FreeMoCap, got coordinates of about 5"):
        read(tmp_path / "no.npy")


def test_axes_that_the_file_does_not_state_are_those_of_its_layout_and_are_noted(tmp_path):
    points = np.random.default_rng(0).normal(size=(T, 33, 3))
    np.savez(tmp_path / "layout.npz", keypoint=points, layout=np.array("mediapipe_pose_33"))
    np.savez(tmp_path / "plain.npz", keypoint=points)
    np.savez(tmp_path / "stated.npz", keypoint=points, layout=np.array("mediapipe_pose_33"), axes=np.array("y_up"))
    heads = {name: find_layout(name).skeleton.joints for name in ("azure_kinect_32", "kinect_v2_25")} | {"own": "ab"}
    for name, joints in heads.items():
        head = [f"{joint}_{axis}" for joint in joints for axis in "xyz"]
        rows(tmp_path / f"{name}.csv", [head], points.reshape(-1)[: 2 * len(head)].reshape(2, -1))
    found = {path.stem: read(path)[0][1].facts for path in tmp_path.iterdir()}
    assert {name: facts.axes for name, facts in found.items()} == {
        "layout": "camera",
        "plain": "kinect",
        "stated": "y_up",
        "azure_kinect_32": "camera",
        "kinect_v2_25": "kinect",
        "own": "kinect",
    }
    assert [name for name, facts in found.items() if "does not state its axes" not in str(facts.guessed)] == ["stated"]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 263), "features"),
        ((2, 22, 3, 4), "motion generator"),
        ((2, 3, 4, 25, 2), "prepared clips"),
        ((4, 543, 3), "Holistic"),
        ((4, 1662), "Holistic"),
    ],
)
def test_arrays_of_other_kinds_are_refused_by_their_names(tmp_path, shape, words):
    np.save(tmp_path / "a.npy", np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=f"a.npy: expected .*, got .*{words}"):
        read(tmp_path / "a.npy")


def test_prepared_clips_in_an_npz_file_are_named_and_its_frames_keep_their_numbers(tmp_path):
    np.savez(tmp_path / "ntu.npz", x_train=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="prepared clips of NTU"):
        read(tmp_path / "ntu.npz")
    facts = {"score": np.ones((1, 2, 17)), "layout": np.array("coco_17")}
    np.savez(tmp_path / "a.npz", keypoint=walk(persons=1)[:, :2], frames=np.array([10, 12]), **facts)
    ((_, recording),) = read(tmp_path / "a.npz")
    assert recording.frames.tolist() == [10, 11, 12] and recording.seen.tolist() == [[True, False, True]]
    assert np.array_equal(recording.points[0, [0, 2]], walk(persons=1)[0, :2])
    assert recording.score[0, :, 0].tolist() == [1, 0, 1]


def test_25_joints_of_a_pickle_are_those_of_ntu_only_in_3d(tmp_path):
    for dims, layout in ((2, "openpose_body_25b"), (3, "kinect_v2_25")):
        points = np.concatenate([walk(25), np.ones((2, T, 25, 1))], 3)[..., :dims]
        (tmp_path / "a.pkl").write_bytes(pickle.dumps([{"frame_dir": "a", "keypoint": points}]))
        ((_, recording),) = read(tmp_path / "a.pkl")
        assert recording.facts.layout == layout and (dims == 3 or "position of joint 1" in recording.facts.guessed[0])
