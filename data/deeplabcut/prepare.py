"""DeepLabCut tables -> clip store, by way of ST-GCN's conversion (the Multi-Branch-STGCN chain).

    python data/deeplabcut/prepare.py --csv tables --layout rat.yaml --image-size 720 540 --augment 4

The folder holds one .csv per recording: three header rows (scorer, bodyparts, coords), then the frame number and x, y (pixels),
likelihood of any number of key points. The size of the images may stand in the layout instead, as `image_size: [720, 540]`.
Labels are in labels.csv or are the names of the folders (docs/custom_skeleton.md).
Copies (scaled by 97 to 103 per cent and shifted by 1 to 3 pixels) are made of training recordings only: no recording is on both sides.
"""

import csv
import sys
import zlib
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import Benchmark, main, raw_files
from data.custom import table
from data.custom.table import PARTS, SPLIT, TABLE, Table, read_table
from data.kinetics.poses import centre
from data.store import BadFile, Clip, Source, coordinates
from graph.skeleton import Skeleton, read_skeleton_file

MAX_BYTES = 256 << 20


def arguments(parser: ArgumentParser) -> None:
    table.arguments(parser)
    parser.add_argument(
        "--image-size", type=int, nargs=2, metavar=("W", "H"), help="pixels of the video (image_size of the layout)"
    )
    parser.add_argument(
        "--augment",
        type=int,
        default=0,
        metavar="N",
        help="scaled and shifted copies of each training clip (%(default)s)",
    )


def source(args: Namespace) -> Source:
    """All .csv files below --raw. Raises ValueError."""
    if args.skeleton is None or len(args.raw) != 1 or args.augment < 0:
        raise ValueError("--layout is needed, --csv takes one folder and --augment is not negative")
    skeleton = Skeleton.from_yaml(args.skeleton)
    args.image_size = args.image_size or read_skeleton_file(args.skeleton).get("image_size")
    if not (
        isinstance(args.image_size, list)
        and len(args.image_size) == 2
        and all(isinstance(n, int) and n > 0 for n in args.image_size)
    ):
        found = args.image_size
        raise ValueError(
            f"--image-size: found {found}; the width and height of the video in pixels are needed, such as 720 540"
        )
    files = [file for file in raw_files(args.raw, "*.csv") if file.name != TABLE]
    clips = read_table(args.raw[0], files, args)
    facts = {
        "benchmark": args.out.stem,
        "recipe": args.recipe,
        "skeleton": str(args.skeleton),
        "num_class": len(clips.classes),
    }
    facts |= {
        "num_point": skeleton.num_joint,
        "num_person": 1,
        "channels": 3,
        "pad": "zero",
        "window": None,
        "up": "-y",
    }
    facts |= {"image_size": args.image_size, "augment": args.augment, "seed": args.seed, "joints": skeleton.joints}
    facts |= {"class_names": clips.classes, "labels": clips.fingerprint}
    read = partial(read_clips, skeleton.joints, tuple(args.image_size), args.augment, args.seed, clips)
    return Source(files, read, partial(split, clips), facts)


def split(clips: Table, names: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The table's parts; a copy `<recording>.2` goes with its recording."""
    part = np.array([clips.part[name] if name in clips.part else clips.part[name.rpartition(".")[0]] for name in names])
    return {SPLIT: {word: np.flatnonzero(part == word) for word in PARTS}}


def read_clips(
    joints: tuple[str, ...], size: tuple[int, int], augment: int, seed: int, clips: Table, path: Path
) -> list[Clip]:
    """One table as a clip and its copies; raises BadFile."""
    if path.stem not in clips.label:
        raise BadFile(f"not in {TABLE}")
    points = read_points(path, joints)
    made = [(path.stem, to_image(points, size))]
    if clips.part[path.stem] == "train":
        rng = np.random.default_rng([seed, zlib.crc32(path.stem.encode())])
        for k in range(2, augment + 2):
            scale, dx, dy = rng.integers(97, 104) / 100, rng.integers(1, 4), rng.integers(1, 4)
            made.append((f"{path.stem}.{k}", to_image(points, size, scale, dx, dy)))
    return [Clip(name, clips.label[path.stem], _track(image), (0,)) for name, image in made]


def read_points(path: Path, joints: tuple[str, ...]) -> np.ndarray:
    """The joints of a table by name, (T, V, 3) float64: x and y in pixels, likelihood; an empty cell is a joint that was not found."""
    if path.stat().st_size > MAX_BYTES:
        raise BadFile(f"larger than {MAX_BYTES >> 20} MB")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (csv.Error, ValueError) as error:
        raise BadFile(f"not a table of text: {error}") from None
    if len(rows) < 4 or [row[:1] for row in rows[1:3]] != [["bodyparts"], ["coords"]]:
        raise BadFile(
            "found no header rows scorer, bodyparts, coords with frames below (tables of several animals are not read)"
        )
    columns = {(part, kind): i for i, (part, kind) in enumerate(zip(rows[1], rows[2], strict=False))}
    wanted = [(joint, kind) for joint in joints for kind in ("x", "y", "likelihood")]
    lost = [joint for joint, kind in wanted if (joint, kind) not in columns]
    if lost:
        raise BadFile(
            f"found no columns x, y, likelihood of {lost[0]!r}; the table has {', '.join(dict.fromkeys(rows[1][1:]))}"
        )
    try:
        cells = [[row[columns[column]] for column in wanted] for row in rows[3:] if row]
        points = np.array([[float(cell or "nan") for cell in row] for row in cells]).reshape(-1, len(joints), 3)
    except (ValueError, IndexError):
        raise BadFile("found a row that is short or holds something that is not a number") from None
    points[np.isnan(points).any(axis=-1)] = 0
    return points


def to_image(points: np.ndarray, size: tuple[int, int], scale: float = 1, dx: float = 0, dy: float = 0) -> np.ndarray:
    """Pixels to shares of the image, scaled about its top left corner and shifted by dx, dy pixels: (T, V, 3) -> same."""
    image = points.copy()
    image[..., 0] = (scale * points[..., 0] + dx) / size[0]
    image[..., 1] = (scale * points[..., 1] + dy) / size[1]
    return image


def _track(image: np.ndarray) -> np.ndarray:
    """(1, T + 1, V, 3) float32. The chain counts frames from 1 and ST-GCN's conversion from 0, so the first frame is empty."""
    return coordinates(np.pad(centre(image, up=False), ((1, 0), (0, 0), (0, 0)))[None])


BENCHMARK = Benchmark("deeplabcut", ("stgcn",), source, arguments, raw_flags=("--csv",))

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
