"""docs/results.csv -> docs/results.md: what was measured with this code, beside what was published.

python -m benchmarks.results_page
"""

import csv
import sys
from pathlib import Path

from torchlight.config.load import load_config
from torchlight.config.options import Config
from torchlight.system.files import atomic

DOCS = Path(__file__).resolve().parent.parent / "docs"
SHOWN = {
    "model": "model",
    "dataset": "data set",
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
CONFIG = DOCS.parent / "config"
DATASET = "NW-UCLA"  # whose networks are all listed
HELD_OUT = " held out"
INTRODUCTION = """# Results

Top-1 in percent on the published test split. *Last epoch* is the result. *Best on test* is the epoch that the test set itself chose, so it
is no fair estimate; it stands here because many published figures are of that kind. The interval is a bootstrap over the test clips of the
last epoch. *Stream* is the modality, or what was fused. This page is made from `results.csv` by `python -m benchmarks.results_page`, and
`python -m benchmarks.results` trains, tests and fuses for new rows of it.
"""
CHOICE = """## Recipes compared without the test part

Part of the training clips is held out and the test part is not read; *best on test* means the held-out clips. From these rows a recipe may
be chosen, and they are no results.
"""


def read_rows(file: Path) -> list[dict[str, str]]:
    """The rows of results.csv.

    Raises:
        ValueError: the columns are not COLUMNS, or a row has more or fewer.
    """
    with open(file, newline="") as stream:
        rows = list(csv.reader(stream))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ValueError(
            f"{file}: found the columns {','.join(rows[0] if rows else [])}; {','.join(COLUMNS)} are needed"
        )
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(COLUMNS):
            raise ValueError(
                f"{file}: line {number}: found {len(row)} values; {len(COLUMNS)} are needed; quote those with commas"
            )
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[1:]]


def networks(dataset: str) -> list[str]:
    """The names of all configurations of a data set, e.g. ctrgcn and recipe/ctrgcn."""
    return sorted(
        file.relative_to(CONFIG / dataset).with_suffix("").as_posix() for file in (CONFIG / dataset).rglob("*.yaml")
    )


def make_page(rows: list[dict[str, str]]) -> str:
    """The page as Markdown: tables of rows, what was not run, then the command behind every row."""
    if not rows:
        return INTRODUCTION + "\nNothing has been measured yet.\n"
    rows = sorted(rows, key=lambda row: row["dataset"].endswith(HELD_OUT))
    numbered = list(enumerate(rows, 1))
    results = [(i, row) for i, row in numbered if not row["dataset"].endswith(HELD_OUT)]
    choices = [(i, row) for i, row in numbered if row["dataset"].endswith(HELD_OUT)]
    lines = [INTRODUCTION, *table(results), "", *full_budget(rows)]
    lines += ["", CHOICE, *table(choices)] if choices else []
    return "\n".join([*lines, "", "## Commands", "", *(f"{i}. `{row['command']}`" for i, row in numbered), ""])


def table(rows: list[tuple[int, dict[str, str]]]) -> list[str]:
    """Numbered rows as a table."""
    lines = ["| | " + " | ".join(SHOWN.values()) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    return lines + [f"| {i} | " + " | ".join(row[key].replace("|", "\\|") for key in SHOWN) + " |" for i, row in rows]


def full_budget(rows: list[dict[str, str]]) -> list[str]:
    """Which networks of the data set have been trained with their whole recipe."""
    lines = [
        f"## {DATASET} with the whole recipe",
        "",
        "| model | joint | bone | joint motion | bone motion | fused |",
        "|---" * 6 + "|",
    ]
    for name in networks(DATASET):
        config = load_config(CONFIG / DATASET / f"{name}.yaml")
        whole = budget(config)
        found = {
            row["stream"].split(",")[0]: row["last_epoch"]
            for row in rows
            if (row["model"], row["dataset"], row["budget"]) == (name, DATASET, whole)
        }
        cells = [
            found.get(stream, "not run")
            for stream in ("joint", "bone", "joint motion", "bone motion", "4 streams fused")
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def budget(config: Config) -> str:
    """How long a recipe trains, in words."""
    passes = config.train_feeder_args.get("repeat", 1)
    return f"{config.num_epoch} single passes" if passes == 1 else f"{config.num_epoch} epochs of {passes} passes"


def write_page(file: Path) -> None:
    """The page beside a table; raises ValueError if it is none."""
    page = make_page(read_rows(file))
    with atomic(file.with_suffix(".md"), "w") as stream:
        stream.write(page)


def main() -> int:
    """Write docs/results.md."""
    try:
        write_page(DOCS / "results.csv")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
