"""Poses in arrays and pickles: MediaPipe, FreeMoCap and HumanML3D .npy, .npz with `keypoint`, PYSKL and mmaction2
pickles."""

from pathlib import Path
from typing import Any

import numpy as np

from data.poses.image_files import layout_of
from data.poses.recording import Detection, Facts, PoseFileError, Recording
from data.poses.tables import assume_axes, at_frames, mediapipe_facts
from feeders.clip_store import MAX_PIXELS
from graph.layouts import find_layout
from torchlight.system.arrays import Archive, open_archive, open_array
from torchlight.system.pickles import read_pickle
from torchlight.system.text import quote

NTU_JOINTS = 25
JOBLIB = (
    "a joblib file of {tool} could run code when it is opened; convert it in the environment that wrote it: {load}; "
    "numpy.savez(out, keypoint=numpy.array(joints)[None, :, :25], frames=frames, layout='openpose_body_25', "
    "axes='camera', units='m')"
)
VIBE = "d = joblib.load(path)[track]; joints, frames = d['joints3d'], d['frame_ids']"
PHALP = (
    "found = [(t, f['3d_joints'][list(f['tid']).index(track)]) for t, (_, f) in "
    "enumerate(sorted(joblib.load(path).items())) if track in f['tid']]; frames, joints = zip(*found)"
)


def read_npy(path: Path) -> Recording:
    """MediaPipe (T, 33, 2 to 4), (T, 99), (T, 132); FreeMoCap (T, 553, 3); HumanML3D (T, 22, 3)."""
    array = open_array(path, "fiu")
    shape = array.shape
    if expected := _expected_instead_of(shape):
        raise PoseFileError(f"{path}: expected {expected}")
    if len(shape) == 2 and shape[1] in (66, 99, 132):
        array = array.reshape(shape[0], 33, -1)
    if array.ndim == 3 and array.shape[1:] == (22, 3):
        facts = Facts("HumanML3D", layout="smpl_22", axes="smpl", units="m", rate=20.0)
        return _one(np.array(array, np.float32), None, facts)
    if array.ndim == 3 and array.shape[1:] == (553, 3):
        return _one(np.array(array[:, :33], np.float32), None, None)
    if array.ndim != 3 or array.shape[1] != 33 or array.shape[2] not in (2, 3, 4):
        kinds = "(T, 33, 2 to 4), (T, 99), (T, 132), (T, 553, 3) or (T, 22, 3)"
        raise PoseFileError(
            f"{path}: expected an array {kinds}, got {shape}; use an .npz with keypoint (M, T, V, C) for other poses"
        )
    points = np.array(array[..., :3], np.float32)
    points[(array == 0).all((1, 2))] = np.nan  # frames without a person
    return _one(points, np.array(array[..., 3], np.float32) if array.shape[2] == 4 else None, None)


def _expected_instead_of(shape: tuple[int, ...]) -> str:
    """What is expected instead of an array of another kind, and that kind; "" for all other shapes."""
    match shape:
        case (_, 263):
            return "joints of HumanML3D (T, 22, 3), got its features (T, 263); use the files in new_joints"
        case (_, 22, 3, _):
            return (
                "one motion (T, 22, 3), got samples (N, 22, 3, T) of a motion generator; save x[i].transpose(2, 0, 1)"
            )
        case (_, _, _, _, _):
            return "a recording, got prepared clips (N, C, T, V, M); save keypoint=x[i].transpose(3, 1, 2, 0) as .npz"
        case (_, 543, _) | (_, 1629) | (_, 1662):
            return "the body (T, 33, 3 or 4), got landmarks of MediaPipe Holistic in an unknown order"
    return ""


def _one(points: np.ndarray, score: np.ndarray | None, facts: Facts | None) -> Recording:
    facts = facts or mediapipe_facts(points, Facts("MediaPipe array"))
    score = None if score is None else np.nan_to_num(score)[None]
    return Recording(points[None], score, ("1",), np.arange(len(points)), facts)


