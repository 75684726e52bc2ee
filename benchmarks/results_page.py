"""docs/results.csv and results.template.md -> docs/results.md: the accuracies measured with this code.

python -m benchmarks.results_page
"""

import csv
import io
import re
import sys
from pathlib import Path

from torchlight.system.command import Parser, run
from torchlight.system.files import atomic, read_text
from torchlight.system.paths import ROOT
from torchlight.system.text import markdown_table

TABLE, TEMPLATE = ROOT / "docs/results.csv", ROOT / "benchmarks/results.template.md"
SHOWN = {
    "model": "model",
    "dataset": "dataset",
    "stream": "stream",
    "budget": "budget",
    "seed": "seed",
    "last_epoch": "last epoch",
    "interval": "95 % interval",
    "best_on_test": "best on test",
    "published": "published",
    "device": "device",
    "wall_time": "training time",
    "commit": "commit",
}
COLUMNS = (*SHOWN, "command")
HELD_OUT = " held out"  # the end of `dataset` in a row that was measured on held-out training clips
Row = dict[str, str]


def read_rows(file: Path) -> list[Row]:
    """The rows of results.csv.

    Raises:
        ValueError: the columns are not COLUMNS, or a row has more or fewer.
    """
    rows = list(csv.reader(io.StringIO(read_text(file))))
    if not rows or tuple(rows[0]) != COLUMNS:
        found = ",".join(rows[0]) if rows else "an empty file"
        raise ValueError(f"{file}: expected the columns {','.join(COLUMNS)}, got {found}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(COLUMNS):
            raise ValueError(
                f"{file}: row {number}: expected {len(COLUMNS)} values, got {len(row)}; quote values with commas"
            )
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


def make_page(rows: list[Row]) -> str:
    """The page as Markdown: results, comparisons on held-out clips, the command behind every row."""
    numbered = list(enumerate(sorted(rows, key=is_held_out), 1))
    blocks = {
        "results": table([(i, row) for i, row in numbered if not is_held_out(row)]),
        "held_out": table([(i, row) for i, row in numbered if is_held_out(row)]),
        "commands": "\n".join(f"{i}. `{row['command']}`" for i, row in numbered),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: blocks[match[1]], TEMPLATE.read_text())


def is_held_out(row: Row) -> bool:
    """Whether the row was measured on held-out training clips instead of the test part."""
    return row["dataset"].endswith(HELD_OUT)


def table(rows: list[tuple[int, Row]]) -> str:
    """Numbered rows as a Markdown table."""
    if not rows:
        return "No rows."
    return markdown_table(
        ("", *SHOWN.values()), ((i, *(row[key].replace("|", "\\|") for key in SHOWN)) for i, row in rows)
    )


def write_page(file: Path = TABLE) -> None:
    """Write the page beside its table."""
    page = make_page(read_rows(file))
    with atomic(file.with_suffix(".md"), "w") as stream:
        stream.write(page)


def act(argv: list[str]) -> None:
    """Write docs/results.md."""
    Parser(prog="python -m benchmarks.results_page", description=__doc__).parse_args(argv)
    write_page()


if __name__ == "__main__":
    sys.exit(run(act))
