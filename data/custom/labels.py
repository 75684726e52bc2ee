"""The label and the part (train or test) of each clip: a table `labels.csv`, or one folder per class."""

import argparse
import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.cli import say, whole_number
from data.clip import is_utf8
from data.poses.read import LABELS as TABLE
from data.raw_files import MAX_CLASSES, clip_name, read_class_names, text_name
from graph.body import Skeleton
from graph.skeleton_file import read_skeleton_file
from graph.spanning_tree import in_words
from torchlight.system.command import Parser
from torchlight.system.files import read_text
from torchlight.system.text import counted, nearest, printable, quote

SPLIT, PARTS = "own", ("train", "test")
COLUMNS = ("name", "label", "split", "group")
WEIGHTED = re.compile(r"(.+):(\d+\.?\d*|\.\d+)", re.ASCII)  # one of several soft labels
MAX_LENGTH = 255  # characters of a name
DENSE_CLASSES = 1000  # class numbers below may have any gaps; with larger ones, at least one in ten has to be used


@dataclass(frozen=True)
class LabelTable:
    """The content of a label table.

    label: clip name -> class number; of several labels, the one with the largest weight. part: clip name -> train or
    test. classes: names in label order. targets: None, "multi-label" or "soft". weights: unless targets is None, clip
    name -> {class number: weight}. group: clip name -> subject or recording, if the table has groups.

    A name without `#` labels all recordings of its file. `<file>#<recording>` labels one recording.
    """

    label: dict[str, int]
    part: dict[str, str]
    classes: list[str]
    targets: str | None = None
    weights: dict[str, dict[int, float]] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A hash that changes with any label or part."""
        content = [self.label, self.part] + ([self.weights] if self.targets else [])
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """The entries of a manifest."""
        facts = {"num_class": len(self.classes), "class_names": self.classes, "labels": self.fingerprint}
        return facts | ({} if self.targets is None else {"targets": self.targets})

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The columns target and group of a store for these entries of the table."""
        found = {}
        if self.targets is not None:
            found["target"] = np.zeros((len(names), len(self.classes)), np.float32)
            for row, name in zip(found["target"], names, strict=True):
                row[list(self.weights[name])] = list(self.weights[name].values())
        return found | ({"group": np.array([self.group[name] for name in names])} if self.group else {})

    def split(self, parts: list[str]) -> dict[str, dict[str, np.ndarray]]:
        """The split of clips with these parts.

        Raises:
            ValueError: no clip of a part could be used.
        """
        for part in sorted(set(self.part.values()) - set(parts)):
            raise ValueError(
                f"split: expected clips in the {part} part, got only files that cannot be used; see the report"
            )
        found = np.array(parts)
        return {SPLIT: {part: np.flatnonzero(found == part) for part in PARTS if part in set(parts)}}


def key_of(name: str, known: Container[str]) -> str | None:
    """The entry of a clip in a table: its name or the name of its file; None if the table has neither.

    >>> key_of("walk#2", {"walk"}), key_of("walk#2", {"walk", "walk#2"}), key_of("run", {"walk"})
    ('walk', 'walk#2', None)
    """
    while name not in known:
        name, mark, _ = name.rpartition("#")
        if not mark:
            return None
    return name


def say_tree(name: str | Path, skeleton: Skeleton) -> None:
    """Print the spanning tree that was derived from the edges of a skeleton file, if it has edges."""
    if Path(name).suffix in (".yaml", ".yml") and "edges" in read_skeleton_file(name):
        say(f"{name}: spanning tree: {in_words(skeleton)}")


def arguments(parser: Parser) -> None:
    """Options of the label table."""
    parser.option(
        "classes",
        type=Path,
        metavar="FILE",
        help="class names in label order, one per line (sorted names of the labels)",
    )
    parser.option(
        "test-share",
        type=share,
        default=0.2,
        metavar="X",
        help="share of the groups that are test clips if no split is given; 0: all clips are training clips, for "
        "cross-validation (%(default)s)",
    )
    parser.option(
        "seed", type=whole_number(0, 2**63 - 1), default=0, help="seed of the split and the copies (%(default)s)"
    )


