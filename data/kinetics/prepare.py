"""Kinetics-Skeleton: OpenPose JSON files -> clip store.

    python data/kinetics/prepare.py --raw kinetics-skeleton

The raw folder contains kinetics_train/, kinetics_val/, kinetics_train_label.json and kinetics_val_label.json. Recipes:
agcn (2s-AGCN, MS-G3D) flips y so that it points upwards, stgcn (ST-GCN) keeps it pointing down. A published checkpoint
needs the recipe that it was trained with. The split `kinetics` has the parts train and test (the published validation
clips).
"""

import sys
from argparse import Namespace
from functools import lru_cache, partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import Benchmark, class_names, main, whole_number
from data.clip import BadFile, Clip, coordinates, without_empty_tracks
from data.export import write_npy
from data.kinetics.poses import JOINTS, MAX_BYTES, WINDOW, center, match, most_confident, read_persons, read_record
from data.raw_files import find_files, read_raw, text_name
from data.store import RawSource
from feeders.clip_store import ClipStore
from torchlight.system.command import Parser
from torchlight.system.files import read_json, sha256
from torchlight.system.text import quote

PARTS = {"train": "kinetics_train", "test": "kinetics_val"}
PUBLISHED = {"train": 240436, "test": 19796}
MAX_PERSONS = 100
MAX_LABEL_BYTES = 256 << 20  # of a label file; that of the training clips takes 30 MB


def arguments(parser: Parser) -> None:
    """Options of Kinetics."""
    parser.switch("pose-matching", help="track persons from frame to frame by the nearest pose")
    number = whole_number(1, MAX_PERSONS)
    parser.option("persons-in", type=number, default=5, metavar="N", help="candidates per frame (%(default)s)")
    parser.option("persons-out", type=number, default=2, metavar="N", help="persons to keep per frame (%(default)s)")


def source(args: Namespace) -> RawSource:
    """All clips of both folders except those without a skeleton; raises ValueError for a missing folder or file."""
    if len(args.raw) != 1:
        raise ValueError(f"--raw: expected one folder, got {len(args.raw)}")
    root, files, ids = args.raw[0], {}, {}
    for part, folder in PARTS.items():
        if not (root / folder).is_dir():
            folders = f"{', '.join(PARTS.values())} and their label files"
            raise ValueError(f"{root}: expected the folders {folders}, got no {folder}")
        label = labels_of(root / f"{folder}_label.json")
        found = {clip_id(file): file for file in find_files([root / folder], r".*\.json", recursive=False)}
        ids[part] = frozenset(name for name in found if label.get(name, 0) is not None)
        for name in sorted(ids[part] & files.keys()):
            if not _same(found[name], files[name]):
                raise ValueError(
                    f"{found[name]}: expected the content of {files[name]}, got other content; rename one of them"
                )
        files = {name: found[name] for name in ids[part]} | files
    names = class_names("kinetics")
    facts = {"benchmark": "Kinetics-Skeleton", "recipe": args.recipe, "skeleton": "graph.kinetics"}
    facts |= {"num_class": len(names), "num_point": JOINTS, "num_person": args.persons_out, "channels": 3}
    facts |= {"pad": "zero", "window": WINDOW, "up": "y" if args.recipe == "agcn" else "-y"}
    facts |= {"pose_matching": args.pose_matching, "persons_in": args.persons_in}
    facts |= {"label_files": {folder: sha256(root / f"{folder}_label.json") for folder in PARTS.values()}}
    facts |= {"class_names": names}
    read = partial(read_clip, args.recipe == "agcn", args.persons_in, args.persons_out, args.pose_matching)
    return RawSource([files[name] for name in sorted(files)], read, partial(split, ids), facts)


def _same(one: Path, other: Path) -> bool:
    try:
        return read_raw(one, MAX_BYTES) == read_raw(other, MAX_BYTES)
    except BadFile:
        return False


def clip_id(file: Path) -> str:
    """The file name up to its first dot."""
    return text_name(file.name).split(".")[0]


@lru_cache(maxsize=2)
def labels_of(path: Path) -> dict[str, int | None]:
    """The label of each clip in a label file, None for a clip without a skeleton. Raises ValueError."""
    table = read_json(path, MAX_LABEL_BYTES)
    try:
        return {name: entry["label_index"] if entry["has_skeleton"] else None for name, entry in table.items()}
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"{path}: expected {{id: {{has_skeleton, label, label_index}}}}, got {quote(table)}") from None


def read_clip(up: bool, persons_in: int, persons_out: int, matching: bool, path: Path) -> list[Clip]:
    """One JSON file as a clip; raises BadFile."""
    name = clip_id(path)
    labels = labels_of(path.parent.with_name(path.parent.name + "_label.json"))
    if name not in labels:
        raise BadFile(f"not in {path.parent.name}_label.json")
    record = read_record(path)
    label = record.get("label_index")
    if type(label) is not int or label != labels[name]:
        raise BadFile(f"expected label_index {quote(labels[name])} as in the label file, got {quote(label)}")
    data = most_confident(center(read_persons(record["data"], persons_in), up), persons_out)
    if matching:
        data = match(data)
    return [without_empty_tracks(Clip(name, label, coordinates(data.swapaxes(0, 1)), tuple(range(persons_out))))]


def split(ids: dict[str, frozenset[str]], names: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The two folders, sorted by name."""
    return {"kinetics": {part: np.flatnonzero([name in known for name in names]) for part, known in ids.items()}}


def check(store: ClipStore) -> list[str]:
    """Differences from the published counts."""
    counts = [(part, len(store.part("kinetics", part)), PUBLISHED[part]) for part in PARTS]
    return [
        f"kinetics/{part}: expected {published} clips as published, got {found}"
        for part, found, published in counts
        if found != published
    ]


EXPORT = {"npy": partial(write_npy, ".json")}
BENCHMARK = Benchmark(
    "kinetics",
    ("agcn", "stgcn"),
    source,
    arguments,
    check,
    EXPORT,
    splits=("kinetics",),
    skeleton="graph.kinetics",
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
