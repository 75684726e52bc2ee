"""Kinetics-Skeleton: OpenPose JSON files -> clip store.

    python data/kinetics/prepare.py --raw kinetics-skeleton

The raw folder holds kinetics_train/, kinetics_val/, kinetics_train_label.json and kinetics_val_label.json.
Recipes: agcn (2s-AGCN, MS-G3D) turns y upwards, stgcn (ST-GCN) leaves it pointing down; checkpoints need their own.
The split `kinetics` has the parts train and test (the published validation clips).
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from functools import lru_cache, partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import Benchmark, class_names, main
from data.export import write_npy
from data.files import sha256
from data.kinetics.poses import JOINTS, WINDOW, centre, match, read_json, read_persons, surest
from data.store import BadFile, Clip, Source, coordinates, without_empty_tracks
from feeders.clips import ClipStore

PARTS = {"train": "kinetics_train", "test": "kinetics_val"}
PUBLISHED = {"train": 240436, "test": 19796}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--pose-matching", action="store_true", help="follow persons from frame to frame by the nearest pose"
    )
    parser.add_argument(
        "--persons-in", type=int, default=5, metavar="N", help="persons of a frame that are looked at (%(default)s)"
    )
    parser.add_argument(
        "--persons-out", type=int, default=2, metavar="N", help="persons of a frame that are kept (%(default)s)"
    )


def source(args: Namespace) -> Source:
    """All clips of both folders but those without a skeleton. Raises ValueError: a folder or label file is missing or broken."""
    if len(args.raw) != 1 or min(args.persons_in, args.persons_out) < 1:
        raise ValueError("--raw takes one folder here, --persons-in and --persons-out at least 1")
    root, files, ids = args.raw[0], {}, {}
    for part, folder in PARTS.items():
        if not (root / folder).is_dir():
            raise ValueError(
                f"{root}: found no folder {folder}; --raw must hold {', '.join(PARTS.values())} and their label files"
            )
        label = labels_of(root / f"{folder}_label.json")
        found = {clip_id(file): file for file in sorted((root / folder).glob("*.json"))}
        ids[part] = frozenset(name for name in found if label.get(name, 0) is not None)
        for name in sorted(ids[part] & files.keys()):
            if found[name].read_bytes() != files[name].read_bytes():
                raise ValueError(
                    f"found {files[name]} and {found[name]} with different content; a clip's name must be unique; rename one"
                )
        files = {name: found[name] for name in ids[part]} | files
    names = class_names("kinetics")
    facts = {
        "benchmark": "Kinetics-Skeleton",
        "recipe": args.recipe,
        "skeleton": "graph.kinetics",
        "num_class": len(names),
    }
    facts |= {"num_point": JOINTS, "num_person": args.persons_out, "channels": 3, "pad": "zero", "window": WINDOW}
    facts |= {
        "up": "y" if args.recipe == "agcn" else "-y",
        "pose_matching": args.pose_matching,
        "persons_in": args.persons_in,
    }
    facts |= {
        "label_files": {folder: sha256(root / f"{folder}_label.json") for folder in PARTS.values()},
        "class_names": names,
    }
    read = partial(read_clip, args.recipe == "agcn", args.persons_in, args.persons_out, args.pose_matching)
    return Source([files[name] for name in sorted(files)], read, partial(split, ids), facts)


def clip_id(file: Path) -> str:
    """The file name up to its first dot."""
    return file.name.split(".")[0]


@lru_cache(maxsize=2)
def labels_of(path: Path) -> dict[str, int | None]:
    """Label of each clip of a label file, None for a clip without a skeleton. Raises ValueError."""
    try:
        table = json.loads(path.read_bytes())
        return {name: entry["label_index"] if entry["has_skeleton"] else None for name, entry in table.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise ValueError(
            f"{path}: found no label file; one with {{id: {{has_skeleton, label, label_index}}}} is needed"
        ) from None


def read_clip(up: bool, persons_in: int, persons_out: int, matching: bool, path: Path) -> list[Clip]:
    """One JSON file as a clip; raises BadFile."""
    name = clip_id(path)
    labels = labels_of(path.parent.with_name(path.parent.name + "_label.json"))
    if name not in labels:
        raise BadFile(f"not in {path.parent.name}_label.json")
    record = read_json(path)
    label = record.get("label_index")
    if type(label) is not int or label != labels[name]:
        raise BadFile(f"found label_index {label!r}; the label file says {labels[name]}")
    data = surest(centre(read_persons(record["data"], persons_in), up), persons_out)
    if matching:
        data = match(data)
    return [without_empty_tracks(Clip(name, label, coordinates(data.swapaxes(0, 1)), tuple(range(persons_out))))]


def split(ids: dict[str, frozenset[str]], names: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The two folders, sorted by name."""
    return {"kinetics": {part: np.flatnonzero([name in known for name in names]) for part, known in ids.items()}}


def check(store: ClipStore) -> list[str]:
    """What differs from the published benchmark."""
    counts = [(part, len(store.part("kinetics", part)), PUBLISHED[part]) for part in PARTS]
    return [
        f"kinetics/{part}: found {found} clips; published are {wanted}"
        for part, found, wanted in counts
        if found != wanted
    ]


BENCHMARK = Benchmark("kinetics", ("agcn", "stgcn"), source, arguments, check, {"npy": partial(write_npy, ".json")})

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
