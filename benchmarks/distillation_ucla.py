"""What a teacher brings on NW-UCLA: CTR-GCN, its student of seven units alone, and the same student distilled.

    python benchmarks/distillation_ucla.py                     # 9 runs of 10 single passes, on the prepared store
    python benchmarks/distillation_ucla.py --epochs 65 --repeat 5    # the published budget
    python benchmarks/distillation_ucla.py --commands          # only show what would run

Every run has the same number of epochs and the published recipe, its milestone moved in proportion; the student of seed k learns from
the teacher of seed k. Test top-1 of the last epoch counts, never the best one. Runs that are finished are read, one that broke off goes
on from its checkpoint, so the same command may be given until the table is complete.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLASSIFY = [
    "--objective",
    "torchlight.objective.Classification",
    "--teacher",
]  # an empty --teacher takes the file's away


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="epochs of every run (%(default)s)")
    parser.add_argument(
        "--repeat", type=int, default=1, help="passes over the training clips in an epoch (%(default)s)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(1 2 3)")
    parser.add_argument("--modality", default="joint", help="(%(default)s)")
    parser.add_argument("--device", default=None, help="as in main.py")
    parser.add_argument(
        "--out", type=Path, default=Path("work_dir/NW-UCLA/distillation"), help="where the runs live (%(default)s)"
    )
    parser.add_argument("--commands", action="store_true", help="show the commands and run none")
    args, more = parser.parse_known_args()  # further flags go to the distilled student, e.g. --objective-args beta=8
    top1: dict[str, list[float]] = {}
    for seed in args.seeds:
        for name, config, flags in runs(args, seed, more):
            folder = args.out / name / f"seed{seed}"
            command = [
                sys.executable,
                "main.py",
                "--config",
                config,
                *common(args, seed),
                "--work-dir",
                str(folder),
                *flags,
            ]
            if args.commands:
                print(shlex.join(command))
                continue
            if last_epoch(folder).get("epoch") != args.epochs:
                subprocess.run(command, cwd=ROOT, check=True)
            top1.setdefault(name, []).append(last_epoch(folder)["test_top1"])
            print_table(top1, args)


def runs(args: argparse.Namespace, seed: int, more: list[str]) -> list[tuple[str, str, list[str]]]:
    """(name, configuration, flags) of the runs of one seed, the teacher first."""
    weights = args.out / "teacher" / f"seed{seed}" / "last.pt"
    teacher = {
        "model": "model.ctrgcn.Model",
        "model_args": {"graph_args": {"labeling_mode": "spatial"}},
        "weights": str(weights),
    }
    return [
        ("teacher", "config/NW-UCLA/ctrgcn.yaml", []),
        ("alone", "config/NW-UCLA/dke7.yaml", CLASSIFY),
        ("distilled", "config/NW-UCLA/dke7.yaml", ["--teacher", json.dumps(teacher), *more]),
    ]


def common(args: argparse.Namespace, seed: int) -> list[str]:
    """Flags of every run."""
    flags = ["--num-epoch", str(args.epochs), "--step", str(round(args.epochs * 50 / 65)), "--seed", str(seed)]
    flags += [
        "--train-feeder-args",
        f"repeat={args.repeat}",
        "--modality",
        args.modality,
        "--resume",
        "true",
        "--eval-interval",
        str(args.epochs),
    ]
    return flags + (["--device", args.device] if args.device else [])


def last_epoch(folder: Path) -> dict:
    """The last line of a run's metrics.jsonl; empty if there is none."""
    file = ROOT / folder / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return json.loads(lines[-1]) if lines else {}


def print_table(top1: dict[str, list[float]], args: argparse.Namespace) -> None:
    """Mean and spread of the runs so far."""
    print(
        f"\n{args.modality} stream, {args.epochs} epochs of {args.repeat} passes, test top-1 of the last epoch (percent)"
    )
    for name, values in top1.items():
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        print(
            f"{name:<10} {statistics.mean(values):6.2f} +- {spread:4.2f}   {'  '.join(f'{value:.2f}' for value in values)}"
        )
    print(flush=True)


if __name__ == "__main__":
    main()
