"""docs/results.csv -> docs/results.md: what was measured with this code, beside what was published.

python -m benchmarks.results_page
"""

import csv
import sys
from pathlib import Path

from torchlight.files import atomic

DOCS = Path(__file__).resolve().parent.parent / "docs"
SHOWN = {
    "model": "model",
    "dataset": "data set",
    "stream": "stream",
    "seed": "seed",
    "last_epoch": "last epoch",
    "interval": "95 % interval",
    "best_on_test": "best on test",
    "published": "published",
    "device": "device",
    "wall_time": "wall time",
    "commit": "commit",
}
COLUMNS = (*SHOWN, "command")
INTRODUCTION = """# Results

Top-1 in percent on the published test split. *Last epoch* is the result. *Best on test* is the epoch that the test set itself chose, so it
is no fair estimate; it stands here because many published figures are of that kind. The interval is a bootstrap over the test clips of the
last epoch. *Stream* is the modality, or what was fused. This page is made from `results.csv` by `python -m benchmarks.results_page`.
"""


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of results.csv.

    Raises:
        ValueError: the columns are not COLUMNS, or a row has more or fewer.
    """
    with open(file, newline="") as stream:
        rows = list(csv.reader(stream))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ValueError(f"{file}: found the columns {','.join(rows[0] if rows else [])}; {','.join(COLUMNS)} are needed")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(COLUMNS):
            raise ValueError(f"{file}: line {number}: found {len(row)} values; {len(COLUMNS)} are needed; quote those with commas")
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


def make_page(rows: list[dict[str, str]]) -> str:
    """The page as Markdown: a table, then the command behind every row."""
    if not rows:
        return INTRODUCTION + "\nNothing has been measured yet.\n"
    lines = ["| | " + " | ".join(SHOWN.values()) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    lines += [f"| {i} | " + " | ".join(row[key].replace("|", "\\|") for key in SHOWN) + " |" for i, row in enumerate(rows, 1)]
    commands = [f"{i}. `{row['command']}`" for i, row in enumerate(rows, 1)]
    return "\n".join([INTRODUCTION, *lines, "", "## Commands", "", *commands, ""])


def main() -> int:
    """Write docs/results.md."""
    try:
        page = make_page(read_rows(DOCS / "results.csv"))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with atomic(DOCS / "results.md", "w") as file:
        file.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
