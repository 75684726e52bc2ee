"""Templates and CSV tables of the generated pages in docs/."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from torchlight.system.command import Parser, run
from torchlight.system.files import atomic, read_text
from torchlight.system.paths import ROOT

HERE, DOCS = ROOT / "benchmarks", ROOT / "docs"


def fill(name: str, makers: dict[str, Callable[..., str]]) -> str:
    """<name>.template.md with `{{maker word}}` replaced by what `makers["maker"]("word")` returns."""
    text = read_text(HERE / f"{name}.template.md")
    text = re.sub(r"\{\{(\w+) ?(\w*)\}\}", lambda match: makers[match[1]](*filter(None, [match[2]])), text)
    return re.sub("\n{3,}", "\n\n", text).rstrip() + "\n"


def write(name: str, make_page: Callable[[], str]) -> None:
    """Write docs/<name>.md."""
    text = make_page()
    with atomic(DOCS / f"{name}.md", "w") as file:
        file.write(text)
    print(f"wrote {DOCS / name}.md")


def read_table(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with these columns.

    Raises:
        ValueError: the columns differ, or a row has more or fewer values.
    """
    head, *rows = list(csv.reader(io.StringIO(read_text(file)))) or [[]]
    if tuple(head) != tuple(columns):
        raise ValueError(f"{file}: expected the columns {','.join(columns)}, got {','.join(head) or 'an empty file'}")
    for number, row in enumerate(rows, 2):
        if len(row) != len(columns):
            raise ValueError(
                f"{file}: row {number}: expected {len(columns)} values, got {len(row)}; quote values with commas"
            )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def add_rows(file: Path, columns: Sequence[str], key: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    """Add rows to a CSV file; a row with the same values of `key` replaces the older one."""
    rows = [*read_table(file, columns), *rows]
    with atomic(file, "w") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({tuple(row[k] for k in key): row for row in rows}.values())


def program(name: str, make_page: Callable[[], str]) -> int:
    """The command `python -m benchmarks.<name>_page`, which takes no options; returns the exit code."""

    def act(argv: list[str]) -> None:
        Parser(prog=f"python -m benchmarks.{name}_page").parse_args(argv)
        write(name, make_page)

    return run(act)
