"""docs/results.md from docs/results.csv and results.template.md: python -m benchmarks.results_page"""

import sys

from benchmarks import pages
from torchlight.system.text import markdown_table

TABLE = pages.DOCS / "results.csv"
SHOWN = ("model", "dataset", "stream", "budget", "seed", "last_epoch", "interval", "best_on_test", "published")
SHOWN += ("device", "wall_time", "commit")
COLUMNS = (*SHOWN, "command")
HELD_OUT = " held out"  # the end of `dataset` in a row that was measured on held-out training clips
Row = dict[str, str]


def make_page() -> str:
    """The page as Markdown: results, comparisons on held-out clips, the command behind every row."""
    rows = pages.read_table(TABLE, COLUMNS)
    kept, held_out = ([r for r in rows if r["dataset"].endswith(HELD_OUT) == held] for held in (False, True))
    makers = {
        "results": lambda: table(kept, 1),
        "held_out": lambda: table(held_out, len(kept) + 1),
        "commands": lambda: "\n".join(f"{i}. `{row['command']}`" for i, row in enumerate(kept + held_out, 1)),
    }
    return pages.fill("results", makers)


def table(rows: list[Row], first: int) -> str:
    """Rows as a Markdown table, numbered from `first`."""
    cells = [(i, *(row[key].replace("|", "\\|") for key in SHOWN)) for i, row in enumerate(rows, first)]
    return markdown_table(("", *(key.replace("_", " ") for key in SHOWN)), cells) if rows else "No rows."


if __name__ == "__main__":
    sys.exit(pages.program("results", make_page))
