"""Clips of your own skeleton -> clip store.

    python data/custom/prepare.py --raw clips --skeleton body.yaml --out data/custom/mine.clips

The raw folder has one file per clip: .npz with the array `keypoint` or .json with the list "skeletons", both of the
shape (frames, joints, coordinates) or (persons, frames, joints, coordinates), or .csv with a row per frame and the
columns <joint>_x, <joint>_y (and <joint>_z). Labels are in labels.csv or are the names of the folders;
docs/custom_skeleton.md has an example. Recipes: centered (the origin is the skeleton's center joint in the first
frame), plain (coordinates unchanged).
"""

import csv
import re
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import Benchmark, main, whole_number
from data.clip import BadFile, Clip, coordinates, without_empty_tracks
from data.custom import labels
from data.custom.labels import TABLE, LabelTable, read_labels
from data.raw_files import bad_file, find_files, number_array, open_raw_table, read_raw_json, text_name
from data.store import RawSource
from graph.skeleton import Skeleton
from torchlight.system.arrays import open_archive
from torchlight.system.command import Parser

MAX_BYTES = 256 << 20  # of a .csv file and of the array in an .npz file
MAX_JSON_BYTES = 32 << 20  # JSON takes twenty times its size in memory
MAX_PERSONS = 100
AXES = "xyz"


def arguments(parser: Parser) -> None:
    """Options of custom skeletons."""
    labels.arguments(parser)
    parser.option(
        "persons",
        type=whole_number(1, MAX_PERSONS),
        default=1,
        metavar="N",
        help="persons of a clip, at most (%(default)s)",
    )
    parser.option("channels", type=int, choices=(2, 3), default=3, help="coordinates of a joint (%(default)s)")
    parser.option(
        "up", choices=("y", "-y", "z"), default="y", help="the axis that points up, for pictures (%(default)s)"
    )


def source(args: Namespace) -> RawSource:
    """All .npz, .json and .csv files below --raw. Raises ValueError."""
    if args.skeleton is None:
        raise ValueError("--skeleton: expected a YAML file, got none")
    if len(args.raw) != 1:
        raise ValueError(f"--raw: expected one folder, got {len(args.raw)}")
    skeleton = Skeleton.from_yaml(args.skeleton)
    pattern = f".*({'|'.join(map(re.escape, READERS))})"
    files = [file for file in find_files(args.raw, pattern) if file.name != TABLE]
    table = read_labels(args.raw[0], files, args)
    facts = {"benchmark": args.out.stem, "recipe": args.recipe, "skeleton": str(args.skeleton)}
    facts |= {"num_class": len(table.classes), "num_point": skeleton.num_joint, "num_person": args.persons}
    facts |= {"channels": args.channels, "pad": "zero", "window": None, "up": args.up, "class_names": table.classes}
    facts |= {"joints": skeleton.joints, "labels": table.fingerprint}
    read = partial(read_clip, skeleton, args.recipe == "centered", args.persons, args.channels, table.label)
    return RawSource(files, read, partial(split, table), facts)


def split(table: LabelTable, names: np.ndarray, _: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The table's parts, sorted by name."""
    return table.split([table.part[name] for name in names])


def read_clip(
    skeleton: Skeleton, centered: bool, persons: int, channels: int, label: dict[str, int], path: Path
) -> list[Clip]:
    """One file as a clip; raises BadFile."""
    name = text_name(path.stem)
    if name not in label:
        raise BadFile(f"not in {TABLE}")
    data = READERS[path.suffix](path, skeleton, channels)
    if data.ndim not in (3, 4):
        raise BadFile(f"expected an array ([persons,] frames, joints, coordinates), got the shape {data.shape}")
    data = data if data.ndim == 4 else data[None]
    M, T, V, C = data.shape
    if not 0 < M <= persons or T == 0 or (V, C) != (skeleton.num_joint, channels):
        expected = f"(up to {persons} persons, frames, {skeleton.num_joint} joints, {channels} coordinates)"
        raise BadFile(f"expected an array {expected}, got {data.shape}")
    data = coordinates(data)
    if centered:
        data = center_on(data, skeleton.center)
    return [without_empty_tracks(Clip(name, label[name], data, tuple(range(M)) + (-1,) * (persons - M)))]


def center_on(data: np.ndarray, joint: int) -> np.ndarray:
    """Move the origin to `joint` of the first person in the first frame with it; joints that are all zero stay zero."""
    seen = data.any(axis=-1, keepdims=True)
    first = np.flatnonzero(seen[0, :, joint, 0])
    return np.where(seen, data - data[0, first[0], joint], np.float32(0)) if len(first) else data


def _read_npz(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray:
    try:
        with open_archive(path) as archive:
            if (size := archive.header("keypoint", "iuf").nbytes) > MAX_BYTES:
                raise BadFile(f"expected at most {MAX_BYTES} bytes in the array keypoint, got {size}")
            return archive.array("keypoint", "iuf")
    except BadFile:
        raise
    except ValueError as error:
        raise bad_file(path, error) from error


def _read_json(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray:
    record = read_raw_json(path, MAX_JSON_BYTES)
    if not isinstance(record, dict) or "skeletons" not in record:
        raise BadFile('expected a JSON object with the key "skeletons"')
    return number_array(record["skeletons"])


def _read_csv(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray:
    try:
        with open_raw_table(path, MAX_BYTES) as file:
            rows = csv.reader(file)
            header = [word.strip() for word in next(rows, [])]
            columns = [header.index(f"{joint}_{axis}") for joint in skeleton.joints for axis in AXES[:channels]]
            values = np.fromiter((float(row[i]) for row in rows if row for i in columns), np.float64)
    except BadFile:
        raise
    except (ValueError, IndexError, csv.Error) as error:
        raise BadFile(f"expected a row per frame and the columns <joint>_x, <joint>_y ...: {error}") from error
    return values.reshape(-1, skeleton.num_joint, channels)


READERS = {".npz": _read_npz, ".json": _read_json, ".csv": _read_csv}
BENCHMARK = Benchmark("custom", ("centered", "plain"), source, arguments)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
