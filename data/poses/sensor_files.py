"""Poses of depth cameras and motion capture: NTU .skeleton, NW-UCLA JSON, Azure Kinect JSON, MediaPipe JSON, BVH,
C3D."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.ntu import skeleton_file
from data.poses.body_path import GUESS, with_paths
from data.poses.recording import Detection, Detections, Facts, PoseFileError, Recording, frame_range
from data.poses.tables import mediapipe_facts
from torchlight.system.files import read_text

MAX_BYTES = 512 * 2**20
ASSUMED_IMAGE = (1920, 1080)  # width and height of an image; only the ratio matters here
C3D_AXES = {"+Y": "y_up", "+Z": "world_z_up"}  # by the parameter POINT:Y_SCREEN, the vertical axis of the screen


def read_ntu(path: Path) -> Detections:
    """NTU RGB+D .skeleton: bodies with ids, 25 joints in meters, 30 frames per second."""
    raw = skeleton_file.read_recording(path)
    poses, frames, at = raw.poses.astype(np.float32), {}, 0
    for number, ids in enumerate(raw.ids):
        frames[number] = [Detection(poses[at + k], track=body.decode("ascii", "replace")) for k, body in enumerate(ids)]
        at += len(ids)
    return Detections(frames, Facts("NTU RGB+D", "kinect_v2_25", axes="kinect", units="m", rate=30.0))


def read_skeletons(path: Path, content: dict[str, Any]) -> Recording:
    """{"skeletons": [[[x, y, z], ...], ...]} of one person, as in NW-UCLA and in the JSON format of this project."""
    try:
        points = np.array(content["skeletons"], np.float32)
    except (TypeError, ValueError) as error:
        raise PoseFileError(f"{path}: skeletons: expected a list of frames with equally many joints") from error
    if points.ndim != 3 or points.shape[2] not in (2, 3):
        raise PoseFileError(f"{path}: skeletons: expected (frames, joints, 2 or 3) numbers, got {points.shape}")
    layout = {20: "kinect_v1_20", 25: "kinect_v2_25"}.get(points.shape[1]) if points.shape[2] == 3 else None
    flat = points.shape[2] == 2
    facts = Facts("skeletons JSON", layout, axes="image" if flat else "kinect", units="px" if flat else "m")
    return Recording(points[None], None, ("1",), np.arange(len(points)), facts)


def read_azure(path: Path, content: dict[str, Any]) -> Detections:
    """Azure Kinect offline processor: bodies with ids, 26 or 32 joints in millimeters, time stamps."""
    names = tuple(str(name) for name in content.get("joint_names", ()))
    layout = {32: "azure_kinect_32", 26: "azure_kinect_26"}.get(len(names))
    facts = Facts("Azure Kinect", layout, names, axes="camera", units="mm")
    frames = {}
    numbers, facts.rate = _azure_numbers(content["frames"])
    for number, frame in zip(numbers, content["frames"], strict=True):
        frames[number] = []
        for body in frame.get("bodies", []):
            points = np.array(body.get("joint_positions", []), np.float32)
            if points.ndim != 2 or points.shape != (len(names), 3):
                raise PoseFileError(f"{path}: frame {number}: expected {len(names)} joints x, y, z, got {points.shape}")
            frames[number].append(Detection(points, track=str(body.get("body_id"))))
    return Detections(frames, facts)


def _azure_numbers(frames: list[dict[str, Any]]) -> tuple[list[int], float | None]:
    """The number of each frame and the frames per second, by the time stamps; without usable time stamps, the ids of
    the frames, or else their order."""
    steps = np.diff(np.array([frame.get("timestamp_usec", 0) for frame in frames], float))
    step = float(np.median(steps)) if len(steps) else 0.0
    rate = round(1e6 / step, 3) if step > 0 else None
    if rate is not None and (steps > step / 2).all():
        return [0, *np.cumsum(np.rint(steps / step)).astype(int).tolist()], rate
    ids = [frame.get("frame_id") for frame in frames]
    counted = all(type(number) is int for number in ids) and sorted(set(ids)) == ids
    return ids if counted else list(range(len(frames))), rate


def read_mediapipe(path: Path, content: list[Any]) -> Recording:
    """A list of {"frame", "pose_landmarks", "pose_world_landmarks"}.

    World landmarks have their origin between the hips in every frame. If the file also contains the landmarks in the
    image, the path of the body is restored from them.
    """
    has = {key for key in ("pose_landmarks", "pose_world_landmarks") if any(entry.get(key) for entry in content)}
    index = [int(entry.get("frame", i)) for i, entry in enumerate(content)]
    key = "pose_world_landmarks" if "pose_world_landmarks" in has else "pose_landmarks" if has else "landmarks"
    points, score = _landmarks(path, content, key, index)
    facts = mediapipe_facts(points, Facts("MediaPipe JSON"))
    if len(content) > 1 and all("timestamp_ms" in entry for entry in content):
        step = np.median(np.diff([entry["timestamp_ms"] for entry in content]))
        facts.rate = round(1000 / float(step), 3) if step > 0 else None
    recording = Recording(points[None], score[None], ("1",), np.arange(len(points)), facts)
    if len(has) < 2 or facts.axes != "camera":
        return recording
    shares, _ = _landmarks(path, content, "pose_landmarks", index)
    facts.image_size = ASSUMED_IMAGE
    facts.guessed += [f"the file has no image size: {ASSUMED_IMAGE[0]} x {ASSUMED_IMAGE[1]} is assumed", GUESS]
    recording.image = (shares[None, ..., :2] * np.array(ASSUMED_IMAGE)).astype(np.float32)
    return with_paths(recording)


def _landmarks(path: Path, content: list[Any], key: str, index: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """x, y, z (T, 33, 3) and visibility (T, 33) of one kind of landmarks; NaN and 0 where there are none."""
    points = np.full((len(frame_range(np.array([0, *index]))), 33, 3), np.nan, np.float32)
    score = np.zeros(points.shape[:2], np.float32)
    for number, entry in zip(index, content, strict=True):
        found = entry.get(key) or []
        found = found[0] if found and isinstance(found[0], list) else found
        if found and len(found) != 33:
            raise PoseFileError(f"{path}: frame {number}: expected 33 landmarks, got {len(found)}")
        for v, mark in enumerate(found):
            points[number, v] = mark["x"], mark["y"], mark["z"]
            score[number, v] = mark.get("visibility", 0)
    return points, score


def read_bvh(path: Path) -> Recording:
    """BVH: positions of the joints by forward kinematics, with rotations in degrees in the order of the channels; end
    sites are left out.

    Position channels of joints other than the root are positions relative to the parent in most programs, which then
    replace OFFSET, and displacements in others. They are told apart by their values.
    """
    words = read_text(path, MAX_BYTES).split()
    try:
        joints, at = _bvh_hierarchy(words)
        count, step = int(words[at + 2]), float(words[at + 5])
        motion = np.array(words[at + 6 :], float).reshape(count, -1)
    except (IndexError, ValueError) as error:
        raise PoseFileError(f"{path}: not a complete BVH file ({error})") from error
    width = sum(len(channels) for _, _, _, channels in joints)
    if motion.shape[1] != width:
        raise PoseFileError(f"{path}: expected {width} numbers per frame, got {motion.shape[1]}")
    relative = _positions_replace_offsets(joints, motion)
    points, turned, column = np.zeros((count, len(joints), 3)), [], 0
    for v, (_, parent, offset, channels) in enumerate(joints):
        rotation = np.broadcast_to(np.eye(3), (count, 3, 3))
        shift = np.broadcast_to(offset, (count, 3)).copy()
        for channel in channels:
            value, axis = motion[:, column], "XYZ".index(channel[0].upper())
            column += 1
            if channel.lower().endswith("position"):
                shift[:, axis] = value if parent is None or relative else shift[:, axis] + value
            else:
                rotation = rotation @ _about(axis, np.deg2rad(value))
        if parent is None:
            points[:, v] = shift
        else:
            points[:, v] = points[:, parent] + (turned[parent] @ shift[..., None])[..., 0]
            rotation = turned[parent] @ rotation
        turned.append(rotation)
    facts = Facts("BVH", joints=tuple(joint[0] for joint in joints), axes="smpl", units="unknown")
    facts.guessed.append("the file does not state its axes: y up, and a rest pose that faces +z, are assumed")
    facts.rate = round(1 / step, 3) if step > 0 else None
    return Recording(points[None].astype(np.float32), None, ("1",), np.arange(count), facts)


def _bvh_hierarchy(words: list[str]) -> tuple[list[tuple[str, int | None, np.ndarray, list[str]]], int]:
    """[(name, parent, offset (3,), channels)] and the index of the word MOTION."""
    joints: list[tuple[str, int | None, np.ndarray, list[str]]] = []
    stack: list[int | None] = []
    at = 1
    while words[at] != "MOTION":
        word = words[at]
        if word in ("ROOT", "JOINT"):
            joints.append((words[at + 1], stack[-1] if stack else None, np.zeros(3), []))
            at += 2
        elif word == "End":
            at += 2
            depth = 0
            while True:  # an end site has an offset only
                depth += (words[at] == "{") - (words[at] == "}")
                at += 1
                if depth == 0:
                    break
        elif word == "{":
            stack.append(len(joints) - 1)
            at += 1
        elif word == "}":
            stack.pop()
            at += 1
        elif word == "OFFSET":
            joints[-1][2][:] = [float(number) for number in words[at + 1 : at + 4]]
            at += 4
        elif word == "CHANNELS":
            count = int(words[at + 1])
            joints[-1][3].extend(words[at + 2 : at + 2 + count])
            at += 2 + count
        else:
            raise ValueError(f"the word {word[:30]!r}")
    return joints, at


def _positions_replace_offsets(
    joints: Sequence[tuple[str, int | None, np.ndarray, list[str]]], motion: np.ndarray
) -> bool:
    """Whether the typical values (medians) of the position channels are closer to the offsets than to zero."""
    column, to_offset, to_zero = 0, 0.0, 0.0
    for _, parent, offset, channels in joints:
        for channel in channels:
            if parent is not None and channel.lower().endswith("position") and len(motion):
                typical = np.median(motion[:, column])
                to_offset += abs(typical - offset["XYZ".index(channel[0].upper())])
                to_zero += abs(typical)
            column += 1
    return to_offset < to_zero


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3) about a coordinate axis; angle (n,) in radians."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.zeros((len(angle), 3, 3))
    rotation[:, axis, axis] = 1
    rotation[:, i, i] = rotation[:, j, j] = np.cos(angle)
    rotation[:, j, i], rotation[:, i, j] = np.sin(angle), -np.sin(angle)
    return rotation


def read_c3d(path: Path) -> Recording:
    """C3D markers; needs the package c3d."""
    try:
        import c3d
    except ImportError:
        raise PoseFileError(f"{path}: C3D files need the package c3d; pip install c3d") from None
    try:
        with open(path, "rb") as file:
            reader = c3d.Reader(file)
            labels = [label.strip() for label in reader.point_labels]
            frames = [(number, points[:, :5].copy()) for number, points, _ in reader.read_frames()]
            rate, found = float(reader.point_rate), [reader.get(f"POINT:{name}") for name in ("UNITS", "Y_SCREEN")]
            units, up = ("" if value is None else value.string_value.strip() for value in found)
    except Exception as error:  # the package raises any exception for a damaged file
        raise PoseFileError(f"{path}: not a readable C3D file ({type(error).__name__}: {error})") from error
    values = np.stack([points for _, points in frames])  # (T, V, 5): x, y, z, residual, cameras
    points = np.where(values[..., 3:4] < 0, np.nan, values[..., :3]).astype(np.float32)
    numbers = np.array([number for number, _ in frames])
    axes = C3D_AXES.get(up.upper())
    joints = tuple(labels[: points.shape[1]])
    facts = Facts("C3D", joints=joints, axes=axes or "world_z_up", units=units or "unknown", rate=rate)
    if axes is None:
        facts.guessed.append("z is up")
    return Recording(points[None], None, ("1",), numbers, facts)
