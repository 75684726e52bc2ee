"""Pose files of other programs: recognized by their content, read to the same points, or refused with a reason."""

import csv
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data.poses.convert import Body, to_body
from data.poses.parts import complete
from data.poses.read import is_recording, read
from data.poses.recording import Detection, Detections, Facts, Recording
from data.poses.sides import MIRRORED
from data.poses.tracking import track
from graph.layouts import find_layout
from graph.skeleton import find_skeleton

T, SIZE = 12, (960, 540)


def walk(V: int = 17, persons: int = 2) -> np.ndarray:
    """(M, T, V, 2) pixels: bodies side by side that sway; every joint lies elsewhere."""
    draw = np.random.default_rng(V)
    body = draw.uniform(-1, 1, (V, 2)) * (40, 120)
    sway = np.sin(np.arange(T) / 4)[:, None, None] * (6, 0)
    return np.stack([body + sway + (200 + 300 * m, 270) for m in range(persons)]).astype(np.float32)


def triples(points: np.ndarray) -> list[float]:
    """x, y, c of one person, flat."""
    return np.concatenate([points, np.full((len(points), 1), 0.9)], 1).ravel().tolist()


def openpose(folder: Path, V: int = 25) -> Path:
    points = walk(V)
    if V == 25:
        points[:, :, 1] = (points[:, :, 2] + points[:, :, 5]) / 2
    path = folder / "openpose"
    path.mkdir()
    for t in range(T):
        people = [{"person_id": [-1], "pose_keypoints_2d": triples(p[t])} for p in points[:: 1 if t % 2 else -1]]
        (path / f"v_{t:012}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))
    return path


def entries(**extra) -> list[dict]:
    return [
        {"image_id": t, "category_id": 1, "keypoints": triples(p[t]), "score": 0.9}
        | {k: f(m, t) for k, f in extra.items()}
        for t in range(T)
        for m, p in enumerate(walk())
    ]


def as_json(name: str, value):
    def write(folder: Path) -> Path:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(value))
        return path

    return write


def instances(t: int) -> list[dict]:
    return [{"keypoints": p[t].tolist(), "keypoint_scores": [0.9] * 17, "bbox_score": 0.9} for p in walk()]


def ultralytics() -> list:
    return [
        [
            {
                "name": "person",
                "box": {"x1": 0.0},
                "confidence": 0.9,
                "track_id": m + 1,
                "keypoints": {"x": p[t, :, 0].tolist(), "y": p[t, :, 1].tolist(), "visible": [0.9] * 17},
            }
            for m, p in enumerate(walk())
        ]
        for t in range(T)
    ]


