"""Few-shot classification on NW-UCLA: fine-tuning compared with training from scratch; adds rows to docs/few_shot.csv.

    python -m benchmarks.few_shot --starts scratch finetuned frozen

CTR-GCN is pre-trained on the training clips of the first five classes in alphabetical order (carry to pick up with one
hand). Then 5, 10 or 20 training clips of each of the other five classes are drawn, and the network is trained on them
with config/finetune.yaml, starting from the pre-trained weights or from scratch with the same budget. It is tested on
the clips of these classes in the test view.

Finished runs are not repeated, interrupted runs continue: repeat the command until the table is complete.
Flags after -- are passed to main.py.
"""

import csv
import os
import shlex
import statistics
import sys
from argparse import RawDescriptionHelpFormatter
from itertools import product
from operator import itemgetter
from pathlib import Path

from benchmarks import pages
from data.cli import whole_number
from torchlight.commands.programs import call
from torchlight.config.load import load_config
from torchlight.system.command import Parser
from torchlight.system.command import run as run_command
from torchlight.system.files import atomic
from torchlight.system.text import markdown_table
from torchlight.training.run_dir import CONFIG, LAST, read_environment, read_metrics

RUNS, TABLE = Path("work_dir/few_shot"), pages.DOCS / "few_shot.csv"
COLUMNS = ("clips", "start", "draw", "last_epoch", "average", "seconds", "device", "commit", "command")
BASE, NOVEL = [9, 7, 6, 2, 0], [1, 4, 5, 8, 3]  # labels in the order of names: pre-training, few shots
FRAMES = 16  # per clip, so that a row takes about two minutes on one core; the published recipe uses 52
CLIPS_OF_AN_EPOCH = 20  # per class, including copies: the same budget for every number of clips
STARTS = {"scratch": "from scratch", "finetuned": "fine-tuned", "frozen": "fine-tuned, backbone_lr 0"}


def build_parser() -> Parser:
    """The options."""
    name = "python -m benchmarks.few_shot"
    parser = Parser(prog=name, description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    number, help = whole_number(1, CLIPS_OF_AN_EPOCH), "training clips per class (5 10 20)"
    parser.option("clips", type=number, nargs="+", default=[5, 10, 20], help=help)
    parser.option("draws", type=whole_number(1, 1000), nargs="+", default=[1, 2, 3], help="seeds (1 2 3)")
    help = "initial weights (scratch finetuned)"
    parser.option("starts", nargs="+", choices=STARTS, default=["scratch", "finetuned"], help=help)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Pre-train, then train and add a row for every number of clips, draw and start."""
    cut = argv.index("--") if "--" in argv else len(argv)
    args, more = build_parser().parse_args(argv[:cut]), argv[cut + 1 :]
    if set(args.starts) - {"scratch"}:
        train(RUNS / "pretrained", [*pretraining(), *more])
    for clips, draw, start in product(args.clips, args.draws, args.starts):
        folder, flags = RUNS / f"{clips}_clips" / f"draw{draw}" / start, [*few_shots(clips, draw, start), *more]
        train(folder, flags)
        add_row(make_row(folder, flags) | {"clips": str(clips), "start": start, "draw": str(draw)})
    pages.write("finetune", make_page)


def pretraining() -> list[str]:
    """The flags of the training on the base classes: our recipe of CTR-GCN in 20 single passes."""
    flags = ["--config", "config/NW-UCLA/recipe/ctrgcn.yaml", *of_classes(BASE), "--train-feeder-args.repeat", "1"]
    return [*flags, "--num-epoch", "20", "--eval-interval", "20", "--warm-up-epoch", "3"]


def few_shots(clips: int, draw: int, start: str) -> list[str]:
    """The flags of a training on a few clips of each novel class."""
    flags = ["--config", "config/NW-UCLA/ctrgcn.yaml", "config/finetune.yaml", *of_classes(NOVEL), "--seed", str(draw)]
    flags += ["--train-feeder-args", f"clips_per_class={clips}", f"repeat={CLIPS_OF_AN_EPOCH // clips}"]
    flags += ["--eval-interval", "20"]
    flags += [] if start == "scratch" else ["--finetune", str(RUNS / "pretrained" / LAST)]
    return [*flags, "--backbone-lr", "0"] if start == "frozen" else flags


def of_classes(classes: list[int]) -> list[str]:
    """The flags that select classes."""
    chosen = f"classes=[{','.join(map(str, classes))}]"
    return ["--feeder-args", chosen, f"window_size={FRAMES}", "--model-args.num_class", str(len(classes))]


def train(folder: Path, flags: list[str]) -> None:
    """Complete a run, on one core."""
    lines = read_metrics(folder) if (folder / LAST).exists() else []
    if not lines or lines[-1]["epoch"] != load_config(folder / CONFIG).num_epoch:
        call(["main.py", *flags, "--work-dir", str(folder), "--resume", "true"], os.environ | {"OMP_NUM_THREADS": "1"})


def make_row(folder: Path, flags: list[str]) -> dict[str, str]:
    """The row of a finished run."""
    made, lines = read_environment(folder), read_metrics(folder)
    facts = {"device": made["device"], "commit": (made["git_commit"] or "unknown")[:7], "command": command_of(flags)}
    facts |= {"last_epoch": f"{lines[-1]['test_top1']:.2f}", "average": f"{lines[-1]['test_ema_top1']:.2f}"}
    return facts | {"seconds": f"{sum(line['train_seconds'] for line in lines):.0f}"}


def add_row(row: dict[str, str]) -> None:
    """Add a row to the table; it replaces the older one of the same experiment."""
    key = itemgetter("clips", "start", "draw")
    rows = {key(r): r for r in [*pages.read_table(TABLE, COLUMNS), row]}
    with atomic(TABLE, "w") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=key))


def make_page() -> str:
    """docs/finetune.md: the guide with the measured figures."""
    rows = pages.read_table(TABLE, COLUMNS)
    return pages.fill("finetune", {"figures": lambda: figures(rows), "commands": lambda: commands(rows)})


def figures(rows: list[dict[str, str]]) -> str:
    """Mean, standard deviation and values of the draws, for every number of clips and every start."""
    starts = [start for start in STARTS if any(row["start"] == start for row in rows)]
    lines = []
    for clips in sorted({row["clips"] for row in rows}, key=int):
        found = [[float(r["last_epoch"]) for r in rows if (r["clips"], r["start"]) == (clips, s)] for s in starts]
        lines.append((clips, *map(cell, found)))
    return markdown_table(("clips per class", *map(STARTS.get, starts)), lines) if rows else "Not measured yet."


def cell(found: list[float]) -> str:
    """Mean ± standard deviation (values)."""
    spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.2f}{spread} ({', '.join(f'{x:.2f}' for x in found)})" if found else "-"


def command_of(flags: list[str]) -> str:
    """A training as a line for a shell."""
    return f"OMP_NUM_THREADS=1 python main.py {shlex.join(flags)}"


def commands(rows: list[dict[str, str]]) -> str:
    """The command of the pre-training and of every row."""
    first = command_of([*pretraining(), "--work-dir", str(RUNS / "pretrained")])
    return "\n".join([f"* pre-training: `{first}`", *(f"* {row['commit']}: `{row['command']}`" for row in rows)])


if __name__ == "__main__":
    sys.exit(main())
