"""DeepLabCut tables -> clip store, with ST-GCN's conversion (as in Multi-Branch-STGCN).

    python data/deeplabcut/prepare.py --csv tables --layout rat.yaml --image-size 720 540 --augment 4

The folder contains one .csv file per recording: three header rows (scorer, bodyparts, coords; with several animals also
individuals), then the frame number and x, y (pixels), likelihood of any number of key points. The image size can also
be in the layout file, as `image_size: [720, 540]`. data/custom/prepare.py also reads the .h5 files of DeepLabCut.
Labels are in labels.csv or are the names of the folders (docs/custom_skeleton.md). Only training recordings are
augmented: their copies are scaled by 97 to 103 percent and shifted by 1 to 3 pixels.
"""

import csv
import sys
import zlib
from argparse import Namespace
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import Benchmark, main, whole_number
from data.clip import BadFile, Clip, coordinates, without_empty_tracks
from data.custom import labels
from data.custom.labels import TABLE, LabelTable, read_labels, say_tree
from data.kinetics.poses import center
from data.poses.convert import MAX_GAP, hold, interpolate
from data.poses.recording import ASSUMED_RATE
from data.poses.tables import ONE_ANIMAL, SINGLE
from data.raw_files import find_files, open_raw_table, text_name
from data.store import RawSource
from feeders.clip_store import MAX_PIXELS
from graph.skeleton_file import read_skeleton, read_skeleton_file
from torchlight.system.command import Parser
from torchlight.system.text import nearest, quote

MAX_BYTES = 256 << 20  # twice the size of 100,000 frames of 30 key points
MAX_COPIES = 1000
MAX_ANIMALS = 100
MISSING = ("zero", "interpolate", "hold")  # no mask: the likelihood is already a mask


def arguments(parser: Parser) -> None:
    """Options of DeepLabCut."""
    help = "the body: joints and bones (docs/custom_skeleton.md)"
    parser.option("skeleton", "layout", type=Path, metavar="YAML", help=help)
    labels.arguments(parser)
    parser.option(
        "image-size", type=whole_number(1, MAX_PIXELS), nargs=2, metavar=("W", "H"), help="video size in pixels"
    )
    copies = whole_number(0, MAX_COPIES)
    parser.option("augment", type=copies, default=0, metavar="N", help="copies of each training clip (%(default)s)")
    animals = whole_number(1, MAX_ANIMALS)
    help = "maximum number of animals in a clip; those with the highest likelihoods are kept (%(default)s)"
    parser.option("persons", type=animals, default=1, metavar="N", help=help)
    help = f"key points that were not seen: 0, interpolated over {MAX_GAP} s, or at their last position (%(default)s)"
    parser.option("missing", choices=MISSING, default=MISSING[0], help=help)
    help = "likelihood below which a key point counts as not seen (%(default)s)"
    parser.option("min-likelihood", type=labels.share, default=0.0, metavar="P", help=help)


class Reading(NamedTuple):
    """How a table is read; see the options of the same names."""

    persons: int = 1
    missing: str = "zero"
    min_likelihood: float = 0.0


DEFAULT = Reading()


def reading(facts: Mapping[str, Any]) -> Reading:
    """How the tables of a store were read, from its manifest."""
    return Reading(facts.get("num_person") or 1, facts.get("missing", "zero"), facts.get("min_likelihood", 0.0))


def source(args: Namespace) -> RawSource:
    """All .csv files below --raw. Raises ValueError."""
    if args.skeleton is None:
        raise ValueError("--layout: expected a YAML file, got none")
    if len(args.raw) != 1:
        raise ValueError(f"--csv: expected one folder, got {len(args.raw)}")
    skeleton = read_skeleton(args.skeleton)
    say_tree(args.skeleton, skeleton)
    size = args.image_size or read_skeleton_file(args.skeleton).get("image_size")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n <= MAX_PIXELS for n in size):
        raise ValueError(f"--image-size: expected width and height of the video in pixels, got {quote(size)}")
    files = [file for file in find_files(args.raw, r".*\.csv") if file.name != TABLE]
    table = read_labels(args.raw[0], files, args)
    facts = {"benchmark": args.out.stem, "recipe": args.recipe, "skeleton": str(args.skeleton)}
    facts |= {"num_point": skeleton.num_joint, "num_person": args.persons, "channels": 3}
    facts |= {"missing": args.missing, "min_likelihood": args.min_likelihood}
    facts |= {"pad": "zero", "window": None, "up": "-y", "image_size": size, "augment": args.augment, "seed": args.seed}
    facts |= {"joints": skeleton.joints, **table.facts}
    read = partial(read_clips, skeleton.joints, tuple(size), args.augment, args.seed, reading(facts), table)
    return RawSource(files, read, partial(split, table), facts, partial(columns, table))


def recording_of(table: LabelTable, name: str) -> str:
    """The recording of a clip: a copy is named `<recording>.2`."""
    return name if name in table.part else name.rpartition(".")[0]