def yolo(folder: Path) -> Path:
    path = folder / "labels"
    path.mkdir()
    for t in range(T):
        rows = [[0, 0.5, 0.5, 0.1, 0.1, *triples(p[t] / SIZE), 0.9, m + 1] for m, p in enumerate(walk())]
        (path / f"v_{t + 1}.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    return path


def pyskl(folder: Path) -> Path:
    points = walk()
    clip = {"frame_dir": "a", "label": 0, "img_shape": (540, 960), "total_frames": T, "keypoint": points}
    clip["keypoint_score"] = np.full(points.shape[:3], 0.9, np.float32)
    path = folder / "clips.pkl"
    path.write_bytes(pickle.dumps({"split": {"train": ["a"]}, "annotations": [clip]}))
    return path


def npz(folder: Path) -> Path:
    np.savez(folder / "own.npz", keypoint=walk(), layout=np.array("coco_17"), rate=np.array(30.0))
    return folder / "own.npz"


TWO = {  # persons of the first 17 joints of `walk`, in pixels
    "openpose": lambda folder: openpose(folder, 17),
    "alphapose": as_json("alphapose", entries(idx=lambda m, t: [float(m)], image_id=lambda m, t: f"{t}.jpg")),
    "coco": as_json("coco", entries()),
    "mmpose_video": as_json(
        "m", {"meta_info": {}, "instance_info": [{"frame_id": t + 1, "instances": instances(t)} for t in range(T)]}
    ),
    "mmpose_inferencer": as_json("m", [{"frame_id": t, "instances": instances(t)} for t in range(T)]),
    "ultralytics": as_json("u", ultralytics()),
    "yolo": yolo,
    "pyskl": pyskl,
    "npz": npz,
}


@pytest.mark.parametrize("write", [openpose, yolo])
def test_frames_of_several_videos_in_one_folder_are_one_recording_each(tmp_path, write):
    path = write(tmp_path)
    ((_, alone),) = read(path)
    for file in list(path.iterdir()):
        if int(file.stem.split("_")[1]) <= T // 2:
            (path / file.name.replace("v_", "other.take-")).write_bytes(file.read_bytes())
    (first, other), (second, v) = read(path)
    frames = other.points.shape[1]
    assert (first, second, frames) == ("other.take", "v", T // 2 + (write is openpose))  # which counts from 0
    np.testing.assert_array_equal(v.points, alone.points)
    np.testing.assert_array_equal(other.points, alone.points[:, :frames])


@pytest.mark.parametrize("write", [openpose, yolo])
def test_hidden_files_of_a_folder_are_not_read(tmp_path, write):
    path = write(tmp_path)
    ((_, expected),) = read(path)
    for suffix in (".json", ".txt"):
        (path / f"._v_1{suffix}").write_bytes(b"\0")
    ((_, found),) = read(path)
    np.testing.assert_array_equal(found.points, expected.points)


def test_frames_whose_number_is_not_the_last_one_of_the_name_are_one_recording(tmp_path):
    path = openpose(tmp_path)
    ((_, expected),) = read(path)
    for file in list(path.iterdir()):
        file.rename(path / f"{file.stem}_view1.json")
    ((_, found),) = read(path)
    np.testing.assert_array_equal(found.points, expected.points)


@pytest.mark.parametrize("form", TWO)
def test_two_people_have_the_same_points_in_every_format(tmp_path, form):
    ((_, recording),) = read(TWO[form](tmp_path))
    points = recording.points * SIZE if recording.facts.units == "share" else recording.points
    order = np.argsort(np.nanmean(points[..., 0], (1, 2)))
    assert recording.points.shape == (2, T, 17, 2)
    np.testing.assert_allclose(points[order], walk(), atol=0.01)
    assert recording.facts.layout == "coco_17"


def test_body_25_and_body_25b_are_distinguished_by_the_position_of_the_neck(tmp_path):
    ((_, recording),) = read(openpose(tmp_path))
    assert recording.facts.layout == "openpose_body_25"
    for file in (tmp_path / "openpose").iterdir():
        content = json.loads(file.read_text())
        for person in content["people"]:
            person["pose_keypoints_2d"][4] -= 60  # joint 1 is no longer between the shoulders
        file.write_text(json.dumps(content))
    ((_, recording),) = read(tmp_path / "openpose")
    assert recording.facts.layout == "openpose_body_25b"


def rows(path: Path, head: list[list], body) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([*head, *body])
    return path


def deeplabcut(folder: Path) -> Path:
    points = walk(3, 1)[0]
    names = ["head", "wing", "tail"]
    head = [["scorer", *["net"] * 9], ["bodyparts", *np.repeat(names, 3)], ["coords", *["x", "y", "likelihood"] * 3]]
    return rows(folder / "d.csv", head, [[t + 42150, *triples(points[t])] for t in range(T)])


def sleap(folder: Path) -> Path:
    points = walk(3, 1)[0]
    head = [
        "track",
        "frame_idx",
        "instance.score",
        *(f"{n}.{w}" for n in ("head", "wing", "tail") for w in ("x", "y", "score")),
    ]
    return rows(folder / "s.csv", [head], [["a", t, 0.9, *triples(points[t])] for t in range(T)])


def columns(folder: Path) -> Path:
    points = walk(3, 1)[0]
    head = ["frame", *(f"{n}_{w}" for n in ("head", "wing", "tail") for w in "xy")]
    return rows(folder / "c.csv", [head], [[t, *points[t].ravel()] for t in range(T)])


@pytest.mark.parametrize("write", [deeplabcut, sleap, columns])
def test_tables_of_one_animal_are_read_with_the_names_of_their_points(tmp_path, write):
    ((_, recording),) = read(write(tmp_path))
    assert recording.facts.joints == ("head", "wing", "tail") and recording.frames[0] in (0, 42150)
    np.testing.assert_allclose(recording.points[0], walk(3, 1)[0], atol=1e-3)


def test_points_of_a_low_likelihood_are_not_seen(tmp_path):
    path = deeplabcut(tmp_path)
    path.write_text(path.read_text().replace("0.9", "0.5", 1))
    ((_, recording),) = read(path)
    assert np.isnan(recording.points[0, 0, 0]).all() and np.isfinite(recording.points[0, 1:]).all()


def test_mediapipe_is_read_from_arrays_tables_and_json_and_world_landmarks_are_distinguished_from_image_landmarks(
    tmp_path,
):
    image = np.concatenate([walk(33, 1)[0] / SIZE, np.zeros((T, 33, 1))], 2).astype(np.float32)
    world = image - (image[:, 23:24] + image[:, 24:25]) / 2
    full = np.concatenate([image, np.full((T, 33, 1), 0.9)], 2).astype(np.float32)
    full[3] = 0  # nobody
    np.save(tmp_path / "flat.npy", full.reshape(T, 132))
    np.save(tmp_path / "world.npy", world.astype(np.float32))
    marks = [[dict(zip("xyz", map(float, p), strict=True)) | {"visibility": 0.9} for p in frame] for frame in world]
    content = [
        {"frame": t, "timestamp_ms": 40 * t, "pose_world_landmarks": marks[t], "pose_landmarks": marks[t]}
        for t in range(T)
    ]
    as_json("dump", content)(tmp_path)
    head = [f"{axis}{v + 1}" for v in range(33) for axis in "xyzv"]
    rows(tmp_path / "decoder.csv", [["class", *head]], [["dance", *full[t].ravel()] for t in range(4, T)])
    found = {path.name: read(path)[0][1] for path in sorted(tmp_path.iterdir())}
    assert {r.facts.layout for r in found.values()} == {"mediapipe_pose_33"}
    assert {name: r.facts.units for name, r in found.items()} == {
        "decoder.csv": "share",
        "dump.json": "m",
        "flat.npy": "share",
        "world.npy": "m",
    }
    assert np.isnan(found["flat.npy"].points[0, 3]).all() and found["dump.json"].facts.rate == 25
    np.testing.assert_allclose(found["flat.npy"].points[0, 4:], image[4:])


@pytest.mark.parametrize("key", ["timestamp_usec", "frame_id"])
def test_frames_that_azure_kinect_lost_are_gaps(tmp_path, key):
    joints = np.random.default_rng(2).normal(size=(4, 3)).tolist()
    number = {"timestamp_usec": lambda t: 500 + 33_333 * t + t % 2, "frame_id": int}[key]
    frames = [{key: number(t), "bodies": [{"body_id": 1, "joint_positions": joints}]} for t in (0, 1, 2, 5, 6)]
    ((_, recording),) = read(as_json("azure", {"joint_names": ["A", "B", "C", "D"], "frames": frames})(tmp_path))
    assert recording.seen.tolist() == [[True, True, True, False, False, True, True]]


BVH = """HIERARCHY
ROOT hip
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT knee
  {
    OFFSET 0 -1 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
1 2 3 0 0 0 0 0 0
1 2 3 90 0 0 0 0 0
"""


def test_bvh_gives_positions_by_forward_kinematics(tmp_path):
    (tmp_path / "a.bvh").write_text(BVH)
    ((_, recording),) = read(tmp_path / "a.bvh")
    np.testing.assert_allclose(recording.points[0], [[[1, 2, 3], [1, 1, 3]], [[1, 2, 3], [2, 2, 3]]], atol=1e-6)
    assert recording.facts.rate == 20 and recording.facts.joints == ("hip", "knee")


def test_a_bvh_file_of_mixamo_is_converted_to_the_body_of_a_network(tmp_path):
    hips, *names = [name.title().replace(" ", "") for name in find_layout("mocap_20").other_names[1]]
    joint = "JOINT mixamorig:{}\n{{\nOFFSET {} {} 0\nCHANNELS 0\n}}\n"  # all are children of the hips
    text = f"HIERARCHY\nROOT mixamorig:{hips}\n{{\nOFFSET 0 0 0\nCHANNELS 3 Xposition Yposition Zposition\n"
    text += "".join(joint.format(name, i, i % 5) for i, name in enumerate(names, 1))
    (tmp_path / "a.bvh").write_text(text + "}\nMOTION\nFrames: 1\nFrame Time: 0.05\n0 0 0\n")
    ((_, recording),) = read(tmp_path / "a.bvh")
    found = to_body(recording, Body(find_skeleton("graph.ntu_rgb_d"), is_flat=False))
    assert found.facts.layout == "mocap_20" and "left hand" in found.facts.imputed
    left_arm = names.index("LeftArm") + 1  # the joint at the shoulder; LeftShoulder is at the collar bone
    # the body faces +z, the sensor is at -z: it is turned by 180 degrees
    np.testing.assert_allclose(found.points[0, 0, 4] * 4 / 1.6, [-left_arm, left_arm % 5, 0], rtol=1e-4)


def test_tables_with_columns_of_persons_frames_and_times_are_read(tmp_path):
    x = walk(17, 2)
    joints = find_layout("coco_17").skeleton.joints
    head = [f"{joint}_{axis}".replace(" ", "_") for joint in joints for axis in ("x", "y", "conf")]
    scored = np.concatenate([x, np.full((2, T, 17, 1), 0.9)], 3)

    def table(name, columns, cells):
        rows(tmp_path / name, [[*columns, *head]], [[*c, *scored[m, t].ravel()] for m, t, c in cells])
        ((_, recording),) = read(tmp_path / name)
        return recording

    order = [(m, t) for t in range(T) for m in (0, 1)]
    two = table("a.csv", ["frame_number", "track_id"], [(m, t, (2 * t, f"p{m}")) for m, t in order])
    assert two.tracks == ("p0", "p1") and two.points.shape[1] == 2 * T - 1
    np.testing.assert_allclose(two.points[:, ::2], x, rtol=1e-6)
    alone = table("b.csv", ["person"], [(m, t, (m,)) for m, t in order])
    np.testing.assert_allclose(alone.points, x, rtol=1e-6)
    with pytest.raises(ValueError, match="expected one row for track_id -1 in frame 0, got two"):
        table("d.csv", ["frame", "track_id"], [(m, t, (t, -1)) for m, t in order])
    timed = table("c.csv", ["timestamp", "note"], [(0, t, (1000 + 20 * t, "x")) for t in range(T) if t != 2])
    assert timed.facts.rate == 50 and "ignored columns: note" in timed.facts.guessed
    assert timed.points.shape[1] == T and np.isnan(timed.points[0, 2]).all()
    np.testing.assert_allclose(timed.score[0, 0], 0.9, rtol=1e-6)


def test_a_table_of_numbered_columns_is_read_in_any_order_and_from_zero_or_one(tmp_path):
    x = np.concatenate([walk(33, 1)[0] / SIZE, np.zeros((T, 33, 1)), np.full((T, 33, 1), 0.9)], 2)
    for first in (0, 1):
        head = [f"{axis}{v + first}" for axis in "xyzv" for v in range(33)]
        rows(tmp_path / "a.csv", [["frame", *head]], [[5 + t, *x[t].T.ravel()] for t in range(T)])
        ((_, recording),) = read(tmp_path / "a.csv")
        np.testing.assert_allclose(recording.points[0, ..., :2], x[..., :2], rtol=1e-5)
        np.testing.assert_allclose(recording.score, 0.9, rtol=1e-6)
        assert recording.frames[0] == 5


def test_alphapose_without_tracking_numbers_all_persons_zero_and_is_tracked(tmp_path):
    as_json("alphapose", entries(idx=lambda m, t: [0.0], image_id=lambda m, t: f"{t}.jpg"))(tmp_path)
    ((_, recording),) = read(tmp_path / "alphapose.json")
    assert len(recording.tracks) == 2 and any("tracked" in text for text in recording.facts.guessed)


def test_a_damaged_first_file_does_not_hide_that_a_folder_is_a_recording(tmp_path):
    for t in range(4):
        (tmp_path / f"v_{t:012}_keypoints.json").write_text('{"people": []}' if t else '{"peo')
    (tmp_path / "a_info.json").write_text("{}")
    assert is_recording(tmp_path)
    with pytest.raises(ValueError, match="v_000000000000_keypoints.json"):
        read(tmp_path)


@pytest.mark.parametrize("knee", ["0 -1 0", "0 0 0"])
def test_position_channels_of_bvh_joints_may_contain_the_offset_or_not(tmp_path, knee):
    head = BVH[: BVH.index("1 2 3")].replace("CHANNELS 3", "CHANNELS 6 Xposition Yposition Zposition")
    (tmp_path / "a.bvh").write_text(head + f"1 2 3 0 0 0 {knee} 0 0 0\n1 2 3 90 0 0 {knee} 0 0 0\n")
    ((_, recording),) = read(tmp_path / "a.bvh")
    np.testing.assert_allclose(recording.points[0], [[[1, 2, 3], [1, 1, 3]], [[1, 2, 3], [2, 2, 3]]], atol=1e-6)


@pytest.mark.parametrize(
    ("up", "units", "axes", "guessed"),
    [("+Y", "mm", "y_up", 0), ("+Z", "mm", "world_z_up", 0), (None, "mm", "world_z_up", 1), ("+Y", None, "y_up", 0)],
)
def test_vertical_axis_and_units_of_a_c3d_file_are_the_stated_ones(tmp_path, monkeypatch, up, units, axes, guessed):
    given = {"POINT:UNITS": units, "POINT:Y_SCREEN": up}
    stated = {name: SimpleNamespace(string_value=f"{text}  ") for name, text in given.items() if text is not None}
    marks = np.ones((1, 5), np.float32)
    reader = SimpleNamespace(point_labels=["A"], read_frames=lambda: [(1, marks, None)], point_rate=60, get=stated.get)
    monkeypatch.setitem(sys.modules, "c3d", SimpleNamespace(Reader=lambda _: reader))
    (tmp_path / "a.c3d").write_bytes(b"\x02P")
    ((_, recording),) = read(tmp_path / "a.c3d")
    assert recording.facts.axes == axes and len(recording.facts.guessed) == guessed
    assert recording.facts.units == (units or "unknown")


def test_trc_is_read_with_its_rate_units_and_gaps_even_if_the_counts_in_its_header_are_wrong(tmp_path):
    head = "PathFileType\t4\t(X/Y/Z)\ta.trc\nDataRate\tNumFrames\tUnits\n60\t900\tmm\n"
    head += "Frame#\tTime\tA\t\t\tB\n\t\tX1\tY1\tZ1\tX2\tY2\tZ2\n\n"
    (tmp_path / "a.trc").write_text(head + "185\t3.0\t1\t2\t3\t4\t5\t6\n187\t3.1\t1\t2\t3\t\t\t\n")
    ((_, recording),) = read(tmp_path / "a.trc")
    assert recording.points.shape == (1, 3, 2, 3) and recording.facts.units == "mm" and recording.facts.rate == 60
    assert np.isnan(recording.points[0, 1]).all() and np.isnan(recording.points[0, 2, 1]).all()


REFUSED = {
    "an empty file": ("a.json", b"", "an empty file"),
    "an empty list": ("a.json", b"[]", "an empty list"),
    "COCO annotations": ("a.json", b'{"images": [], "annotations": []}', "COCO annotations"),
    "another object": ("a.json", b'{"a": 1}', "an object with a"),
    "labels set by hand": ("a.csv", b"scorer,x,x\nbodyparts,a,a\ncoords,x,y\nimg1.png,1,2\n", "no likelihood"),
    "a table without joints": ("a.csv", b"time,value\n1,2\n", "columns such as nose_x"),
    "numbers that are text": ("a.csv", b"a_x,a_y\n1,b\n", "row 1: expected numbers"),
    "VIBE": ("a.pkl", b"\x80\x03cjoblib.numpy_pickle\nX\n.", "frames = d['joints3d'], d['frame_ids']"),
    "PHALP": ("a.pkl", b"\x80\x03X\x09\0\0\x003d_joints0cjoblib.numpy_pickle\nX\n.", "f['3d_joints']"),
    "joblib after the first page": (
        "a.pkl",
        b"\x80\x03" + 3000 * b"K\x010" + b"cjoblib.x\nX\n.",
        "joblib file of VIBE",
    ),
    "AlphaPose's cmu format": ("a.json", b'{"version": "AlphaPose v0.2", "bodies": []}', "its cmu format"),
    "code in a pickle": ("a.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "os.system"),
    "text": ("a.txt", b"hello", "expected a pose file"),
    "half a BVH file": ("a.bvh", BVH[:200].encode(), "BVH"),
    "wrong numbers of key points": ("a.json", b'[{"image_id": 1, "keypoints": [1, 2]}]', "multiple of 3"),
    "nobody": ("a.json", b'{"skeletons": [[[NaN, 1, 2]]]}', "not valid JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_not_recordings_are_refused_with_the_file_and_the_reason(tmp_path, name):
    file, content, words = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError) as error:
        read(tmp_path / file)
    assert str(tmp_path / file) in str(error.value) and words in str(error.value)


def test_persons_keep_their_ids_while_the_order_of_the_list_changes_and_a_jump_starts_a_new_id():
    points = walk()
    far = points[0] + (400, 0)
    frames = {
        t: [Detection(points[1, t]), Detection(points[0, t] if t < 6 else far[t])][:: 1 if t % 2 else -1]
        for t in range(T)
    }
    recording = track(Detections(frames, Facts("test", "coco_17", rate=30.0)))
    assert len(recording.tracks) == 3
    seen = recording.seen.sum(1).tolist()
    assert sorted(seen) == [6, 6, 12]


def test_ids_of_a_file_are_kept_and_only_persons_without_an_id_are_tracked():
    points = walk(persons=3)
    frames = {t: [Detection(points[m, t], track="2" if m == 0 and t else None) for m in (0, 1)] for t in range(T)}
    frames[5].append(Detection(points[2, 5]))  # too brief
    recording = track(Detections(frames, Facts("test", "coco_17")))
    assert recording.tracks == ("1", "2") and recording.seen.sum(1).tolist() == [T, T - 1]
    np.testing.assert_array_equal(recording.points[1, 1:], points[0, 1:])
    assert recording.facts.guessed[0].startswith("persons without an id were tracked")


def test_nearly_equal_poses_of_a_frame_are_one_person():
    points = walk(persons=1)[0]
    frames = {t: [Detection(points[t], np.full(17, 0.9)), Detection(points[t] + 1, np.full(17, 0.3))] for t in range(T)}
    recording = track(Detections(frames, Facts("test", "coco_17")))
    assert len(recording.tracks) == 1
    np.testing.assert_array_equal(recording.points[0], points)


def test_mediapipe_json_with_both_kinds_of_landmarks_has_the_path_of_the_body(tmp_path):
    """A body that walks through the picture: its world landmarks stay in place."""
    draw = np.random.default_rng(3)
    body = draw.normal(size=(33, 3)) * [0.2, 0.5, 0.1]
    body -= body[[23, 24]].mean(0)
    frames = []
    for t in range(30):
        image = 0.2 + 0.02 * t + body[:, :2] * [0.1, 0.1 * 16 / 9]
        marks = {
            "pose_landmarks": [{"x": x, "y": y, "z": 0.0, "visibility": 0.9} for x, y in image],
            "pose_world_landmarks": [{"x": x, "y": y, "z": z, "visibility": 0.9} for x, y, z in body],
        }
        frames.append({"frame": t, "timestamp_ms": 33 * t} | marks)
    (tmp_path / "both.json").write_text(json.dumps(frames))
    ((_, both),) = read(tmp_path / "both.json")
    hips = both.points[0][:, [23, 24]].mean(1)
    assert hips[-1, 0] - hips[0, 0] > 1 and both.image.shape == (1, 30, 33, 2)
    assert any("assumed focal length" in note for note in both.facts.guessed)
    for frame in frames:
        del frame["pose_landmarks"]
    (tmp_path / "world.json").write_text(json.dumps(frames))
    ((_, world),) = read(tmp_path / "world.json")
    assert abs(world.points[0][:, [23, 24]].mean(1)).max() < 1e-6 and world.image is None


@pytest.mark.parametrize(("units", "scale"), [("m", 1), ("cm", 100), ("MM", 1000), ("fathoms", 7)])
def test_coordinates_become_meters_and_unknown_units_are_noted(units, scale):
    points = np.pad(walk(25, 1), [*[(0, 0)] * 3, (0, 1)]) / np.float32(100)
    recording = Recording(
        scale * points, None, ("1",), np.arange(T), Facts("t", "kinect_v2_25", axes="kinect", units=units)
    )
    found = to_body(recording, Body(find_skeleton("graph.ntu_rgb_d"), is_flat=False))
    if units == "fathoms":
        assert "the units are 'fathoms': the body is scaled to 1.6 m from head to feet" in found.facts.guessed
    else:
        np.testing.assert_allclose(found.points, points, rtol=1e-6)
        assert not any("scaled" in guess for guess in found.facts.guessed)


@pytest.mark.parametrize(
    "joints", [("nose", "left ear", "right ear"), ("left foot", "right foot", "left ankle", "right ankle")]
)
def test_mirrored_3_d_poses_are_noted(joints):
    """A person who faces the sensor: the left side is on the right of the picture, which is -x."""
    layout = find_layout("azure_kinect_32").skeleton.joints
    points = np.full((1, 4, 32, 3), np.nan, np.float32)
    for name in (*joints, "left shoulder", "right shoulder", "left hip", "right hip"):
        x = 0.2 * (("right" in name) - ("left" in name))
        points[:, :, layout.index(name)] = x, 0.6 * ("shoulder" in name), -0.1 * (name == "nose" or "foot" in name)
    facts = Facts("test", "azure_kinect_32", axes="kinect", units="m")
    notes = []
    for x in (points, points * np.float32([-1, 1, 1])):
        recording = Recording(x, None, ("1",), np.arange(4), replace(facts, guessed=[]))
        notes.append(complete(recording, Body(find_skeleton("graph.ntu_rgb_d"), is_flat=False), None)[0].facts.guessed)
    assert MIRRORED not in notes[0] and MIRRORED in notes[1]


@pytest.mark.parametrize(
    ("units", "scale", "size"),
    [("px", (640, 1000), (1920, 1080)), ("px", (1000, 1900), (1080, 1920)), ("share", (1, 1), (1920, 1080))],
)
def test_the_assumed_image_size_fits_the_joints_and_is_noted(units, scale, size):
    points = np.random.default_rng(4).uniform(0, 1, (1, T, 17, 2)) * scale
    points[0, 0, 0] = scale
    recording = Recording(points.astype(np.float32), None, ("1",), np.arange(T), Facts("t", "coco_17", units=units))
    facts = to_body(recording, Body(find_skeleton("graph.coco"), is_flat=True)).facts
    assert facts.image_size == size
    assert f"the file has no image size: {size[0]} x {size[1]} is assumed" in facts.guessed


@pytest.mark.parametrize("channels", [2, 3])  # image landmarks of MediaPipe have a third coordinate
def test_shares_of_an_unknown_image_have_the_proportions_of_the_assumed_size_in_3d(channels):
    size, body = np.float32([1920, 1080]), Body(find_skeleton("graph.ntu_rgb_d"), is_flat=False)
    shares = np.random.default_rng(5).uniform(0.1, 0.9, (1, T, 25, channels)).astype(np.float32)
    found = [
        to_body(Recording(points, None, ("1",), np.arange(T), Facts("t", "openpose_body_25", units=units)), body)
        for points, units in ((shares[..., :2] * size, "px"), (shares, "share"))
    ]
    np.testing.assert_allclose(found[1].points, found[0].points, rtol=1e-4, atol=1e-4)
    assert "the file has no image size: 1920 x 1080 is assumed" in found[1].facts.guessed


def test_a_conversion_does_not_change_the_recording():
    facts = Facts("hands", units="share")
    recording = Recording(walk(21, 1) / np.float32(SIZE), None, ("1",), np.arange(T), facts)
    first, second = (to_body(recording, Body(find_skeleton("graph.hand"), is_flat=True)).points for _ in range(2))
    assert np.array_equal(first, second) and first.max() > 1
