"""docs/distillation.md from docs/distillation.csv, docs/search.csv and distillation.template.md:
python -m benchmarks.distillation_page"""

import sys

from benchmarks import pages
from torchlight.system.text import markdown_table

TABLE = pages.DOCS / "distillation.csv"
KEY = ("role", "model", "dataset", "stream", "budget", "seeds", "device")  # a newer row replaces one with the same
SHOWN = (*KEY[:-1], "top1", "mean", "interval", "difference", "p")
SHOWN += ("parameters", "multiply_adds", "milliseconds", "device", "commit")
COLUMNS = (*SHOWN, "groups", "command")
SEARCH, FOUND = pages.DOCS / "search.csv", ("student", "parameters", "multiply_adds", "held_out_top1", "train_seconds")
Row = dict[str, str]


def make_page() -> str:
    """The page as Markdown."""
    return pages.fill("distillation", {"comparison": comparison, "search": search})


def comparison() -> str:
    """The comparison of teacher and student, and the commands behind it."""
    rows = pages.read_table(TABLE, COLUMNS)
    if not rows:
        return "Not measured yet: `python -m benchmarks.distillation`."
    table = markdown_table([key.replace("_", " ") for key in SHOWN], ([row[key] for key in SHOWN] for row in rows))
    groups = sorted({row["groups"] for row in rows})
    commands = "\n".join(f"* `{command}`" for command in dict.fromkeys(row["command"] for row in rows))
    return f"{table}\n\nIntervals over {', '.join(groups)}. Commands:\n\n{commands}"


def search() -> str:
    """The students of the search, the best first, as its table has them."""
    rows = pages.read_table(SEARCH, FOUND)
    cells = [
        (f"`{row['student']}`", f"{int(row['parameters']):,}", f"{int(row['multiply_adds']) / 1e9:.3f} G", *values)
        for row in rows
        if (values := (row["held_out_top1"], row["train_seconds"]))
    ]
    return markdown_table(("student", "parameters", "multiply-adds", "held-out top-1", "seconds of training"), cells)


if __name__ == "__main__":
    sys.exit(pages.program("distillation", make_page))
