"""docs/results.md from docs/results.csv and results.template.md: python -m benchmarks.results_page"""

import statistics
import sys
from pathlib import Path

from benchmarks import pages
from torchlight.system.paths import ROOT
from torchlight.system.text import markdown_table
from torchlight.training.run_dir import read_metrics

SCORES = ROOT / "benchmarks" / "results" / "scores"  # files of finished runs, in folders as in work_dir/results/full
STREAMS = ("joint", "bone", "joint_motion", "bone_motion")  # of the usual fusion
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
        "epochs": lambda: epochs_table(SCORES / "seed1" / "NW-UCLA" / "ctrgcn"),
        "held_out": lambda: table(held_out, len(kept) + 1),
        "commands": lambda: "\n".join(f"{i}. `{row['command']}`" for i, row in enumerate(kept + held_out, 1)),
    }
    return pages.fill("results", makers)


def table(rows: list[Row], first: int) -> str:
    """Rows as a Markdown table, numbered from `first`."""
    cells = [(i, *(row[key].replace("|", "\\|") for key in SHOWN)) for i, row in enumerate(rows, first)]
    return markdown_table(("", *(key.replace("_", " ") for key in SHOWN)), cells) if rows else "No rows."


def epochs_table(folder: Path) -> str:
    """Test accuracies of the epochs after the last change of the learning rate, per stream, as a Markdown table."""
    cells = []
    for stream in STREAMS:
        records = read_metrics(folder / stream)
        last = records[-1]
        values = [record["test_top1"] for record in records if record["lr"] == last["lr"]]
        spread = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        cells.append(
            (stream.replace("_", " "), f"{last['test_top1']:.2f}", spread, f"{min(values):.2f} to {max(values):.2f}")
        )
    epochs = f"last {len(values)} epochs"
    return markdown_table(("stream", "last epoch", f"{epochs}, mean ± standard deviation", "range"), cells)


if __name__ == "__main__":
    sys.exit(pages.program("results", make_page))
