"""Train, test and fuse on a benchmark, and add a row to docs/results.csv for every stream and fusion.

    python -m benchmarks.results --dataset NW-UCLA --models ctrgcn recipe/ctrgcn --budget full
    python -m benchmarks.results --dataset NW-UCLA --models ctrgcn --modalities joint --budget cpu --jobs 2
    python -m benchmarks.results --dataset NW-UCLA --models ctrgcn --modalities joint --hold-out s01 s05 s09 \\
        --name cosine -- --step --lr-schedule cosine         # compare recipes without reading the test part

Every run is one command line of main.py with its own folder below --work-dir. Finished runs are read and not repeated,
interrupted runs continue from their checkpoint: give the same command again until the table is complete. Accuracies are
those of the last epoch. With --hold-out the test part is not opened; these rows are listed separately on the page.
"""

import argparse
import csv
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from benchmarks import results_page
from benchmarks.models_page import read_published
from benchmarks.results_page import Row
from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.fusion.fuse import MODALITIES
from torchlight.system.command import Parser, RunError
from torchlight.system.command import run as run_command
from torchlight.system.files import atomic, read_json
from torchlight.system.paths import ROOT
from torchlight.system.text import nearest
from torchlight.training.run_dir import CONFIG, LAST, METRICS, read_environment, read_metrics
from torchlight.training.scores import SCORE_FILE

CPU_SHARE = 20 / 65  # of a recipe's epochs, each a single pass: the 325 passes of NW-UCLA's published recipe become 20
CPU_EVALUATIONS = 5  # epochs between two evaluations


