"""The label and the part (train or test) of each clip: a table `labels.csv`, or one folder per class."""

import argparse
import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.cli import whole_number
from data.clip import is_utf8
from data.raw_files import MAX_CLASSES, clip_name, read_class_names, text_name
from torchlight.system.command import Parser
from torchlight.system.files import read_text
from torchlight.system.text import nearest, printable, quote

TABLE = "labels.csv"
SPLIT, PARTS = "own", ("train", "test")
COLUMNS = ("name", "label", "split", "group")
MAX_LENGTH = 255  # characters of a name
DENSE_CLASSES = 1000  # class numbers up to here may have any gaps; beyond, one in ten has to be used


@dataclass(frozen=True)
class LabelTable:
    """label: clip name -> class number. part: clip name -> train or test. classes: names in label order.

    A name without `#` labels all recordings of its file; that of one recording is `<file>#<recording>`.
    """

    label: dict[str, int]
    part: dict[str, str]
    classes: list[str]

    @property
    def fingerprint(self) -> str:
        """A hash that changes with any label or part."""
        return hashlib.sha256(json.dumps([self.label, self.part], sort_keys=True).encode()).hexdigest()

    def split(self, parts: list[str]) -> dict[str, dict[str, np.ndarray]]:
        """The split of clips in these parts.

        Raises:
            ValueError: none of the clips that the table has in a part could be used.
        """
        for part in sorted(set(self.part.values()) - set(parts)):
            raise ValueError(
                f"split: expected clips in the {part} part, got only files that cannot be used; see the report"
            )
        found = np.array(parts)
        return {SPLIT: {part: np.flatnonzero(found == part) for part in PARTS}}


def key_of(name: str, known: Container[str]) -> str | None:
    """The entry of a clip in a table: its name, or that of its file; None if it has none.

    >>> key_of("walk#2", {"walk"}), key_of("walk#2", {"walk", "walk#2"}), key_of("run", {"walk"})
    ('walk', 'walk#2', None)
    """
    while name not in known:
        name, mark, _ = name.rpartition("#")
        if not mark:
            return None
    return name


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
        help="share of test groups if no split is given (%(default)s)",
    )
    parser.option(
        "seed", type=whole_number(0, 2**63 - 1), default=0, help="of the split and of augmented copies (%(default)s)"
    )


def share(text: str) -> float:
    """The type of an option that takes a number between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {quote(text)}")
    return number


def read_labels(raw: Path, files: Sequence[Path], args: argparse.Namespace) -> LabelTable:
    """Labels and parts of the clips `files` below `raw`.

    `labels.csv` has the columns name and label, and optionally split (train or test) and group; clips of one group (a
    recording, a subject) stay in one part. Without the file the folder of a clip is its class and every clip its own
    group.

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
    classes = read_class_names(args.classes) if args.classes else _classes(path, [row["label"] for row in rows])
    number = {name: i for i, name in enumerate(classes)}
    for row in rows:
        if row["label"] not in number:
            hint = printable(nearest(row["label"], classes))
            raise ValueError(f"{path}: unknown label {quote(row['label'])} of {quote(row['name'])}; {hint}")
    return LabelTable({row["name"]: number[row["label"]] for row in rows}, _parts(path, rows, args), classes)


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
    """The rows of the table, with a name and a label each."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
        columns = tuple(reader.fieldnames or ())
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV table: {error}") from error
    if not {"name", "label"} <= set(columns) <= set(COLUMNS):
        raise ValueError(f"{path}: expected the columns name, label and optionally split, group, got {quote(columns)}")
    for number, row in enumerate(rows, 1):
        if not (row["name"] and row["label"]):
            raise ValueError(f"{path}: clip {number}: expected a name and a label, got {quote(row)}")
        if max(map(len, row.values())) > MAX_LENGTH:
            raise ValueError(f"{path}: clip {number}: expected at most {MAX_LENGTH} characters per column, got more")
    return rows


def _classes(path: Path, labels: list[str]) -> list[str]:
    """Class names in label order. Numbers keep their value, so that class 3 is label 3; names are sorted."""
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


def _parts(path: Path, rows: list[dict[str, str]], args: argparse.Namespace) -> dict[str, str]:
    given = {row["name"]: row["split"] for row in rows if row.get("split")}
    wrong = sorted(set(given.values()) - set(PARTS))
    if wrong or 0 < len(given) < len(rows):
        got = quote(wrong[0]) if wrong else f"it in {len(given)} of {len(rows)} rows"
        raise ValueError(f"{path}: split: expected train or test in every row or in none, got {got}")
    if given:
        return given
    groups = sorted({row.get("group") or row["name"] for row in rows})
    count = round(args.test_share * len(groups))
    if not 0 < count < len(groups):
        got = f"{count} of {len(groups)} groups for the test part"
        raise ValueError(f"--test-share {args.test_share}: expected groups for both parts, got {got}")
    test = set(np.random.default_rng(args.seed).permutation(groups)[:count].tolist())
    return {row["name"]: "test" if (row.get("group") or row["name"]) in test else "train" for row in rows}
