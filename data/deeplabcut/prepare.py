"""DeepLabCut tables -> clip store, with ST-GCN's conversion (as in Multi-Branch-STGCN).

    python data/deeplabcut/prepare.py --csv tables --layout rat.yaml --image-size 720 540 --augment 4

The folder has one .csv per recording: three header rows (scorer, bodyparts, coords), then the frame number and x, y
(pixels), likelihood of any number of key points. The image size can also be in the layout, as
`image_size: [720, 540]`. Labels are in labels.csv or are the names of the folders (docs/custom_skeleton.md). Copies
(scaled by 97 to 103 percent and shifted by 1 to 3 pixels) are made of training recordings only.
"""

import csv
import sys
import zlib
from argparse import Namespace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import Benchmark, main, whole_number
from data.clip import BadFile, Clip, coordinates
from data.custom import labels
from data.custom.labels import TABLE, LabelTable, read_labels
from data.kinetics.poses import center
from data.raw_files import find_files, open_raw_table, text_name
from data.store import RawSource
from graph.skeleton import Skeleton, read_skeleton_file
from torchlight.system.command import Parser
from torchlight.system.text import nearest, quote

MAX_BYTES = 256 << 20  # 100,000 frames of 30 key points have half of this
MAX_PIXELS = 100_000  # of a side of an image
MAX_COPIES = 1000


def arguments(parser: Parser) -> None:
    """Options of DeepLabCut."""
    help = "the body: joints and bones (docs/custom_skeleton.md)"
    parser.option("skeleton", "layout", type=Path, metavar="YAML", help=help)
    labels.arguments(parser)
    parser.option(
        "image-size", type=whole_number(1, MAX_PIXELS), nargs=2, metavar=("W", "H"), help="pixels of the video"
    )
    copies = whole_number(0, MAX_COPIES)
    parser.option("augment", type=copies, default=0, metavar="N", help="copies of each training clip (%(default)s)")


def source(args: Namespace) -> RawSource:
    """All .csv files below --raw. Raises ValueError."""
    if args.skeleton is None:
        raise ValueError("--layout: expected a YAML file, got none")
    if len(args.raw) != 1:
        raise ValueError(f"--csv: expected one folder, got {len(args.raw)}")
    skeleton = Skeleton.from_yaml(args.skeleton)
    size = args.image_size or read_skeleton_file(args.skeleton).get("image_size")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n <= MAX_PIXELS for n in size):
        raise ValueError(f"--image-size: expected width and height of the video in pixels, got {quote(size)}")
    files = [file for file in find_files(args.raw, r".*\.csv") if file.name != TABLE]
    table = read_labels(args.raw[0], files, args)
    facts = {"benchmark": args.out.stem, "recipe": args.recipe, "skeleton": str(args.skeleton)}
    facts |= {"num_class": len(table.classes), "num_point": skeleton.num_joint, "num_person": 1, "channels": 3}
    facts |= {"pad": "zero", "window": None, "up": "-y", "image_size": size, "augment": args.augment, "seed": args.seed}
    facts |= {"joints": skeleton.joints, "class_names": table.classes, "labels": table.fingerprint}
    read = partial(read_clips, skeleton.joints, tuple(size), args.augment, args.seed, table)
    return RawSource(files, read, partial(split, table), facts)


def split(table: LabelTable, names: np.ndarray, _: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The table's parts; a copy `<recording>.2` is in the part of its recording."""
    return table.split([table.part.get(name) or table.part[name.rpartition(".")[0]] for name in names])


def read_clips(
    joints: tuple[str, ...], size: tuple[int, int], augment: int, seed: int, table: LabelTable, path: Path
) -> list[Clip]:
    """One table as a clip and its copies; raises BadFile."""
    name = text_name(path.stem)
    if name not in table.label:
        raise BadFile(f"not in {TABLE}")
    points = read_points(path, joints)
    made = [(name, to_image(points, size))]
    if table.part[name] == "train":
        rng = np.random.default_rng([seed, zlib.crc32(name.encode("utf-8", "surrogateescape"))])
        for k in range(2, augment + 2):
            scale, dx, dy = rng.integers(97, 104) / 100, rng.integers(1, 4), rng.integers(1, 4)
            made.append((f"{name}.{k}", to_image(points, size, scale, dx, dy)))
    return [Clip(copy, table.label[name], to_track(image), (0,)) for copy, image in made]


def read_points(path: Path, joints: tuple[str, ...]) -> np.ndarray:
    """The joints of a table, (T, V, 3) float64: x, y in pixels, likelihood; 0 for empty cells. Raises BadFile."""
    try:
        with open_raw_table(path, MAX_BYTES) as file:
            rows = csv.reader(file)
            columns = _columns([next(rows, []) for _ in range(3)], joints)
            values = np.fromiter((float(row[i] or "nan") for row in rows if row for i in columns), np.float64)
    except BadFile:
        raise
    except (ValueError, IndexError, csv.Error) as error:
        raise BadFile(f"expected a number or nothing in each cell of a row, got something else: {error}") from error
    if not len(values):
        raise BadFile("expected frames below the header rows, got none")
    points = values.reshape(-1, len(joints), 3)
    points[np.isnan(points).any(axis=-1)] = 0
    return points


def _columns(header: list[list[str]], joints: tuple[str, ...]) -> list[int]:
    """The columns of x, y, likelihood of each joint; raises BadFile."""
    if [row[:1] for row in header[1:]] != [["bodyparts"], ["coords"]]:
        raise BadFile("expected the header rows scorer, bodyparts, coords (tables of several animals cannot be read)")
    columns = {(part, kind): i for i, (part, kind) in enumerate(zip(*header[1:], strict=False))}
    wanted = [(joint, kind) for joint in joints for kind in ("x", "y", "likelihood")]
    for joint, kind in wanted:
        if (joint, kind) not in columns:
            raise BadFile(
                f"expected a column {kind} of {quote(joint)}, got none; {nearest(joint, dict.fromkeys(header[1][1:]))}"
            )
    return [columns[column] for column in wanted]


def to_image(points: np.ndarray, size: tuple[int, int], scale: float = 1, dx: float = 0, dy: float = 0) -> np.ndarray:
    """Pixels to fractions of the image, scaled about its top left corner and shifted by dx, dy pixels, (T, V, 3)."""
    image = points.copy()
    image[..., 0] = (scale * points[..., 0] + dx) / size[0]
    image[..., 1] = (scale * points[..., 1] + dy) / size[1]
    return image


def to_track(image: np.ndarray) -> np.ndarray:
    """(1, T + 1, V, 3) float32; frame 0 is empty, as the tables count from 1 and ST-GCN's conversion from 0."""
    return coordinates(np.pad(center(image, up=False), ((1, 0), (0, 0), (0, 0)))[None])


BENCHMARK = Benchmark("deeplabcut", ("stgcn",), source, arguments, raw_flags=("csv",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