@dataclass(frozen=True)
class Plan:
    """One network on one stream with one seed: its folder and the flags of its training."""

    model: str
    modality: str
    seed: int
    folder: Path
    flags: tuple[str, ...]


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.option("dataset", default="NW-UCLA", help="benchmark, a folder below config/ (%(default)s)")
    parser.option("models", nargs="+", default=["ctrgcn"], help="configurations, e.g. ctrgcn recipe/ctrgcn (ctrgcn)")
    parser.option("modalities", nargs="+", default=list(MODALITIES), choices=MODALITIES, help="streams (all four)")
    parser.option("seeds", type=int, nargs="+", default=[1], help="(1)")
    parser.option(
        "budget", choices=("full", "cpu"), default="full", help="the recipe, or 20/65 of its epochs as single passes"
    )
    parser.option("hold-out", nargs="+", default=[], metavar="WORD", help="test on these training clips, as in main.py")
    parser.option("name", default="", help="name of a variant; required with further flags of main.py after --")
    parser.option("jobs", type=int, default=1, help="trainings at a time; on a CPU they share its cores (%(default)s)")
    parser.option("device", default="", help="as in main.py")
    parser.option("work-dir", type=Path, default=Path("work_dir/results"), help="folder of all runs (%(default)s)")
    parser.option("table", type=Path, default=results_page.TABLE, help="where rows are added (docs/results.csv)")
    parser.option("commands", action="store_true", help="print the trainings and run none")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Run all plans of a command line and write their rows."""
    cut = argv.index("--") if "--" in argv else len(argv)
    args = build_parser().parse_args(argv[:cut])
    args.more = argv[cut + 1 :]
    if args.more and not args.name:
        raise ValueError("--name: expected a name for the variant, because main.py gets further flags")
    plans = make_plans(args)
    if args.commands:
        for plan in plans:
            print(f"python {shlex.join(['main.py', *plan.flags])}")
        return
    environment = dict(os.environ)
    if args.device == "cpu" or not torch.cuda.is_available():
        environment.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // args.jobs)))
    pool = ThreadPoolExecutor(args.jobs)
    try:
        for done in [pool.submit(train_and_test, plan, environment) for plan in plans]:
            done.result()
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; the same command continues") from error
    finally:
        pool.shutdown(cancel_futures=True)
    write_rows(args, plans)


def make_plans(args: argparse.Namespace) -> list[Plan]:
    """A plan for every model, seed and modality; the streams of one fusion are neighbors, in the order of MODALITIES.

    Raises:
        ConfigError: a model has no configuration for this dataset.
    """
    folder = args.work_dir / "_".join([args.budget, *(["without", *args.hold_out] if args.hold_out else [])])
    above = ROOT / "config" / args.dataset
    plans, problems = [], []
    for model in args.models:
        file = Path("config") / args.dataset / f"{model}.yaml"
        if not (ROOT / file).is_file():
            known = sorted(path.relative_to(above).with_suffix("").as_posix() for path in above.rglob("*.yaml"))
            problems.append(f"--models: there is no {file}; {nearest(model, known)}")
            continue
        flags = budget_flags(load_config(ROOT / file), args.budget) + args.more
        flags += ["--device", args.device] if args.device else []
        for seed in args.seeds:
            for modality in sorted(set(args.modalities), key=MODALITIES.index):
                place = folder / f"seed{seed}" / args.dataset / "_".join(filter(None, [model, args.name])) / modality
                own = ["--config", str(file), "--modality", modality, "--seed", str(seed), "--work-dir", str(place)]
                own += ["--hold-out", *args.hold_out] if args.hold_out else []
                plans.append(Plan(model, modality, seed, place, (*own, *flags)))
    if problems:
        raise ConfigError(problems)
    return plans


def budget_flags(config: Config, budget: str) -> list[str]:
    """full: none, the recipe as it is. cpu: its schedule in fewer, single passes, with a warm-up of at most a
    quarter."""
    if budget == "full":
        return []
    epochs = round(config.num_epoch * CPU_SHARE)
    flags = ["--train-feeder-args.repeat", "1", "--num-epoch", str(epochs), "--eval-interval", str(CPU_EVALUATIONS)]
    if config.step:
        flags += ["--step", *(str(round(epoch * epochs / config.num_epoch)) for epoch in config.step)]
    if config.warm_up_epoch > epochs // 4:
        flags += ["--warm-up-epoch", str(epochs // 4)]
    return flags


def train_and_test(plan: Plan, environment: dict[str, str]) -> None:
    """Do what is left of one plan: train, continue, or only write the scores of the last epoch."""
    if not is_finished(plan.folder):
        call(["main.py", *plan.flags, "--phase", "train", "--resume", "true"], environment)
    weights, scores = plan.folder / LAST, plan.folder / SCORE_FILE
    if not scores.exists() or scores.stat().st_mtime < weights.stat().st_mtime:
        test = ["--phase", "test", "--weights", str(weights), "--save-score", "true"]
        call(["main.py", *plan.flags, *test], environment)


def call(arguments: list[str], environment: dict[str, str] | None = None) -> None:
    """Run one of the project's programs.

    Raises:
        RunError: it ended with an error, which it has printed.
    """
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=False).returncode
    if code:
        raise RunError(f"{arguments[0]} ended with code {code}; the same command continues")


def is_finished(folder: Path) -> bool:
    """Whether the run in this folder has trained all its epochs."""
    lines = read_metrics(folder) if (folder / LAST).exists() else []
    return bool(lines) and lines[-1]["epoch"] == load_config(folder / CONFIG).num_epoch


def write_rows(args: argparse.Namespace, plans: list[Plan]) -> None:
    """The rows of all streams and of the fusion of each model and seed, then the page."""
    rows = []
    for (model, _), group in groupby(plans, key=lambda plan: (plan.model, plan.seed)):
        name = ", ".join(filter(None, [model, args.name]))
        rows += make_rows([plan.folder for plan in group], name, args.dataset)
    add_rows(rows, args.table)
    results_page.write_page(args.table)
    for row in rows:
        print("  ".join(row[key] for key in ("model", "dataset", "stream", "budget", "seed", "last_epoch", "interval")))


def make_rows(folders: list[Path], model: str, dataset: str) -> list[Row]:
    """The rows of finished and tested streams, and of their fusion with the default weights of ensemble.py if
    several."""
    names = [f"--{folder.name.replace('_', '-')}-dir" for folder in folders]
    arguments = ["ensemble.py", *(word for pair in zip(names, map(str, folders), strict=True) for word in pair)]
    file = folders[0].parent / "fusion.json"
    call([*arguments, "--json", str(file), "--overwrite", "true"])
    found = read_json(file)
    rows = [stream_row(*pair, model, dataset) for pair in zip(folders, found["streams"], strict=True)]
    if len(folders) > 1:
        made = read_environment(folders[0])
        row = common_row(load_config(folders[0] / CONFIG), model, dataset, made) | accuracy(found["fusion"])
        weights = " : ".join(f"{stream['weight']:g}" for stream in found["streams"])
        row["stream"] = f"{len(folders)} streams fused, {weights}"
        row |= {"best_on_test": "-", "device": "CPU", "wall_time": "-", "command": f"python {shlex.join(arguments)}"}
        streams = {4: "four streams", 2: "two streams"}.get(len(folders), "")
        rows.append(row | {"published": published(row, model, dataset, (streams,))})
    return rows


def stream_row(folder: Path, measured: dict[str, Any], model: str, dataset: str) -> Row:
    """The row of one stream, from its folder and what ensemble.py measured on its scores.

    Raises:
        RunError: the scores do not have the accuracy that training recorded.
    """
    config, made, lines = load_config(folder / CONFIG), read_environment(folder), read_metrics(folder)
    last = lines[-1]
    if abs(measured["top1"] - last["test_top1"]) > 1e-9:
        raise RunError(
            f"{folder}: expected the top-1 {last['test_top1']:.4f} of {METRICS}, got {measured['top1']:.4f} "
            f"from {SCORE_FILE}; remove the score file to test again"
        )
    threads, on_cpu = made["cpu_threads"], made["device"].startswith("CPU")
    row = common_row(config, model, dataset, made) | accuracy(measured)
    row["stream"] = config.modality.replace("_", " ")
    row["best_on_test"] = f"{last['best_on_test_top1']:.2f} (epoch {last['best_on_test_epoch']})"
    row["device"] = f"CPU, {threads} thread{'s' * (threads > 1)}" if on_cpu else made["device"]
    row["wall_time"] = f"{sum(line['train_seconds'] for line in lines) / 60:.0f} min"
    row["command"] = (f"OMP_NUM_THREADS={threads} " if on_cpu else "") + f"python {made['command']}"
    return row | {"published": published(row, model, dataset, (row["stream"], "one stream"))}


def common_row(config: Config, model: str, dataset: str, made: dict[str, Any]) -> Row:
    """What the rows of streams and of fusions have in common; `made` is environment.json."""
    held = f", {' '.join(config.hold_out)}{results_page.HELD_OUT}" if config.hold_out else ""
    return {
        "model": model,
        "dataset": dataset + held,
        "budget": length(config),
        "seed": str(config.seed),
        "commit": (made.get("git_commit") or "unknown")[:7],
    }


def length(config: Config) -> str:
    """How long a recipe trains, in words."""
    passes = config.train_feeder_args.get("repeat", 1)
    return f"{config.num_epoch} single passes" if passes == 1 else f"{config.num_epoch} epochs of {passes} passes"


def accuracy(measured: dict[str, Any]) -> Row:
    """Top-1 and its interval as the table writes them."""
    low, high = measured["top1_interval"]
    return {"last_epoch": f"{measured['top1']:.2f}", "interval": f"{low:.2f} to {high:.2f}"}


def published(row: Row, model: str, dataset: str, streams: tuple[str, ...]) -> str:
    """The published accuracy of the first known of these streams, for a training with the complete published recipe."""
    file = ROOT / "config" / dataset / f"{model}.yaml"
    full = common_row(load_config(file), model, dataset, {}) if file.exists() else {}
    if any(row[key] != full.get(key) for key in ("dataset", "budget")):
        return "not for this budget"
    rows = [r for r in read_published() if (r["model"], r["dataset"]) == (model, dataset.split("/")[0])]
    known = {r["stream"]: r["top1"] for r in rows}
    return next((known[stream] for stream in streams if stream in known), "-")


def add_rows(rows: list[Row], file: Path) -> None:
    """Add rows to the table; a row of the same experiment on the same device replaces the older one."""
    key = ("model", "dataset", "stream", "budget", "seed", "device")
    table = {tuple(row[k] for k in key): row for row in [*results_page.read_rows(file), *rows]}
    with atomic(file, "w") as stream:
        writer = csv.DictWriter(stream, results_page.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.values())


if __name__ == "__main__":
    sys.exit(main())
