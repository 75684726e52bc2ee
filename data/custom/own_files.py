"""Clips in custom files, which are read without any conversion: .npz with `keypoint`, .npy, .json with "skeletons",
.csv with the columns <joint>_x ..."""

import csv
from pathlib import Path

import numpy as np

from data.clip import BadFile, coordinates
from data.poses.array_files import stated_rate, stated_size
from data.poses.convert import Body
from data.poses.recording import Facts, PoseFileError, Recording
from data.raw_files import bad_file, number_array, open_raw_table, read_raw_json
from graph.body import Skeleton
from torchlight.system.arrays import open_archive, open_array

MAX_BYTES = 256 << 20  # of a .csv file and of the array in an .npz file
MAX_JSON_BYTES = 32 << 20  # JSON takes twenty times its size in memory
AXES = "xyz"
STATED = {"layout", "axes", "units", "frames"}  # an .npz file with one of them may need a conversion


def read_own(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray | None:
    """Coordinates (persons, frames, joints, coordinates) of a file that contains exactly the joints of `skeleton` with
    `channels` numbers each, NaN for missing values; None for a file of another format, layout or dimension.

    Raises:
        BadFile: the file is damaged.
    """
    reader = READERS.get(path.suffix.lower())
    data = None if reader is None else reader(path, skeleton, channels)
    if data is None or data.ndim not in (3, 4) or data.shape[-2:] != (skeleton.num_joint, channels):
        return None
    return data if data.ndim == 4 else data[None]


def own_facts(path: Path, body: Body) -> Facts:
    """The axes and units of the clips of `body`, and the frame rate and image size that an .npz file states.

    Raises:
        BadFile: the file is damaged.
    """
    axes, units = ("image", "px") if body.is_flat else ("kinect", "m")
    facts = Facts("coordinates of the skeleton", body.layout, axes=axes, units=units, resampled=False)
    if path.suffix.lower() == ".npz":
        try:
            with open_archive(path) as archive:
                facts.rate, facts.image_size = stated_rate(archive), stated_size(archive)
        except ValueError as error:
            raise bad_file(path, error) from error
    return facts


def as_recording(data: np.ndarray, facts: Facts) -> Recording:
    """Coordinates of `read_own`, NaN for missing values, as a recording with the facts of `own_facts`.

    A person with zeros only was not seen in that frame, as in padded arrays.

    Raises:
        PoseFileError: they contain no person.
    """
    dims = 2 if facts.axes == "image" else 3
    score = np.nan_to_num(data[..., dims]).astype(np.float32) if data.shape[-1] > dims else None
    data = np.where(data.any((2, 3), keepdims=True), data, np.nan)
    tracks = tuple(str(m + 1) for m in range(len(data)))
    return Recording(data[..., :dims].astype(np.float32), score, tracks, np.arange(data.shape[1]), facts).check()


def own_recording(path: Path, body: Body, channels: int) -> Recording | None:
    """The coordinates of `read_own` for a conversion to windows, persons or another frame rate.

    Raises:
        PoseFileError: the file is damaged, or contains no person.
    """
    try:
        data = read_own(path, body.skeleton, channels)
        if data is None or not data.size:
            return None
        return as_recording(data, own_facts(path, body))
    except (BadFile, PoseFileError) as error:
        raise PoseFileError(f"{path}: {error}") from error


def own_frames(data: np.ndarray, body: Body, recipe: str) -> np.ndarray:
    """Coordinates (M, T, V, C) as a recipe of data/custom prepares them; raises BadFile if they are not finite."""
    data = coordinates(data)
    if recipe != "centered":
        return data
    dims = 2 if body.is_flat else 3  # a score is not moved
    centered = center_on(data[..., :dims], body.skeleton.center)
    return np.concatenate([centered, data[..., dims:]], -1)


def center_on(data: np.ndarray, joint: int) -> np.ndarray:
    """Move the origin to `joint` of the first person in the first frame with it; joints that are all zero stay zero."""
    seen = data.any(axis=-1, keepdims=True)
    first = np.flatnonzero(seen[0, :, joint, 0])
    return np.where(seen, data - data[0, first[0], joint], np.float32(0)) if len(first) else data


def _read_npz(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray | None:
    try:
        with open_archive(path) as archive:
            if "keypoint" not in archive.names or STATED & set(archive.names):
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
