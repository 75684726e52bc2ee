"""Groups of clips that depend on each other: the camera views of one performance, or all clips of one performer."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torchlight.system.files import read_text
from torchlight.system.text import counted, nearest, quote

KINDS = ("performance", "performer", "clip")
FEW = 30  # with fewer groups, a bootstrap interval is clearly too narrow
TABLE_BYTES = 64 * 2**20
NAMINGS = (  # the parts of a clip name and their meaning; a performance is all parts except the view
    # S001C002P003R001A013
    re.compile(r"(?P<setup>S\d+)(?P<view>C\d+)(?P<performer>P\d+)(?P<take>R\d+)(?P<action>A\d+)"),
    # a01_s03_e00_v02
    re.compile(r"(?P<action>a\d+)_(?P<performer>s\d+)_(?P<take>e\d+)_(?P<view>v\d+)"),
)


@dataclass(frozen=True)
class Groups:
    """index (n,): the number of each clip's group, counted from 0 in the order of first appearance; None: every clip is
    a group of its own. kind: what a group is, in words."""

    index: np.ndarray | None
    kind: str

    def __str__(self) -> str:
        return self.kind if self.index is None else counted(len(np.unique(self.index)), self.kind)

    @property
    def few(self) -> bool:
        """Whether there are so few groups that a bootstrap interval is clearly too narrow."""
        return self.index is not None and len(np.unique(self.index)) < FEW


def parse_name(name: str) -> dict[str, str] | None:
    """The parts of a clip name by their meaning; None for names of another form.

    >>> parse_name("a01_s03_e00_v02")["performer"], parse_name("clip_7")
    ('s03', None)
    """
    return next((match.groupdict() for naming in NAMINGS if (match := naming.fullmatch(name))), None)


def find_groups(names: Sequence[str], by: str | None = None, given: Sequence[str] | None = None) -> Groups:
    """The groups of clips.

    by: `performance`, `performer`, `clip`, or the path of a CSV file with columns `name` and `group`. None:
    performances, or clips if the performances cannot be derived from the names. given: the groups of the clips in their
    data, which are used if the names do not contain the performances or performers.

    Raises:
        ValueError: the names or the file do not give the group of every clip.
    """
    if by not in (*KINDS, None):
        if not Path(by).exists():
            hint = nearest(by, KINDS)
            raise ValueError(f"groups: expected {', '.join(KINDS)} or a CSV file that exists, got {quote(by)}; {hint}")
        return groups_of_table(names, Path(by))
    if by == "clip":
        return Groups(None, "clips, treated as independent")
    parsed = [parse_name(str(name)) for name in names]
    if None in parsed:
        if given is not None:
            return Groups(number(list(given)), "group")
        if by is None:
            return Groups(None, "clips, treated as independent because their names do not identify performances")
        raise ValueError(
            f"groups: expected clip names such as S001C001P001R001A001 or a01_s01_e00_v01 for groups by {by}, got "
            f"{quote(str(names[parsed.index(None)]))}; give clip, or a CSV file with the columns name and group"
        )
    if by == "performer":
        return Groups(number([words["performer"] for words in parsed]), "performer")
    return Groups(number([tuple(v for k, v in words.items() if k != "view") for words in parsed]), "performance")


def groups_of_table(names: Sequence[str], path: Path) -> Groups:
    """The groups in a CSV file with columns `name` and `group`; the row `walk` also applies to the clips `walk#1`, ...

    Raises:
        ValueError: a column is missing, or a clip has no row.
    """
    rows = csv.DictReader(io.StringIO(read_text(path, TABLE_BYTES)))
    if missing := {"name", "group"} - set(rows.fieldnames or ()):
        raise ValueError(f"{path}: expected the columns name and group, got no {' and no '.join(sorted(missing))}")
    group = {row["name"]: row["group"] for row in rows if row["name"] and row["group"]}
    found = [group.get(str(name), group.get(str(name).rpartition("#")[0])) for name in names]
    if None in found:
        raise ValueError(
            f"{path}: expected the group of every clip, got none for {found.count(None)} of {len(found)} "
            f"(first: {quote(str(names[found.index(None)]))})"
        )
    return Groups(number(found), "group")


def number(keys: Sequence) -> np.ndarray:
    """Number the keys from 0 in the order of first appearance; equal keys get equal numbers.

    >>> number(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([order[key] for key in keys])