def share(text: str) -> float:
    """The type of an option that takes a number of 0 or more and below 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more and below 1, got {quote(text)}")
    return number


def read_labels(raw: Path, files: Sequence[Path], args: argparse.Namespace) -> LabelTable:
    """Labels and parts of the clips `files` below `raw`.

    `labels.csv` has the columns name and label, and optionally split (train or test) and group. All clips of a group (a
    recording, a subject) are in the same part. A label is one name, several names such as `wave;clap`, or soft names
    such as `wave:0.7;clap:0.3`. Without this file, the class of a clip is the name of its folder, and every clip is its
    own group.

    Raises:
        ValueError: the table is missing, cannot be read or has a wrong value.
    """
    path = raw / TABLE
    rows = _read_rows(path) if path.exists() else _rows_of_folders(raw, files)
    if not rows:
        raise ValueError(f"{raw}: expected {TABLE} or clips in folders named by their class (docs/custom_skeleton.md)")
    name, count = Counter(row["name"] for row in rows).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path}: expected each clip once, got {quote(name)} {count} times")
    known = {clip_name(file) for file in files}
    lost = sorted(row["name"] for row in rows if key_of(row["name"], known) is None)
    if lost:
        raise ValueError(f"{path}: expected a file for each name, got none below {raw} for {len(lost)} ({_some(lost)})")
    targets, parsed = _parse_labels(path, rows)
    named = [label for found in parsed.values() for label in found]
    classes = read_class_names(args.classes) if args.classes else _classes(path, named)
    number = {name: i for i, name in enumerate(classes)}
    for name, found in parsed.items():
        for label in found:
            if label not in number:
                hint = printable(nearest(label, classes))
                raise ValueError(f"{path}: unknown label {quote(label)} of {quote(name)}; {hint}")
    weights = {name: {number[label]: w for label, w in found.items()} for name, found in parsed.items()}
    label = {name: max(found, key=lambda k: (found[k], -k)) for name, found in weights.items()}
    group = {row["name"]: row.get("group") or row["name"] for row in rows} if any(map(has_group, rows)) else {}
    return LabelTable(label, _parts(path, rows, args), classes, targets, weights if targets else {}, group)


def has_group(row: dict[str, str]) -> bool:
    """Whether a row of the table names a group."""
    return bool(row.get("group"))


def _parse_labels(path: Path, rows: list[dict[str, str]]) -> tuple[str | None, dict[str, dict[str, float]]]:
    """The kind of the labels (see `LabelTable.targets`), and {clip name: {label: weight}}; raises ValueError."""
    found: dict[str, dict[str, float]] = {}
    kinds: dict[str, str] = {}
    cells = [[word.strip() for word in row["label"].split(";")] for row in rows]
    weighted = any(len(words) > 1 and all(map(WEIGHTED.fullmatch, words)) for words in cells)
    for row, words in zip(rows, cells, strict=True):
        name = row["name"]
        matches = [WEIGHTED.fullmatch(word) for word in words]
        if len(words) == 1 and not (weighted and matches[0]):
            found[name] = {words[0]: 1.0}
            continue
        soft = all(matches)
        pairs = [(match[1].strip(), float(match[2])) for match in matches] if soft else [(word, 1.0) for word in words]
        labels, total = dict(pairs), sum(weight for _, weight in pairs)
        if len(labels) < len(words) or "" in labels or (any(matches) and not soft):
            expected = "different labels such as wave;clap or wave:0.7;clap:0.3"
            raise ValueError(f"{path}: {quote(name)}: expected {expected}, got {quote(row['label'])}")
        if soft and abs(total - 1) > 0.01:
            raise ValueError(f"{path}: {quote(name)}: expected label weights with sum 1, got {total:g}")
        found[name] = {label: weight / total for label, weight in pairs} if soft else labels
        kinds["soft" if soft else "multi-label"] = name
    if len(kinds) > 1:
        got = f"both ({', '.join(map(quote, kinds.values()))})"
        raise ValueError(f"{path}: label: expected either several labels or weighted labels, got {got}")
    return next(iter(kinds), None), found


def _some(names: list[str]) -> str:
    return ", ".join(map(printable, names[:3])) + (", ..." if len(names) > 3 else "")


def _rows_of_folders(raw: Path, files: Sequence[Path]) -> list[dict[str, str]]:
    inner = [file for file in files if file.parent != raw]
    for file in inner:
        if not is_utf8(text_name(file.parent.name)):
            raise ValueError(
                f"{file.parent}: expected a folder name in UTF-8 as class name, got other bytes; rename it"
            )
    return [{"name": clip_name(file), "label": text_name(file.parent.name)} for file in inner]


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table; each has a name and a label."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        rows = list(reader)
        columns = tuple(reader.fieldnames or ())
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV table: {error}") from error
    if not {"name", "label"} <= set(columns) <= set(COLUMNS):
        raise ValueError(f"{path}: expected the columns name, label and optionally split, group, got {quote(columns)}")
    for number, row in enumerate(rows, 1):
        if any(extra := row.pop(None, [])):  # cells without a column
            got = ",".join([row["label"], *extra])
            raise ValueError(
                f"{path}: clip {number} ({quote(row['name'])}): expected {counted(len(columns), 'cell')}, got "
                f'{len(columns) + len(extra)}; quote labels with commas, e.g. "{printable(got)}"'
            )
        row |= {key: (value or "").strip() for key, value in row.items()}
        if not (row["name"] and row["label"]):
            raise ValueError(f"{path}: clip {number}: expected a name and a label, got {quote(row)}")
        if max(map(len, row.values())) > MAX_LENGTH:
            raise ValueError(f"{path}: clip {number}: expected at most {MAX_LENGTH} characters per column, got more")
    return rows


def _classes(path: Path, labels: list[str]) -> list[str]:
    """Class names in label order. Numbers keep their value, so class 3 is label 3; names are sorted."""
    distinct = set(labels)
    if len(distinct) > MAX_CLASSES:
        raise ValueError(f"{path}: expected at most {MAX_CLASSES} classes, got {len(distinct)}")
    if not all(label.isascii() and label.isdigit() for label in labels):
        return sorted(distinct)
    longest = max(distinct, key=lambda label: (len(label.lstrip("0")), label.lstrip("0")))
    count = int(longest) + 1 if len(longest) < 20 else MAX_CLASSES + 1
    if count > min(MAX_CLASSES, max(DENSE_CLASSES, 10 * len(distinct))):
        raise ValueError(
            f"{path}: expected class numbers from 0 without large gaps, got {longest[:20]} in {len(distinct)} classes; "
            "use names instead of numbers, or --classes FILE"
        )
    return [str(label) for label in range(count)]


def _warn_of_shared_groups(path: Path, rows: list[dict[str, str]]) -> None:
    train, test = ({row["group"] for row in rows if row.get("group") and row["split"] == part} for part in PARTS)
    if shared := sorted(train & test):
        groups = counted(len(shared), "group")
        say(f"warning: {path}: split: {groups} ({_some(shared)}) in both the training and the test part")


def _parts(path: Path, rows: list[dict[str, str]], args: argparse.Namespace) -> dict[str, str]:
    given = {row["name"]: row["split"] for row in rows if row.get("split")}
    wrong = sorted(set(given.values()) - set(PARTS))
    if wrong or 0 < len(given) < len(rows):
        got = quote(wrong[0]) if wrong else f"it in {len(given)} of {len(rows)} rows"
        raise ValueError(f"{path}: split: expected train or test in every row or in none, got {got}")
    if given:
        _warn_of_shared_groups(path, rows)
        return given
    if not args.test_share:
        return {row["name"]: "train" for row in rows}
    groups = sorted({row.get("group") or row["name"] for row in rows})
    count = round(args.test_share * len(groups))
    if not 0 < count < len(groups):
        got = f"{count} of {len(groups)} groups for the test part"
        raise ValueError(f"--test-share {args.test_share}: expected groups for both parts, got {got}")
    test = set(np.random.default_rng(args.seed).permutation(groups)[:count].tolist())
    return {row["name"]: "test" if (row.get("group") or row["name"]) in test else "train" for row in rows}