def split(table: LabelTable, names: np.ndarray, _: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The table's parts; a copy is in the part of its recording."""
    return table.split([table.part[recording_of(table, name)] for name in names])


def columns(table: LabelTable, names: np.ndarray) -> dict[str, np.ndarray]:
    """The table's further columns."""
    return table.columns([recording_of(table, name) for name in names])


def read_clips(
    joints: tuple[str, ...],
    size: tuple[int, int],
    augment: int,
    seed: int,
    how: Reading,
    table: LabelTable,
    path: Path,
) -> list[Clip]:
    """One table as a clip and its copies; raises BadFile."""
    name = text_name(path.stem)
    if name not in table.label:
        raise BadFile(f"not in {TABLE}")
    points, missing = read_animals(path, joints, how)
    made = [(name, to_image(points, size))]
    if table.part[name] == "train":
        rng = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "surrogateescape"))])
        for k in range(2, augment + 2):
            scale, dx, dy = rng.integers(97, 104) / 100, rng.integers(1, 4), rng.integers(1, 4)
            made.append((f"{name}.{k}", to_image(points, size, scale, dx, dy)))
    slots = (*range(len(points)), *[-1] * (how.persons - len(points)))
    return [
        without_empty_tracks(Clip(copy, table.label[name], to_tracks(image), slots, missing=missing))
        for copy, image in made
    ]


def read_animals(path: Path, joints: tuple[str, ...], how: Reading = DEFAULT) -> tuple[np.ndarray, float]:
    """The joints of the animals in a table, (M, T, V, 3) float64: x, y in pixels and likelihood; and the share of
    joints that were not seen. Raises BadFile."""
    try:
        with open_raw_table(path, MAX_BYTES) as file:
            rows = csv.reader(file)
            header = [next(rows, []) for _ in range(3)]
            header += [next(rows, [])] if header[1][:1] == ["individuals"] else []
            columns = _columns(header, joints)
            values = np.fromiter((float(row[i] or "nan") for row in rows if row for i in columns), np.float64)
    except BadFile:
        raise
    except (ValueError, IndexError, csv.Error) as error:
        raise BadFile(f"expected a number or nothing in each cell of a row, got something else: {error}") from error
    if not len(values):
        raise BadFile("expected frames below the header rows, got none")
    V = len(joints)
    points = values.reshape(-1, len(columns) // (3 * V), V, 3).transpose(1, 0, 2, 3).copy()
    lost = np.isnan(points).any(-1) | (points[..., 2] < how.min_likelihood)
    lost_share = float((lost | (points[..., 2] == 0)).mean())
    points[lost] = np.nan
    for animal in points if how.missing != "zero" else ():
        track = animal.reshape(len(animal), -1)  # a view
        hold(track) if how.missing == "hold" else interpolate(track, round(MAX_GAP * ASSUMED_RATE))
    points = np.nan_to_num(points)
    best = np.sort(np.argsort(-points[..., 2].sum((1, 2)), kind="stable")[: how.persons])
    return points[best], lost_share


def _columns(header: list[list[str]], joints: tuple[str, ...]) -> list[int]:
    """The columns of x, y, likelihood of each joint of each animal; raises BadFile."""
    several = len(header) == 4
    names = [row[:1] for row in header[1:]]
    if names != [*([["individuals"]] if several else []), ["bodyparts"], ["coords"]]:
        raise BadFile("expected the header rows scorer, (individuals,) bodyparts, coords")
    parts, kinds = header[-2:]
    animals = header[1] if several else [ONE_ANIMAL] * len(parts)
    columns = {key: i for i, key in enumerate(zip(animals, parts, kinds, strict=False)) if i}
    known = dict.fromkeys(animal for animal, _, _ in columns if animal != SINGLE)
    wanted = [(animal, joint, kind) for animal in known for joint in joints for kind in ("x", "y", "likelihood")]
    for animal, joint, kind in wanted:
        if (animal, joint, kind) not in columns:
            of = f" of {quote(animal)}" if several else ""
            raise BadFile(
                f"expected a column {kind} of {quote(joint)}{of}, got none; {nearest(joint, dict.fromkeys(parts[1:]))}"
            )
    if not wanted:
        raise BadFile("expected columns of an animal, got none")
    return [columns[column] for column in wanted]


def to_image(points: np.ndarray, size: tuple[int, int], scale: float = 1, dx: float = 0, dy: float = 0) -> np.ndarray:
    """Pixels to fractions of the image, scaled about its top left corner and shifted by dx, dy pixels, (..., 3)."""
    image = points.copy()
    image[..., 0] = (scale * points[..., 0] + dx) / size[0]
    image[..., 1] = (scale * points[..., 1] + dy) / size[1]
    return image


def to_tracks(image: np.ndarray) -> np.ndarray:
    """(M, T, V, 3) -> (M, T + 1, V, 3) float32. Frame 0 is empty, because the tables count from 1 and ST-GCN's
    conversion counts from 0."""
    return coordinates(np.pad(center(image, up=False), ((0, 0), (1, 0), (0, 0), (0, 0))))


BENCHMARK = Benchmark("deeplabcut", ("stgcn",), source, arguments, raw_flags=("csv",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
