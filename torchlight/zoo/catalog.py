"""Published checkpoints: the rows of config/zoo.csv, and their options from the rules in config/zoo.yaml."""

import copy
import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torchlight.system.files import read_text
from torchlight.system.paths import ROOT
from torchlight.system.text import nearest, quote
from torchlight.system.yaml_files import read_yaml

TABLE, RULES = ROOT / "config/zoo.csv", ROOT / "config/zoo.yaml"
PREFIX = "zoo:"  # of an entry in place of a weights file
FOLDER = Path("weights")  # of downloaded files, below the current folder


@dataclass(frozen=True)
class Entry:
    """A published checkpoint.

    top1: published accuracy in percent. url: the file (`is_direct`), or a page or folder that contains it.
    sha256: the first digits of its hash, or "" if they are not published. source: its configuration in the repository
    of the authors.
    """

    name: str
    family: str
    network: str
    variant: str
    dataset: str
    split: str
    pose: str
    stream: str
    top1: str
    url: str
    sha256: str
    license: str
    source: str
    note: str

    @property
    def is_direct(self) -> bool:
        """Whether the address is that of the file."""
        return self.url.endswith(".pth")

    @property
    def experiment(self) -> str:
        """The name without the stream; the same for all streams that are fused."""
        return self.name.rpartition("_")[0]

    @property
    def file(self) -> Path:
        """The local path of the file, to which it is downloaded."""
        return FOLDER / f"{self.name}.pth"


@cache
def entries() -> dict[str, Entry]:
    """All checkpoints by name."""
    rows = csv.DictReader(io.StringIO(read_text(TABLE)))
    return {row["name"]: Entry(**row) for row in rows}


def find(name: str) -> Entry:
    """The entry of a name, with or without `zoo:`.

    Raises:
        ValueError: there is none; the message contains the nearest names.
    """
    name = name.removeprefix(PREFIX)
    if name not in entries():
        hint = nearest(name, entries(), limit=3)
        raise ValueError(
            f"weights: expected zoo:NAME, got {quote(PREFIX + name)}; {hint}; python -m torchlight.zoo list"
        )
    return entries()[name]


def search(words: Iterable[str]) -> list[Entry]:
    """The entries for which every word is a column or a part of the name; case is ignored.

    Raises:
        ValueError: there is none; if a word is in no entry, the message contains the nearest words.
    """
    words = [word.lower().removeprefix(PREFIX) for word in words]
    parts = {entry.name: words_of(entry) for entry in entries().values()}
    found = [entry for entry in entries().values() if all(word in parts[entry.name] for word in words)]
    if found:
        return found
    columns = [getattr(entry, key) for key in ("network", "dataset") for entry in entries().values()]
    known = dict.fromkeys([*columns, *sorted(set().union(*parts.values()))])  # words for the hint, the best ones first
    unknown = next((word for word in words if word not in known), None)
    hint = "no entry has all of them" if unknown is None else nearest(unknown, known, limit=20)
    got = quote(" ".join(words))
    raise ValueError(f"expected words in the names of checkpoints, got {got}; {hint}; python -m torchlight.zoo list")


def words_of(entry: Entry) -> set[str]:
    """The words that find an entry: columns, and parts of its name of any length."""
    parts = entry.name.split("_")
    ends = range(1, len(parts) + 1)
    runs = {"_".join(parts[i:j]) for j in ends for i in range(j)}
    columns = [entry.family, entry.network, entry.variant, entry.dataset, entry.split, entry.pose, entry.stream]
    return {word.lower() for word in {*runs, *parts[0].split("-"), *columns, entry.license} if word}


def rules(entry: Entry) -> list[dict[str, Any]]:
    """The rules that apply to an entry, in order, starting with the last one that replaces those before it."""
    found = [rule for rule in all_rules() if all(agrees(entry, *item) for item in rule.get("when", {}).items())]
    return copy.deepcopy(found[max((i for i, rule in enumerate(found) if rule.get("replaces")), default=0) :])


@cache
def all_rules() -> list[dict[str, Any]]:
    """The rules of zoo.yaml, read once: parsing takes a tenth of a second."""
    return read_yaml(RULES)


def agrees(entry: Entry, column: str, wanted: str | list[str]) -> bool:
    return getattr(entry, column) in (wanted if isinstance(wanted, list) else [wanted])


def layers(entry: Entry) -> list[dict[str, Any]]:
    """The options of an entry, to be merged in this order; the scores of its streams have folders side by side."""
    found = [rule["options"] for rule in rules(entry) if "options" in rule]
    modality = next((options["modality"] for options in reversed(found) if "modality" in options), "joint")
    return [*found, {"work_dir": f"work_dir/zoo/{entry.experiment}/{modality}"}]


def notes(entry: Entry) -> list[str]:
    """Notes for users of the entry."""
    return [rule["note"] for rule in rules(entry) if "note" in rule]


def preset(entry: Entry) -> str:
    """The preset of ensemble.py for its streams; "" if none is published."""
    return next((rule["preset"] for rule in rules(entry) if "preset" in rule), "")


def classes(entry: Entry) -> str:
    """The folder in data/ with the names of its classes; "" if this project does not have them."""
    return next((rule["classes"] for rule in rules(entry) if "classes" in rule), "")


def entry_of(path: str | Path) -> Entry | None:
    """The entry to which a file belongs; None for any other file."""
    entry = entries().get(Path(path).stem)
    return entry if entry and Path(path).absolute() == entry.file.absolute() else None
