"""Northwestern-UCLA Multiview Action 3D: JSON skeletons -> clip store.

    python data/NW-UCLA/prepare.py --raw all_sqe

The raw folder holds `a01_s01_e00_v01.json` ...: action, performer, repetition, view; 20 joints in metres.
Views 1 and 2 train, view 3 tests, in the order that published score files are keyed by (test_order.txt).
"""

import json
import re
import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import HERE, Benchmark, class_names, main
from data.store import BadFile, Clip, Source, coordinates
from feeders.clips import ClipStore

NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # 7 and 10 were never released
PUBLISHED = {"train": 1020, "test": 464}
TEST_ORDER = HERE / "NW-UCLA" / "test_order.txt"
MAX_BYTES = 64 << 20  # the longest real clip takes 150 kB; anything near this is no clip


def source(args: Namespace) -> Source:
    """The JSON files in --raw or in its subfolder all_sqe."""
    files = [
        file for folder in args.raw for pattern in ("*.json", "all_sqe/*.json") for file in sorted(folder.glob(pattern))
    ]
    names = class_names("NW-UCLA")
    facts = {"benchmark": "NW-UCLA", "recipe": args.recipe, "skeleton": "graph.ucla", "num_class": len(names)}
    facts |= {
        "num_point": 20,
        "num_person": 1,
        "channels": 3,
        "pad": None,
        "window": None,
        "up": "y",
        "class_names": names,
    }
    return Source(sorted(files, key=lambda file: file.stem), read_clip, view_split, facts)


def read_clip(path: Path) -> list[Clip]:
    """One JSON file as a clip; raises BadFile."""
    match = NAME.fullmatch(path.stem)
    if not match or int(match[1]) not in ACTIONS:
        raise BadFile("the name is not a<action>_s<performer>_e<repetition>_v<view> of a released action")
    if path.stat().st_size > MAX_BYTES:
        raise BadFile(f"larger than {MAX_BYTES >> 20} MB; a clip takes some kilobytes")
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise BadFile("not a whole JSON document (truncated download?)") from None
    if not isinstance(record, dict) or "skeletons" not in record:
        raise BadFile('found no key "skeletons"')
    label = ACTIONS.index(int(match[1]))
    if "label" in record and record["label"] != label + 1:
        raise BadFile(f"found label {record['label']!r}; the name says {label + 1}")
    return [Clip(path.stem, label, _poses(record["skeletons"])[None], (0,))]


def _poses(skeletons) -> np.ndarray:
    """(T, 20, 3) float32"""
    try:
        poses = np.array(skeletons)
    except ValueError:
        raise BadFile("the frames differ in their number of joints or coordinates") from None
    if poses.dtype.kind not in "fiu":
        raise BadFile("holds something that is not a number among the coordinates")
    if poses.shape[1:] != (20, 3) or len(poses) == 0:
        raise BadFile(f"found an array of shape {poses.shape}; (frames, 20, 3) is needed")
    return coordinates(poses)


def view_split(names: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Views 1 and 2 in the order of names; view 3 in the published order, names unknown to it at the end."""
    rank = {name: i for i, name in enumerate(TEST_ORDER.read_text().split())}
    third = np.array([NAME.fullmatch(name)[4] == "03" for name in names])
    test = sorted(np.flatnonzero(third), key=lambda i: (rank.get(names[i], len(rank)), names[i]))
    return {"xview": {"train": np.flatnonzero(~third), "test": np.array(test, np.int64)}}


def check(store: ClipStore) -> list[str]:
    """What differs from the published benchmark."""
    problems = []
    for part, published in PUBLISHED.items():
        if (found := len(store.part("xview", part))) != published:
            problems.append(f"xview/{part}: found {found} clips, published are {published}; look into the raw folder")
    missing = sorted(set(TEST_ORDER.read_text().split()) - set(store.name.tolist()))
    if missing:
        some = ", ".join(missing[:5])
        problems.append(
            f"{len(missing)} test clips are missing ({some} ...); score files keyed by position will not match"
        )
    return problems


BENCHMARK = Benchmark("NW-UCLA", ("ctrgcn",), source, check=check)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
