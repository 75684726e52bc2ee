"""Northwestern-UCLA Multiview Action 3D: JSON skeletons -> clip store.

    python data/NW-UCLA/prepare.py --raw all_sqe

The raw folder contains files such as `a01_s01_e00_v01.json` (action, performer, repetition, view) with 20 joints in
meters. Views 1 and 2 are the training clips, view 3 the test clips, in the order of published score files without
names (test_order.txt).
"""

import re
import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from data.cli import HERE, Benchmark, class_names, main
from data.clip import BadFile, Clip, coordinates
from data.raw_files import find_files, number_array, read_raw_json
from data.store import RawSource
from feeders.clip_store import ClipStore
from torchlight.system.files import read_text
from torchlight.system.text import counted, quote

NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)", re.ASCII)
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # 7 and 10 were never released
PUBLISHED = {"train": 1020, "test": 464}
TEST_ORDER = HERE / "NW-UCLA" / "test_order.txt"
MAX_BYTES = 4 << 20  # the longest clip of the benchmark has 150 kB


def source(args: Namespace) -> RawSource:
    """The JSON files in --raw or in its subfolder all_sqe."""
    folders = [place for folder in args.raw for place in (folder, folder / "all_sqe") if place.is_dir()]
    names = class_names("NW-UCLA")
    facts = {"benchmark": "NW-UCLA", "recipe": args.recipe, "skeleton": "graph.ucla", "num_class": len(names)}
    facts |= {"num_point": 20, "num_person": 1, "channels": 3, "pad": None, "window": None, "up": "y"}
    facts |= {"class_names": names}
    return RawSource(find_files(folders, r".*\.json", recursive=False), read_clip, view_split, facts)


def read_clip(path: Path) -> list[Clip]:
    """One JSON file as a clip; raises BadFile."""
    match = NAME.fullmatch(path.stem)
    if not match or int(match[1]) not in ACTIONS:
        raise BadFile("expected a name a<action>_s<performer>_e<repetition>_v<view> of a released action")
    record = read_raw_json(path, MAX_BYTES)
    if not isinstance(record, dict) or "skeletons" not in record:
        raise BadFile('expected a JSON object with the key "skeletons"')
    label = ACTIONS.index(int(match[1]))
    if "label" in record and record["label"] != label + 1:
        raise BadFile(f"expected label {label + 1} as in the name, got {quote(record['label'])}")
    poses = number_array(record["skeletons"])
    if poses.shape[1:] != (20, 3) or len(poses) == 0:
        raise BadFile(f"expected an array of shape (frames, 20, 3), got {poses.shape}")
    return [Clip(path.stem, label, coordinates(poses)[None], (0,))]


def view_split(names: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Views 1 and 2 sorted by name; view 3 in published order, followed by clips that this order does not contain."""
    rank = {name: i for i, name in enumerate(read_text(TEST_ORDER).split())}
    third = np.array([NAME.fullmatch(name)[4] == "03" for name in names])
    test = sorted(np.flatnonzero(third), key=lambda i: (rank.get(names[i], len(rank)), names[i]))
    return {"xview": {"train": np.flatnonzero(~third), "test": np.array(test, np.int64)}}


def check(store: ClipStore) -> list[str]:
    """Differences from the published counts, and missing test clips."""
    problems = []
    for part, published in PUBLISHED.items():
        if (found := len(store.part("xview", part))) != published:
            problems.append(f"xview/{part}: expected {published} clips as published, got {found}")
    missing = sorted(set(read_text(TEST_ORDER).split()) - set(store.name.tolist()))
    if missing:
        some = f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
        clips = counted(len(missing), "test clip")
        problems.append(f"missing {clips} ({some}); score files without names will not match")
    return problems


BENCHMARK = Benchmark("NW-UCLA", ("ctrgcn",), source, check=check, splits=("xview",), skeleton="graph.ucla")

if __name__ == "__main__":
    sys.exit(main(BENCHMARK, __doc__))
