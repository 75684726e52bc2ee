"""Files of finished runs for a download page: weights, scores and accuracies, with a table of their hashes.

    python -m benchmarks.release work_dir/results/full --out release

The run `seed1/NW-UCLA/ctrgcn/joint` of this folder becomes `seed1_NW-UCLA_ctrgcn_joint.pt`, the last checkpoint without
the state of the optimizer, and files with the same beginning: scores, accuracy of each class, metrics, configuration.
`index.csv` lists the runs with their commands. `sha256sum -c SHA256SUMS` checks the files.
"""

import argparse
import csv
import hashlib
import shutil
import sys
from pathlib import Path

from torchlight.config.load import load_config
from torchlight.config.options import ConfigError
from torchlight.system.command import Parser
from torchlight.system.command import run as run_command
from torchlight.system.files import atomic
from torchlight.training import checkpoint
from torchlight.training.run_dir import CONFIG, LAST, METRICS, read_environment, read_metrics
from torchlight.training.scores import SCORE_FILE

KEPT = ("model", "model_ema", "epoch", "config", "clips")  # what tests and predictions read from a checkpoint
COPIED = {SCORE_FILE: "_scores.pkl", "each_class_acc.csv": "_classes.csv", METRICS: "_metrics.jsonl", CONFIG: ".yaml"}
COLUMNS = ("name", "test_top1", "epoch", "seed", "git_commit", "device", "command")


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with runs at any depth")
    parser.option("out", type=Path, required=True, help="new folder for the files")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Write the files of all finished runs; raises ConfigError if there is none, or if the new folder exists."""
    args = build_parser().parse_args(argv)
    if args.out.exists():
        raise ConfigError([f"--out: expected a new folder, got {args.out}, which exists"])
    found = sorted(path.parent for path in args.folder.rglob(CONFIG))
    runs = [folder for folder in found if is_finished(folder)]
    if not runs:
        raise ConfigError([f"folder: expected finished runs with {SCORE_FILE} in {args.folder}, got none"])
    args.out.mkdir(parents=True)
    rows = []
    for folder in runs:
        name = "_".join(folder.relative_to(args.folder).parts) or folder.name
        write_files(folder, args.out / name)
        facts = read_environment(folder) | read_metrics(folder)[-1]
        rows.append({"name": name} | {key: facts.get(key, "") for key in COLUMNS[1:]})
    with atomic(args.out / "index.csv", "w") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(args.out.iterdir())]
    with atomic(args.out / "SHA256SUMS", "w") as file:
        file.writelines(sums)
    for folder in sorted(set(found) - set(runs)):
        print(f"left out, because it is not finished or has no scores: {folder}")
    print(f"wrote {len(runs)} runs to {args.out}")


def is_finished(folder: Path) -> bool:
    """Whether a run has reached its last epoch and has scores."""
    lines = read_metrics(folder)
    is_complete = bool(lines) and lines[-1]["epoch"] == load_config(folder / CONFIG).num_epoch
    return is_complete and (folder / LAST).exists() and (folder / SCORE_FILE).exists()


def write_files(folder: Path, start: Path) -> None:
    """Write the files of a run; start: their path without the endings."""
    content = checkpoint.load(folder / LAST)
    checkpoint.save(Path(f"{start}.pt"), {key: content[key] for key in KEPT if key in content})
    for file, ending in COPIED.items():
        if (folder / file).exists():
            shutil.copyfile(folder / file, f"{start}{ending}")


if __name__ == "__main__":
    sys.exit(main())
