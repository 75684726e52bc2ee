"""What NTU RGB+D 60 and 120 share: file names, skip list, splits, recipes and checks."""

import re
from argparse import Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data.cli import HERE, Benchmark, class_names, say
from data.clip import BadFile, Clip, without_empty_tracks
from data.export import write_npy, write_npz
from data.ntu.recipe_agcn_stgcn import WINDOW, best_two, first_two, normalize
from data.ntu.recipe_ctrgcn import assemble
from data.ntu.skeleton_file import Recording, read_recording
from data.raw_files import find_files, read_class_names
from data.store import RawSource, left_out, report_path
from feeders.clip_store import ClipStore
from torchlight.system.command import Parser
from torchlight.system.files import read_text
from torchlight.system.text import counted, quote

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)
SETUP, CAMERA, PERFORMER, REPLICATION, ACTION = range(1, 6)  # groups of NAME
SKELETON = "graph.ntu_rgb_d"
MISSING = HERE / "ntu" / "missing.txt"
PAD = {"ctrgcn": ("zero", None), "agcn": ("repeat", WINDOW), "stgcn": ("zero", WINDOW)}

TRAIN_60 = frozenset((1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38))
TRAIN_120 = TRAIN_60 | {
    45,
    46,
    47,
    49,
    50,
    *range(52, 60),
    70,
    74,
    78,
    *range(80, 87),
    89,
    *range(91, 96),
    97,
    98,
    100,
    103,
}


@dataclass(frozen=True)
class Edition:
    """What differs between NTU RGB+D 60 and 120.

    Attributes:
        splits: name -> (group of NAME that determines the part, its values for training).
        twice: the `ctrgcn` recipe copies the only person of a clip to both slots, as published for NTU RGB+D 120.
        clips_per_class: raw recordings by action, before the skip list.
        npz: the file of each split in CTR-GCN's format.
    """

    folder: str
    title: str
    setups: int
    splits: dict
    twice: bool
    published: dict
    clips_per_class: dict
    npz: dict


NTU60 = Edition(
    folder="ntu",
    title="NTU RGB+D 60",
    setups=17,
    splits={"xsub": (PERFORMER, TRAIN_60), "xview": (CAMERA, frozenset((2, 3)))},
    twice=False,
    published={"xsub": {"train": 40091, "test": 16487}, "xview": {"train": 37646, "test": 18932}},
    clips_per_class={range(0, 60): 948},
    npz={"xsub": "NTU60_CS.npz", "xview": "NTU60_CV.npz"},
)
NTU120 = Edition(
    folder="ntu120",
    title="NTU RGB+D 120",
    setups=32,
    splits={"xsub": (PERFORMER, TRAIN_120), "xset": (SETUP, frozenset(range(2, 33, 2)))},
    twice=True,
    published={"xsub": {"train": 63026, "test": 50919}, "xset": {"train": 54468, "test": 59477}},
    clips_per_class={range(0, 60): 948, range(60, 120): 960},
    npz={"xsub": "NTU120_CSub.npz", "xset": "NTU120_CSet.npz"},
)


def benchmark(edition: Edition) -> Benchmark:
    """The command line of one edition."""
    export = {"npz": partial(write_npz, edition.npz), "npy": partial(write_npy, ".skeleton")}
    read, compare = partial(source, edition), partial(check, edition)
    return Benchmark(
        edition.folder, tuple(PAD), read, arguments, compare, export, splits=edition.splits, skeleton=SKELETON
    )


def arguments(parser: Parser) -> None:
    """Options of NTU."""
    parser.option("missing", type=Path, default=MISSING, metavar="FILE", help="skip list (data/ntu/missing.txt)")
    parser.option("classes", type=Path, metavar="FILE", help="class names of other data in this format, one per line")


def source(edition: Edition, args: Namespace) -> RawSource:
    """All recordings of the edition below --raw, without those on the skip list."""
    missing = missing_names(args.missing)
    files = [file for file in find_files(args.raw, r".*\.skeleton") if file.stem not in missing]
    mine = [file for file in files if not (match := NAME.fullmatch(file.stem)) or int(match[SETUP]) <= edition.setups]
    if len(mine) < len(files):
        other = counted(len(files) - len(mine), "recording")
        say(f"ignored {other} of setups above {edition.setups}, which are not in {edition.title}")
    names = read_class_names(args.classes) if args.classes else class_names(edition.folder)
    pad, window = PAD[args.recipe]
    title = args.classes.resolve().parent.name if args.classes else edition.title
    facts = {"benchmark": title, "recipe": args.recipe, "skeleton": SKELETON, "num_class": len(names)}
    facts |= {
        "num_point": 25,
        "num_person": 2,
        "channels": 3,
        "pad": pad,
        "window": window,
        "up": "y",
        "class_names": names,
    }
    if edition.twice and args.recipe == "ctrgcn":
        facts["repeats_person"] = True
    if args.recipe == "agcn":
        facts |= {"up": "z", "origin_joint": 1}  # the recipe moves this joint of the first person to the origin
    return RawSource(mine, partial(read_clip, args.recipe, edition.twice), partial(splits, edition, args.recipe), facts)


