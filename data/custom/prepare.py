"""Clips of your own skeleton -> clip store.

    python data/custom/prepare.py --raw clips --skeleton body.yaml --out data/custom/mine.clips

The raw folder holds one file per clip: .npz with the array `keypoint` or .json with the list "skeletons", both of the shape
(frames, joints, coordinates) or (persons, frames, joints, coordinates), or .csv with a row per frame and the columns <joint>_x,
<joint>_y (and <joint>_z). Labels are in labels.csv or are the names of the folders. docs/custom_skeleton.md goes through an example.
Recipes: centred (the skeleton's centre joint in the first frame is the origin), plain (coordinates as they are).
"""

import csv
import io
import json
import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import Benchmark, main, raw_files
from data.custom import table
from data.custom.table import PARTS, SPLIT, TABLE, Table, read_table
from data.store import BadFile, Clip, Source, coordinates, without_empty_tracks
from graph.skeleton import Skeleton

MAX_BYTES = 256 << 20
AXES = "xyz"


def arguments(parser: ArgumentParser) -> None:
    table.arguments(parser)
    parser.add_argument("--persons", type=int, default=1, metavar="N", help="persons of a clip, at most (%(default)s)")
    parser.add_argument("--channels", type=int, choices=(2, 3), default=3, help="coordinates of a joint (%(default)s)")
    parser.add_argument(
        "--up", choices=("y", "-y", "z"), default="y", help="the axis that points up, for pictures (%(default)s)"
    )


def source(args: Namespace) -> Source:
    """All .npz, .json and .csv files below --raw. Raises ValueError."""
    if args.skeleton is None or len(args.raw) != 1 or args.persons < 1:
        raise ValueError("--skeleton is needed, --raw takes one folder here and --persons is at least 1")
    skeleton = Skeleton.from_yaml(args.skeleton)
    files = [file for file in raw_files(args.raw, "*.*") if file.suffix in READERS and file.name != TABLE]
    clips = read_table(args.raw[0], files, args)
    facts = {
        "benchmark": args.out.stem,
        "recipe": args.recipe,
        "skeleton": str(args.skeleton),
        "num_class": len(clips.classes),
    }
    facts |= {
        "num_point": skeleton.num_joint,
        "num_person": args.persons,
        "channels": args.channels,
        "pad": "zero",
        "window": None,
    }
    facts |= {"up": args.up, "class_names": clips.classes, "joints": skeleton.joints, "labels": clips.fingerprint}
    read = partial(read_clip, skeleton, args.recipe == "centred", args.persons, args.channels, clips.label)
    return Source(files, read, partial(split, clips), facts)


def split(clips: Table, names: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The table's parts, sorted by name."""
    part = np.array([clips.part[name] for name in names])
    return {SPLIT: {word: np.flatnonzero(part == word) for word in PARTS}}


def read_clip(
    skeleton: Skeleton, centred: bool, persons: int, channels: int, labels: dict[str, int], path: Path
) -> list[Clip]:
    """One file as a clip; raises BadFile."""
    if path.stem not in labels:
        raise BadFile(f"not in {TABLE}")
    if path.stat().st_size > MAX_BYTES:
        raise BadFile(f"larger than {MAX_BYTES >> 20} MB")
    data = READERS[path.suffix](path, skeleton, channels)
    if data.dtype.kind not in "fiu" or data.ndim not in (3, 4):
        raise BadFile(
            f"found an array {data.shape} of {data.dtype}; numbers (frames, joints, coordinates), or with persons before, are needed"
        )
    data = data if data.ndim == 4 else data[None]
    M, T, V, C = data.shape
    if not 0 < M <= persons or T == 0 or (V, C) != (skeleton.num_joint, channels):
        need = f"(up to {persons}, frames, {skeleton.num_joint}, {channels})"
        raise BadFile(f"found {data.shape} for persons, frames, joints, coordinates; {need} is needed")
    data = coordinates(data)
    if centred:
        data = _centred(data, skeleton.center)
    return [without_empty_tracks(Clip(path.stem, labels[path.stem], data, tuple(range(M)) + (-1,) * (persons - M)))]


def _centred(data: np.ndarray, joint: int) -> np.ndarray:
    """Origin at `joint` of the first person in the first frame where it is seen; joints that are all zero were not seen and stay."""
    seen = data.any(axis=-1, keepdims=True)
    first = np.flatnonzero(seen[0, :, joint, 0])
    return np.where(seen, data - data[0, first[0], joint], np.float32(0)) if len(first) else data


def _read_npz(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            if arrays.zip.getinfo("keypoint.npy").file_size > MAX_BYTES:
                raise BadFile(f"holds more than {MAX_BYTES >> 20} MB")
            return arrays["keypoint"]
    except BadFile:
        raise
    except (
        Exception
    ):  # NumPy and zipfile answer damage with a dozen kinds, zlib.error and NotImplementedError among them
        raise BadFile("found no array `keypoint` in it (not an .npz, damaged, or another name)") from None


def _read_json(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray:
    try:
        return np.array(json.loads(path.read_bytes())["skeletons"])
    except (ValueError, RecursionError, KeyError, TypeError):
        raise BadFile(
            'found no regular list "skeletons" in it (not JSON, truncated, another key, or frames of different size)'
        ) from None


def _read_csv(path: Path, skeleton: Skeleton, channels: int) -> np.ndarray:
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
        header = [word.strip() for word in rows[0]]
        columns = [header.index(f"{joint}_{axis}") for joint in skeleton.joints for axis in AXES[:channels]]
        values = np.array([[float(row[column]) for column in columns] for row in rows[1:] if row])
    except (ValueError, IndexError, csv.Error) as error:
        raise BadFile(f"not a table with a row per frame and the columns <joint>_x, <joint>_y ...: {error}") from None
    return values.reshape(len(values), skeleton.num_joint, channels)


READERS = {".npz": _read_npz, ".json": _read_json, ".csv": _read_csv}
BENCHMARK = Benchmark("custom", ("centred", "plain"), source, arguments)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
