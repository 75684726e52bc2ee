"""docs/distillation.md from docs/distillation.csv, docs/search.csv and distillation.template.md:
python -m benchmarks.distillation_page"""

import sys

from benchmarks import pages
from benchmarks.networks import header
from benchmarks.readme import size
from torchlight.system.text import counted, markdown_table

TABLE = pages.DOCS / "distillation.csv"
KEY = ("role", "model", "dataset", "stream", "budget", "seeds", "device")  # a new row replaces one with the same values
SHOWN = (*KEY[:-1], "top1", "mean", "interval", "difference", "p")
SHOWN += ("parameters", "multiply_adds", "milliseconds", "device", "commit")
COLUMNS = (*SHOWN, "groups", "command")
SEARCH, FOUND = pages.DOCS / "search.csv", ("student", "parameters", "multiply_adds", "held_out_top1", "train_seconds")
CLAIMED = ("claimed", "", "", "", 16, 26)
TEACHERS = (("ctrgcn", 1), ("ctrgcn", 4), ("hdgcn", 6), ("msg3d", 1), ("msg3d", 2), ("agcn", 1), ("agcn", 2))
Row = dict[str, str]


def make_page() -> str:
    """The page as Markdown."""
    return pages.fill("distillation", {"teachers": teachers, "comparison": comparison, "search": search})


def teachers() -> str:
    """Sizes of networks and ensembles that could be the teacher of the paper, compared with the size of dke7."""
    parameters, multiply_adds, _ = size("dke7")
    rows = []
    for name, streams in TEACHERS:
        P, F, frames = size(name)
        P, F = streams * P, streams * F
        title = f"{header(name)[0]}, {counted(streams, 'stream')}"
        rows.append((title, frames, f"{P:,}", f"{F:.3f} G", f"{P / parameters:.1f}", f"{F / multiply_adds:.1f}"))
    head = (
        "possible teacher",
        "frames",
        "parameters",
        "multiply-adds",
        "parameters / `dke7`",
        "multiply-adds / `dke7`",
    )
    return markdown_table(head, [("`dke7`", 64, f"{parameters:,}", f"{multiply_adds:.3f} G", 1, 1), *rows, CLAIMED])


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
    """The students of the search, in the order of its table, the best first."""
    rows = pages.read_table(SEARCH, FOUND)
    cells = [
        (f"`{row['student']}`", f"{int(row['parameters']):,}", f"{int(row['multiply_adds']) / 1e9:.3f} G", *values)
        for row in rows
        if (values := (row["held_out_top1"], row["train_seconds"]))
    ]
    return markdown_table(("student", "parameters", "multiply-adds", "held-out top-1", "seconds of training"), cells)


if __name__ == "__main__":
    sys.exit(pages.program("distillation", make_page))