def read_clip(recipe: str, twice: bool, path: Path) -> list[Clip]:
    """One raw file as a clip, prepared with one of the recipes; raises BadFile."""
    match = NAME.fullmatch(path.stem)
    if not match:
        raise BadFile("expected a name SsssCcccPpppRrrrAaaa with three digits each")
    tracks = recipe_tracks(recipe, read_recording(path))
    persons = (0, 0 if twice else -1) if len(tracks) == 1 else (0, 1)
    return [without_empty_tracks(Clip(path.stem, int(match[ACTION]) - 1, tracks, persons))]


def recipe_tracks(recipe: str, recording: Recording) -> np.ndarray:
    """The tracks (K, T, 25, 3) float32 of a recording: one or two by the recipe `ctrgcn`, else two; raises BadFile."""
    if recipe == "ctrgcn":
        return assemble(recording)
    return normalize(best_two(recording)) if recipe == "agcn" else first_two(recording)


def splits(edition: Edition, recipe: str, names: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Training and test clips in published order, which is necessary for score files without names.

    `ctrgcn` sorts by the number that determines the part (performer, camera, setup), then by name; the other recipes
    sort by name.
    """
    numbers = np.array([[int(part) for part in NAME.fullmatch(name).groups()] for name in names])
    result = {}
    for split, (group, training) in edition.splits.items():
        decides = numbers[:, group - 1]
        order = np.argsort(decides, kind="stable") if recipe == "ctrgcn" else np.arange(len(names))
        train = np.isin(decides[order], list(training))
        result[split] = {"train": order[train], "test": order[~train]}
    return result


def missing_names(path: Path) -> frozenset[str]:
    """Names of a skip list: one per line, or `SsssCcccPpppRrrr: 3 7-9` for several actions. Raises ValueError."""
    names = set()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        line = line.split("#")[0].strip()
        recording, grouped, actions = line.partition(":")
        try:
            for span in actions.split():
                first, _, last = span.partition("-")
                if int(last or first) > 999:
                    raise ValueError
                names |= {f"{recording}A{action:03d}" for action in range(int(first), int(last or first) + 1)}
        except ValueError:
            raise ValueError(
                f"{path}: line {number}: expected a name or SsssCcccPpppRrrr: 3 7-9, got {quote(line)}"
            ) from None
        if line and not grouped:
            names.add(line.removesuffix(".skeleton"))
    return frozenset(names)


def check(edition: Edition, store: ClipStore) -> list[str]:
    """Differences from the published counts, and missing recordings."""
    store.require("benchmark")
    if store.manifest["benchmark"] != edition.title:
        say(f"this is a store of {store.manifest['benchmark']}; it is not compared with {edition.title}")
        return []
    problems = []
    for split, parts in edition.published.items():
        for part, published in parts.items():
            if (found := len(store.part(split, part))) != published:
                problems.append(f"{split}/{part}: expected {published} clips as published, got {found}")
    skipped = missing_names(MISSING)
    wanted = {label: count for labels, count in edition.clips_per_class.items() for label in labels}
    for name in skipped:
        match = NAME.fullmatch(name)
        if int(match[SETUP]) <= edition.setups:
            wanted[int(match[ACTION]) - 1] -= 1
    found = np.bincount(store.label, minlength=len(wanted))
    wrong = [label for label in wanted if found[label] != wanted[label]]
    if wrong:
        some = ", ".join(f"A{label + 1:03d} {found[label]} of {wanted[label]}" for label in wrong[:8])
        problems.append(
            f"{counted(len(wrong), 'class', 'classes')} with another number of clips: {some}"
            f"{' ...' if len(wrong) > 8 else ''}"
        )
    return problems + _absent(store, skipped)


def _absent(store: ClipStore, skipped: frozenset[str]) -> list[str]:
    """Missing recordings: each performer performed all actions of a setup in front of three cameras."""
    have = set(store.name.tolist())
    takes = {(match[SETUP], match[PERFORMER], match[REPLICATION]) for match in map(NAME.fullmatch, have)}
    lost = []
    for setup, performer, replication in sorted(takes):
        for action in range(1, 61) if int(setup) <= 17 else range(61, 121):
            takes_of_action = [f"S{setup}C{camera:03d}P{performer}R{replication}A{action:03d}" for camera in (1, 2, 3)]
            lost += [name for name in takes_of_action if name not in have and name not in skipped]
    if not lost:
        return []
    known = {name.removesuffix(".skeleton") for name in left_out(store.path)}
    bad = sum(name in known for name in lost)
    some = f"{', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}"
    unusable = f"{bad} of them could not be used (see {report_path(store.path)}); download the others again"
    return [f"missing {counted(len(lost), 'recording')} ({some}); {unusable}"]
