"""PYSKL's annotations of Kinetics-400: records without key points; the detections are in separate pickles."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from torchlight.system.paths import locate
from torchlight.system.pickles import read_pickle
from torchlight.system.text import quote

MOST_DETECTIONS = 10  # per frame; if a clip has more, PYSKL sorts the detections of every frame by their scores
PERSONS = 2  # kept per clip; all published graph networks use two


def add_key_points(path: Path, records: Sequence[dict], key: str, most: int = PERSONS) -> tuple[list[dict], int]:
    """Records with `raw_file` and `frame_inds` -> the same with `keypoint` (M, T, V, 3), and the total size of the
    files in bytes.

    key: the entry that names a clip. most: maximum number of persons per frame that are kept. If a `raw_file` does not
    exist, it is searched for in the folder of the annotations.

    Raises:
        ValueError: a file or a record is missing, damaged or in an unexpected format.
    """
    by_file: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        if not isinstance(record.get("raw_file"), str):
            raise ValueError(f"{path}: annotations: {record[key]}: raw_file: expected the path of a pickle, got none")
        by_file[record["raw_file"]].append(i)
    out, size = list(records), 0
    for raw_file, numbers in by_file.items():
        file = locate(raw_file)
        file = file if os.path.isfile(file) else path.with_name(PurePath(raw_file).name or "raw_file")
        content = read_pickle(file)
        size += file.stat().st_size
        for i in numbers:
            found = content.get(records[i][key]) if isinstance(content, dict) else None
            if not isinstance(found, dict):
                raise ValueError(f"{file}: expected the detections of {records[i][key]}, got {quote(found)}")
            origin = f"{file}: {records[i][key]}"
            frame = records[i].get("frame_inds")
            out[i] = records[i] | {"keypoint": persons(frame, found.get("keypoint"), origin, most)}
    return out, size


def persons(frame: Any, keypoint: Any, origin: str, most: int = PERSONS) -> np.ndarray:
    """The detections of a clip, frame (n,) and keypoint (n, V, 3), as at most `most` persons (M, T, V, 3) float16.

    Frames without a detection are omitted. Person i of a frame is its i-th detection, because persons are not tracked;
    absent persons are zero.

    Raises:
        ValueError: the arrays are not detections.
    """
    shape = keypoint.shape if isinstance(keypoint, np.ndarray) and keypoint.dtype.kind == "f" else ()
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(
            f"{origin}: keypoint: expected numbers (n, V, 3), got {shape or quote(type(keypoint).__name__)}"
        )
    if not isinstance(frame, np.ndarray) or frame.shape != keypoint.shape[:1] or frame.dtype.kind not in "iu":
        raise ValueError(f"{origin}: frame_inds: expected {len(keypoint)} frame numbers, got {quote(frame)}")
    rank = np.unique(frame, return_inverse=True)[1]
    count = np.bincount(rank)
    order = np.argsort(rank, kind="stable")
    if count.max() > MOST_DETECTIONS:
        order = np.lexsort((-keypoint[:, :, 2].astype(np.float16).sum(1), rank))
    person = np.arange(len(rank)) - np.repeat(np.cumsum(count) - count, count)
    out = np.zeros((min(int(count.max()), most), len(count), *keypoint.shape[1:]), np.float16)
    kept = person < len(out)
    with np.errstate(over="ignore"):  # infinity is refused with the name of the clip
        out[person[kept], rank[order][kept]] = keypoint[order][kept]
    return out
