"""Which clip has which label and trains or tests: a table `labels.csv`, or one folder per class."""

import csv
import hashlib
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TABLE = "labels.csv"
SPLIT, PARTS = "own", ("train", "test")


@dataclass(frozen=True)
class Table:
    """label: clip name -> class number. part: clip name -> train or test. classes: names in label order."""

    label: dict[str, int]
    part: dict[str, str]
    classes: list[str]

    @property
    def fingerprint(self) -> str:
        """Changes with any label or part."""
        return hashlib.sha256(json.dumps([self.label, self.part], sort_keys=True).encode()).hexdigest()


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--skeleton", "--layout", type=Path, metavar="YAML", help="the body: joints and bones (docs/custom_skeleton.md)"
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="class names in label order, one a line (sorted names of the labels)",
    )
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.2,
        metavar="X",
        help="share that tests, where no split is given (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split, and of augmented copies (%(default)s)")


def read_table(raw: Path, files: Sequence[Path], args: Namespace) -> Table:
    """Labels and parts of the clips `files` below `raw`.

    `labels.csv` has the columns name, label and perhaps split (train or test) and group; clips of one group (a recording, a subject)
    stay on one side. Without the file the folder of a clip is its class and every clip its own group. Raises ValueError.
    """
    path = raw / TABLE
    rows = (
        _rows(path)
        if path.is_file()
        else [{"name": file.stem, "label": file.parent.name} for file in files if file.parent != raw]
    )
    if not rows:
        raise ValueError(
            f"{raw}: found neither {TABLE} nor clips in folders named by their class; docs/custom_skeleton.md shows both"
        )
    names = [row["name"] for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: found {next(n for n in names if names.count(n) > 1)!r} twice; name each clip once")
    lost = sorted(set(names) - {file.stem for file in files})
    if lost:
        raise ValueError(
            f"{path}: found {len(lost)} names without a file below {raw} (first: {lost[0]}); remove the rows or add the files"
        )
    classes = (
        args.classes.read_text(encoding="utf-8").splitlines()
        if args.classes
        else _classes([row["label"] for row in rows])
    )
    unknown = sorted({row["label"] for row in rows} - set(classes))
    if unknown:
        raise ValueError(
            f"{path}: found the label {unknown[0]!r}; allowed are {', '.join(classes)}; correct it or --classes"
        )
    return Table({row["name"]: classes.index(row["label"]) for row in rows}, _parts(path, rows, args), classes)


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    columns = set(reader.fieldnames or ())
    if not {"name", "label"} <= columns <= {"name", "label", "split", "group"}:
        raise ValueError(
            f"{path}: found the columns {', '.join(sorted(columns))}; needed are name and label, allowed split and group"
        )
    return rows


def _classes(labels: list[str]) -> list[str]:
    """Numbers keep their value, so that class 3 is label 3; names are sorted."""
    if all(label.isdigit() for label in labels):
        return [str(label) for label in range(max(map(int, labels)) + 1)]
    return sorted(set(labels))


def _parts(path: Path, rows: list[dict[str, str]], args: Namespace) -> dict[str, str]:
    given = {row["name"]: row["split"] for row in rows if row.get("split")}
    wrong = sorted(set(given.values()) - set(PARTS))
    if wrong or 0 < len(given) < len(rows):
        found = f"the split {wrong[0]!r}" if wrong else f"a split in {len(given)} of {len(rows)} rows"
        raise ValueError(
            f"{path}: found {found}; allowed are train and test, in every row or in none; correct the column"
        )
    if given:
        return given
    groups = sorted({row.get("group") or row["name"] for row in rows})
    count = round(args.test_share * len(groups))
    if not 0 < count < len(groups):
        raise ValueError(
            f"--test-share {args.test_share}: found {len(groups)} groups, which leaves a side empty; choose another share"
        )
    test = set(np.random.default_rng(args.seed).permutation(groups)[:count].tolist())
    return {row["name"]: "test" if (row.get("group") or row["name"]) in test else "train" for row in rows}
