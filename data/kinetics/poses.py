"""Kinetics-Skeleton's JSON clips: OpenPose joints of any number of persons -> the surest few, frame by frame."""

import json
from pathlib import Path

import numpy as np

from data.store import BadFile

JOINTS, WINDOW = 18, 300
MAX_BYTES = 64 << 20  # 300 frames with twenty persons take 4 MB


def read_json(path: Path) -> dict:
    """The object in a clip file; raises BadFile."""
    if path.stat().st_size > MAX_BYTES:
        raise BadFile(f"larger than {MAX_BYTES >> 20} MB; a clip takes less than 5")
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise BadFile("not a whole JSON document (truncated download?)") from None
    if not isinstance(record, dict) or not isinstance(record.get("data"), list):
        raise BadFile('found no list "data"')
    return record


def read_persons(frames: list, persons_in: int, joints: int = JOINTS, window: int | None = WINDOW) -> np.ndarray:
    """Elements {frame_index, skeleton: [{pose, score}]} -> x, y, score of the first `persons_in` of each frame, (T, M, V, 3) float64.

    T is one more than the last index; frames that are not listed stay zero. Indices count as they stand, so the first frame of a file that
    counts from 1 is empty, as in the originals. Raises BadFile.
    """
    try:
        index = [(frame["frame_index"], m) for frame in frames for m in range(len(frame["skeleton"][:persons_in]))]
        last = max((frame["frame_index"] for frame in frames), default=0)
        persons = [person for frame in frames for person in frame["skeleton"][:persons_in]]
        pose = np.array([person["pose"] for person in persons], dtype=np.float64).reshape(max(1, len(persons)), -1)
        score = np.array([person["score"] for person in persons], dtype=np.float64).reshape(max(1, len(persons)), -1)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadFile(
            "a frame is not {frame_index, skeleton: [{pose, score}]} with lists of numbers of one length"
        ) from None
    if not all(type(frame["frame_index"]) is int and isinstance(frame["skeleton"], list) for frame in frames):
        raise BadFile("a frame_index is not a whole number, or a skeleton not a list")
    if persons and (pose.shape[1], score.shape[1]) != (2 * joints, joints):
        raise BadFile(
            f"found {pose.shape[1]} coordinates and {score.shape[1]} scores; {2 * joints} and {joints} are needed"
        )
    limit = window or 1_000_000
    if any(not 0 <= frame["frame_index"] < limit for frame in frames):
        raise BadFile(f"found a frame_index outside 0 to {limit - 1}")
    data = np.zeros((last + 1, max((m for _, m in index), default=0) + 1, joints, 3))
    if persons:
        t, m = np.array(index).T
        data[t, m, :, :2] = pose.reshape(-1, joints, 2)
        data[t, m, :, 2] = score
    return data


def centre(data: np.ndarray, up: bool) -> np.ndarray:
    """Origin in the middle of the image, joints that were not found at it; `up` turns y upwards (2s-AGCN, MS-G3D; ST-GCN leaves it)."""
    x, y, score = np.moveaxis(data, -1, 0)
    found = score != 0
    return np.stack([np.where(found, x - 0.5, 0), np.where(found, (0.5 - y) if up else (y - 0.5), 0), score], axis=-1)


def surest(data: np.ndarray, persons_out: int) -> np.ndarray:
    """Each frame's persons by the sum of their scores, highest first: (T, M, V, 3) -> (T, persons_out, V, 3).

    A place may change its person from frame to frame; see `match`.
    """
    T, M, V, C = data.shape
    order = np.argsort(-data[..., 2].sum(-1), axis=1, kind="stable")[:, :persons_out]  # (T, M)
    chosen = np.zeros((T, persons_out, V, C))
    chosen[:, : order.shape[1]] = np.take_along_axis(data, order[..., None, None], axis=1)
    return chosen


def match(data: np.ndarray) -> np.ndarray:
    """Follow persons from frame to frame by the nearest pose, the surest first, then order the traces by their total score.

    ST-GCN's `pose_matching`, (T, M, V, 3) -> same; every frame must have its persons sorted by score already.
    """
    T, M = data.shape[:2]
    traced = np.tile(np.arange(M), (T, 1))
    step = data[1:, None, :, :, :2] - data[:-1, :, None, :, :2]  # (T - 1, M, M next, V, 2)
    distance = np.square(step).sum(axis=(-1, -2))
    for t in range(T - 1):
        follower = np.zeros(M, int)
        for person in range(M):
            follower[person] = distance[t, person].argmin()
            distance[t, :, follower[person]] = np.inf
        traced[t + 1] = follower[traced[t]]
    data = np.take_along_axis(data, traced[..., None, None], axis=1)
    return data[:, np.argsort(-data[..., 2].sum(axis=(0, 2)), kind="stable")]
