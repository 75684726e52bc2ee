"""Kinetics-Skeleton's JSON clips: OpenPose joints of any number of persons -> the most confident ones of each frame."""

from pathlib import Path

import numpy as np

from data.clip import BadFile
from data.raw_files import read_raw_json

JOINTS, WINDOW = 18, 300
MAX_BYTES = 16 << 20  # 300 frames with twenty persons take 4 MB


def read_record(path: Path) -> dict:
    """The object in a clip file; raises BadFile."""
    record = read_raw_json(path, MAX_BYTES)
    if not isinstance(record, dict) or not isinstance(record.get("data"), list):
        raise BadFile('expected a JSON object with the list "data"')
    return record


def read_persons(frames: list, persons_in: int) -> np.ndarray:
    """Elements {frame_index, skeleton: [{pose, score}]} -> x, y, score of the first `persons_in` of each frame.

    (T, M, V, 3) float64, where T is the last index plus 1; frames that are not listed are zero. Indices are not
    shifted, so the first frame of a file that counts from 1 is empty, as in the published code. Raises BadFile.
    """
    try:
        index = [(frame["frame_index"], m) for frame in frames for m in range(len(frame["skeleton"][:persons_in]))]
        last = max((frame["frame_index"] for frame in frames), default=0)
        persons = [person for frame in frames for person in frame["skeleton"][:persons_in]]
        pose = np.array([person["pose"] for person in persons], dtype=np.float64).reshape(max(1, len(persons)), -1)
        score = np.array([person["score"] for person in persons], dtype=np.float64).reshape(max(1, len(persons)), -1)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadFile("expected frames {frame_index, skeleton: [{pose, score}]} with lists of equal length") from None
    if not all(type(frame["frame_index"]) is int and isinstance(frame["skeleton"], list) for frame in frames):
        raise BadFile("expected a whole number as frame_index and a list as skeleton")
    if persons and (pose.shape[1], score.shape[1]) != (2 * JOINTS, JOINTS):
        got = f"{pose.shape[1]} and {score.shape[1]}"
        raise BadFile(f"expected {2 * JOINTS} coordinates and {JOINTS} scores, got {got}")
    if any(not 0 <= frame["frame_index"] < WINDOW for frame in frames):
        raise BadFile(f"expected a frame_index from 0 to {WINDOW - 1}, got one outside")
    data = np.zeros((last + 1, max((m for _, m in index), default=0) + 1, JOINTS, 3))
    if persons:
        t, m = np.array(index).T
        data[t, m, :, :2] = pose.reshape(-1, JOINTS, 2)
        data[t, m, :, 2] = score
    return data


def center(data: np.ndarray, up: bool) -> np.ndarray:
    """Move the origin to the middle of the image; joints with score 0 become 0.

    `up` flips y so that it points upwards (2s-AGCN, MS-G3D); ST-GCN keeps it.
    """
    x, y, score = np.moveaxis(data, -1, 0)
    found = score != 0
    return np.stack([np.where(found, x - 0.5, 0), np.where(found, (0.5 - y) if up else (y - 0.5), 0), score], axis=-1)


def most_confident(data: np.ndarray, persons_out: int) -> np.ndarray:
    """The persons of each frame with the largest sum of scores, largest first: (T, M, V, 3) -> (T, persons_out, V, 3).

    A slot may show different persons in different frames; see `match`.
    """
    T, M, V, C = data.shape
    order = np.argsort(-data[..., 2].sum(-1), axis=1, kind="stable")[:, :persons_out]  # (T, M)
    chosen = np.zeros((T, persons_out, V, C))
    chosen[:, : order.shape[1]] = np.take_along_axis(data, order[..., None, None], axis=1)
    return chosen


def match(data: np.ndarray) -> np.ndarray:
    """Track persons from frame to frame by the nearest pose, most confident first; sort the tracks by total score.

    ST-GCN's `pose_matching`, (T, M, V, 3) -> same. The persons of every frame must be sorted by score.
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