def read_npz(path: Path) -> Recording:
    """`keypoint` (M, T, V, C) or (T, V, C) with NaN where a joint was not seen; a fourth channel is the score,
    and so is the third one of a 2-D layout.

    Optional: `score`, `frames` (T,) with the number of each frame, `rate`, `image_size`, `layout`, `axes`, `units`. The
    default axes of 3-D points are those of the layout, otherwise Kinect's.
    """
    with open_archive(path) as archive:
        names = archive.names
        if {"poses", "trans", "betas"} <= set(names):
            raise PoseFileError(
                f"{path}: expected joints, got SMPL parameters; compute the joints with the SMPL model first"
            )
        if "x_train" in names:
            raise PoseFileError(f"{path}: expected the array keypoint, got prepared clips of NTU RGB+D (x_train)")
        if "keypoint" not in names:
            raise PoseFileError(f"{path}: expected the array keypoint (M, T, V, C), got {', '.join(names[:8])}")
        points = np.array(archive.array("keypoint"), np.float32)
        score = np.array(archive.array("score"), np.float32) if "score" in names else None
        words = {key: str(archive.array(key, "U")) for key in ("layout", "axes", "units") if key in names}
        numbers = archive.array("frames") if "frames" in names else None
        rate, size = stated_rate(archive), stated_size(archive)
    points, score = (
        points[None] if points.ndim == 3 else points,
        score[None] if score is not None and score.ndim == 2 else score,
    )
    if points.ndim == 4 and points.shape[3] == (3 if _is_flat(path, words) else 4) and score is None:
        points, score = points[..., :-1].copy(), np.nan_to_num(points[..., -1])
    if points.ndim != 4 or points.shape[3] not in (2, 3) or (score is not None and score.shape != points.shape[:3]):
        raise PoseFileError(f"{path}: expected keypoint (M, T, V, 2 to 4) and score (M, T, V), got {points.shape}")
    frames = np.arange(points.shape[1])
    if numbers is not None:
        if numbers.shape != frames.shape or numbers.dtype.kind not in "iu" or len(set(numbers.tolist())) < len(frames):
            raise PoseFileError(f"{path}: frames: expected {len(frames)} different whole numbers, got {numbers.shape}")
        if score is not None:
            score = np.nan_to_num(at_frames(numbers, score.swapaxes(0, 1))[0]).swapaxes(0, 1)
        points, frames = at_frames(numbers, points.swapaxes(0, 1))
        points = points.swapaxes(0, 1)
    facts = Facts("npz", words.get("layout"), axes=words.get("axes", "image"))
    if points.shape[3] == 3 and "axes" not in words:
        assume_axes(facts)
    facts.units, facts.rate, facts.image_size = words.get("units", "unknown"), rate, size
    tracks = tuple(str(m + 1) for m in range(len(points)))
    return Recording(points, score, tracks, frames, facts)


def _is_flat(path: Path, words: dict[str, str]) -> bool:
    """Whether an .npz file states that its points are in an image: a 2-D layout, and no other axes."""
    if "layout" not in words or words.get("axes", "image") != "image":
        return False
    try:
        return find_layout(words["layout"]).dims == 2
    except ValueError as error:
        raise PoseFileError(f"{path}: {error}") from error


def stated_rate(archive: Archive) -> float | None:
    """`rate` in an .npz file, in frames per second, not checked (see `rate_of`); raises PoseFileError for an array."""
    if "rate" not in archive.names:
        return None
    rate = archive.array("rate")
    if rate.size != 1:
        raise PoseFileError(f"rate: expected frames per second, got {quote(rate.tolist())}")
    return float(rate.item())


def stated_size(archive: Archive) -> tuple[int, int] | None:
    """`image_size` (width, height) in an .npz file, in pixels; raises PoseFileError for other values."""
    if "image_size" not in archive.names:
        return None
    size = archive.array("image_size")
    if size.shape != (2,) or not ((size >= 1) & (size <= MAX_PIXELS)).all():
        raise PoseFileError(f"image_size: expected width and height in pixels, got {quote(size.tolist())}")
    return int(size[0]), int(size[1])


def read_pyskl(path: Path) -> list[tuple[str, Recording]]:
    """All clips of a PYSKL or mmaction2 pickle with their names; the file may also be a plain list of annotations.

    Raises:
        PoseFileError: there are no annotations, they contain no key points (the index of compressed annotations), or
            the file is one of joblib; the message contains a conversion.
    """
    try:
        content = read_pickle(path)
    except ValueError as error:
        if "joblib" not in str(error).removeprefix(str(path)):  # joblib's own classes are refused by their names
            raise
        is_phalp = b"3d_joints" in path.read_bytes()
        tool, load = ("PHALP", PHALP) if is_phalp else ("VIBE", VIBE)
        raise PoseFileError(f"{path}: {JOBLIB.format(tool=tool, load=load)}") from error
    entries = content.get("annotations") if isinstance(content, dict) else content
    if isinstance(content, dict) and "keypoint" in content:
        entries = [content]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise PoseFileError(f"{path}: expected a list of annotations")
    return [(str(entry.get("frame_dir", i)), _annotation(path, i, entry)) for i, entry in enumerate(entries)]


def _annotation(path: Path, number: int, entry: dict[str, Any]) -> Recording:
    if "keypoint" not in entry:
        raise PoseFileError(
            f"{path}: annotation {number}: expected keypoint; an index of compressed annotations has none"
        )
    points = np.array(entry["keypoint"], np.float32)
    score = np.array(entry["keypoint_score"], np.float32) if entry.get("keypoint_score") is not None else None
    if points.ndim != 4 or points.shape[3] not in (2, 3) or (score is not None and score.shape != points.shape[:3]):
        raise PoseFileError(f"{path}: annotation {number}: expected keypoint (M, T, V, 2 or 3), got {points.shape}")
    flat = points.shape[3] == 2
    points[(points == 0).all(3)] = np.nan
    facts = Facts("PYSKL", axes="image" if flat else "kinect", units="px" if flat else "m")
    if points.shape[2] == NTU_JOINTS and flat:
        layout_of({0: [Detection(x) for x in points.reshape(-1, NTU_JOINTS, 2) if not np.isnan(x).all()]}, facts)
    elif points.shape[2] == NTU_JOINTS or (flat and points.shape[2] == 17):
        facts.layout = "coco_17" if flat else "kinect_v2_25"
    size = entry.get("img_shape")
    facts.image_size = (int(size[1]), int(size[0])) if flat and size is not None else None
    return Recording(points, score, tuple(str(m + 1) for m in range(len(points))), np.arange(points.shape[1]), facts)
