"""Clips in custom files, which are read without any conversion: .npz with `keypoint`, .npy, .json with "skeletons",
.csv with the columns <joint>_x ..."""

import csv
from pathlib import Path

import numpy as np

from data.clip import BadFile
from data.raw_files import bad_file, number_array, open_raw_table, read_raw_json
from graph.body import Skeleton
from torchlight.system.arrays import open_archive, open_array

MAX_BYTES = 256 << 20  # of a .csv file and of the array in an .npz file
MAX_JSON_BYTES = 32 << 20  # JSON takes twenty times its size in memory
AXES = "xyz"


def read_own(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray | None:
    """Coordinates (persons, frames, joints, coordinates) of a file that contains exactly the joints of `skeleton` with
    `channels` numbers each; None for a file of another format, layout or dimension, or with missing values.

    Raises:
        BadFile: the file is damaged.
    """
    reader = READERS.get(path.suffix)
    data = None if reader is None else reader(path, skeleton, channels)
    if data is None or data.ndim not in (3, 4) or data.shape[-2:] != (skeleton.num_joint, channels):
        return None
    if np.isnan(data).any():
        return None
    return data if data.ndim == 4 else data[None]


def _read_npz(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray | None:
    try:
        with open_archive(path) as archive:
            if "keypoint" not in archive.names or "layout" in archive.names:
                return None
            if (size := archive.header("keypoint", "iuf").nbytes) > MAX_BYTES:
                raise BadFile(f"expected at most {MAX_BYTES} bytes in the array keypoint, got {size}")
            return archive.array("keypoint", "iuf")
    except BadFile:
        raise
    except ValueError as error:
        raise bad_file(path, error) from error


def _read_npy(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray | None:
    try:
        array = open_array(path, "iuf")
    except ValueError as error:
        raise bad_file(path, error) from error
    if array.nbytes > MAX_BYTES:
        raise BadFile(f"expected at most {MAX_BYTES} bytes, got {array.nbytes}")
    return np.array(array) if array.ndim in (3, 4) else None


def _read_json(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray | None:
    record = read_raw_json(path, MAX_JSON_BYTES)
    return number_array(record["skeletons"]) if isinstance(record, dict) and "skeletons" in record else None


def _read_csv(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray | None:
    try:
        with open_raw_table(path, MAX_BYTES) as file:
            rows = csv.reader(file)
            place = {word.strip(): i for i, word in reversed(list(enumerate(next(rows, []))))}
            wanted = [f"{joint}_{axis}" for joint in skeleton.joints for axis in AXES[:channels]]
            if channels > len(AXES) or not set(wanted) <= place.keys():  # a fourth channel is not a coordinate
                return None
            columns = [place[name] for name in wanted]
            values = np.fromiter((float(row[i].strip() or "nan") for row in rows if row for i in columns), np.float64)
    except BadFile:
        raise
    except (ValueError, IndexError, csv.Error) as error:
        raise BadFile(f"expected a row per frame and the columns <joint>_x, <joint>_y ...: {error}") from error
    return values.reshape(-1, skeleton.num_joint, channels)


READERS = {".npz": _read_npz, ".npy": _read_npy, ".json": _read_json, ".csv": _read_csv}
