"""Poses in arrays and pickles: MediaPipe, FreeMoCap and HumanML3D .npy, .npz with `keypoint`, PYSKL and mmaction2
pickles."""

from pathlib import Path
from typing import Any

import numpy as np

from data.poses.recording import Facts, PoseFileError, Recording
from data.poses.tables import assume_axes, mediapipe_facts
from torchlight.system.arrays import open_archive, open_array
from torchlight.system.pickles import read_pickle

NTU_JOINTS = 25


def read_npy(path: Path) -> Recording:
    """MediaPipe (T, 33, 2 to 4), (T, 99), (T, 132); FreeMoCap (T, 553, 3); HumanML3D (T, 22, 3)."""
    array = open_array(path, "fiu")
    shape = array.shape
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


def _one(points: np.ndarray, score: np.ndarray | None, facts: Facts | None) -> Recording:
    facts = facts or mediapipe_facts(points, Facts("MediaPipe array"))
    score = None if score is None else np.nan_to_num(score)[None]
    return Recording(points[None], score, ("1",), np.arange(len(points)), facts)


def read_npz(path: Path) -> Recording:
    """`keypoint` (M, T, V, C) or (T, V, C) with NaN where a joint was not seen; a fourth channel is the score.

    Optional: `score`, `rate`, `image_size`, `layout`, `axes`, `units`. The default axes of 3-D points are those of the
    layout, otherwise Kinect's.
    """
    with open_archive(path) as archive:
        names = archive.names
        if {"poses", "trans", "betas"} <= set(names):
            raise PoseFileError(
                f"{path}: expected joints, got SMPL parameters; compute the joints with the SMPL model first"
            )
        if "keypoint" not in names:
            raise PoseFileError(f"{path}: expected the array keypoint (M, T, V, C), got {', '.join(names[:8])}")
        points = np.array(archive.array("keypoint"), np.float32)
        score = np.array(archive.array("score"), np.float32) if "score" in names else None
        words = {key: str(archive.array(key, "U")) for key in ("layout", "axes", "units") if key in names}
        rate = float(archive.array("rate")) if "rate" in names else None
        size = archive.array("image_size").tolist() if "image_size" in names else None
    points, score = (
        points[None] if points.ndim == 3 else points,
        score[None] if score is not None and score.ndim == 2 else score,
    )
    if points.ndim == 4 and points.shape[3] == 4 and score is None:
        points, score = points[..., :3].copy(), np.nan_to_num(points[..., 3])
    if points.ndim != 4 or points.shape[3] not in (2, 3) or (score is not None and score.shape != points.shape[:3]):
        raise PoseFileError(f"{path}: expected keypoint (M, T, V, 2 to 4) and score (M, T, V), got {points.shape}")
    facts = Facts("npz", words.get("layout"), axes=words.get("axes", "image"))
    if points.shape[3] == 3 and "axes" not in words:
        assume_axes(facts)
    facts.units, facts.rate, facts.image_size = words.get("units", "unknown"), rate, tuple(size) if size else None
    tracks = tuple(str(m + 1) for m in range(len(points)))
    return Recording(points, score, tracks, np.arange(points.shape[1]), facts)


def read_pyskl(path: Path) -> list[tuple[str, Recording]]:
    """All clips of a PYSKL or mmaction2 pickle with their names; the file may also be a plain list of annotations.

    Raises:
        PoseFileError: there are no annotations, or they contain no key points (the index of compressed annotations).
    """
    content = read_pickle(path)
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
    layout = "coco_17" if flat and points.shape[2] == 17 else "kinect_v2_25" if points.shape[2] == NTU_JOINTS else None
    facts = Facts("PYSKL", layout, axes="image" if flat else "kinect", units="px" if flat else "m")
    size = entry.get("img_shape")
    facts.image_size = (int(size[1]), int(size[0])) if flat and size is not None else None
    points[(points == 0).all(3)] = np.nan
    return Recording(points, score, tuple(str(m + 1) for m in range(len(points))), np.arange(points.shape[1]), facts)
