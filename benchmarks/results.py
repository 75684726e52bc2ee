"""Train, test and fuse on a benchmark, and add a row to docs/results.csv for every stream and fusion.

    python -m benchmarks.results --dataset NW-UCLA --models ctrgcn recipe/ctrgcn --budget full
    python -m benchmarks.results --models ctrgcn --modalities joint --budget cpu --name cosine -- \\
        --lr-schedule cosine --step --hold-out s01 s05 s09    # a variant of a recipe, without reading the test part

Every run is one command line of main.py with its own folder below work_dir/results. Finished runs are read and not
repeated, interrupted runs continue from their checkpoint: repeat the command until the table is complete.
"""

import argparse
import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import pages, results_page
from benchmarks.models_page import read_published
from benchmarks.results_page import COLUMNS, HELD_OUT, STREAMS, Row
from data.cli import whole_number
from torchlight.commands.programs import call, train_and_test
from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.system.command import Parser, RunError
from torchlight.system.command import run as run_command
from torchlight.system.files import read_json
from torchlight.system.modalities import MODALITIES
from torchlight.system.paths import ROOT
from torchlight.system.text import counted, nearest
from torchlight.training.run_dir import CONFIG, METRICS, read_environment, read_metrics
from torchlight.training.scores import SCORE_FILE

RUNS = Path("work_dir/results")
KEY = ("model", "dataset", "stream", "budget", "seed", "device")  # a new row replaces one with the same values
CPU_EPOCHS = 20  # each a single pass: the same budget for every network
CPU_EVALUATIONS = 5  # epochs between two evaluations


class Plan(NamedTuple):
    """One network on one stream with one seed: its folder and the flags of its training."""

    model: str
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
    parser.option("modalities", nargs="+", default=list(STREAMS), choices=MODALITIES, help="streams (the usual four)")
    parser.option("seeds", type=int, nargs="+", default=[1], help="seeds (1)")
    parser.option("budget", choices=("full", "cpu"), default="full", help=f"cpu: {CPU_EPOCHS} single passes")
    parser.option("name", default="", help="name of a variant; required with further flags of main.py after --")
    parser.option("jobs", type=whole_number(1, 64), default=1, help="concurrent trainings; they share the cores (1)")
    parser.option("device", default="", help="as in main.py")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def parse(parser: Parser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the flags of main.py after `--`; raises ValueError for flags without --name."""
    cut = argv.index("--") if "--" in argv else len(argv)
    args, more = parser.parse_args(argv[:cut]), argv[cut + 1 :]
    if more and not args.name:
        raise ValueError("--name: expected a name for the variant, because main.py gets further flags")
    return args, more


def act(argv: list[str]) -> None:
    """Run all plans of a command line, write their rows and the page."""
    args, more = parse(build_parser(), argv)
    plans = make_plans(args, more)
    environment = dict(os.environ)
    if args.device == "cpu" or not torch.cuda.is_available():
        environment.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // args.jobs)))
    pool = ThreadPoolExecutor(args.jobs)
    try:
        for done in [pool.submit(train_and_test, plan.folder, plan.flags, environment) for plan in plans]:
            done.result()
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("interrupted; the same command continues") from error
    finally:
        pool.shutdown(cancel_futures=True)
    rows = []
    for (model, _), group in groupby(plans, key=lambda plan: (plan.model, plan.seed)):
        name = ", ".join(filter(None, [model, args.name]))
        rows += make_rows([plan.folder for plan in group], name, args.dataset)
    pages.add_rows(results_page.TABLE, COLUMNS, KEY, rows)
    pages.write("results", results_page.make_page)


def make_plans(args: argparse.Namespace, more: list[str]) -> list[Plan]:
    """A plan for every model, seed and modality; the streams of a fusion are consecutive, in the order of MODALITIES.

    Raises:
        ConfigError: a model has no configuration for this dataset.
    """
    above = ROOT / "config" / args.dataset
    known = sorted(path.relative_to(above).with_suffix("").as_posix() for path in above.rglob("*.yaml"))
    if unknown := [model for model in args.models if model not in known]:
        raise ConfigError([f"--models: {args.dataset} has no {model}; {nearest(model, known)}" for model in unknown])
    plans = []
    for model in args.models:
        file = f"config/{args.dataset}/{model}.yaml"
        flags = budget_flags(load_config(ROOT / file), args.budget) + more
        flags += ["--device", args.device] if args.device else []
        for seed in args.seeds:
            folder = RUNS / args.budget / f"seed{seed}" / args.dataset / "_".join(filter(None, [model, args.name]))
            for modality in sorted(set(args.modalities), key=MODALITIES.index):
                place = folder / modality
                own = ["--config", file, "--modality", modality, "--seed", str(seed), "--work-dir", str(place)]
                plans.append(Plan(model, seed, place, (*own, *flags)))
    return plans


def budget_flags(config: Config, budget: str) -> list[str]:
    """full: none. cpu: the schedule of the recipe, scaled to CPU_EPOCHS single passes, with a warm-up of at most a
    quarter of them."""
    if budget == "full":
        return []
    flags = ["--train-feeder-args.repeat", "1", "--num-epoch", str(CPU_EPOCHS)]
    flags += ["--eval-interval", str(CPU_EVALUATIONS)]
    if config.step:
        flags += ["--step", *(str(round(epoch * CPU_EPOCHS / config.num_epoch)) for epoch in config.step)]
    if config.warm_up_epoch > CPU_EPOCHS // 4:
        flags += ["--warm-up-epoch", str(CPU_EPOCHS // 4)]
    return flags


def make_rows(folders: list[Path], model: str, dataset: str) -> list[Row]:
    """The rows of finished and tested streams, and of their fusion with the default weights of ensemble.py."""
    names = [f"--{folder.name.replace('_', '-')}-dir" for folder in folders]
    arguments = ["ensemble.py", *(word for pair in zip(names, map(str, folders), strict=True) for word in pair)]
    file = folders[0].parent / "fusion.json"
    call([*arguments, "--json", str(file), "--overwrite", "true"])
    found = read_json(file)
    rows = [stream_row(*pair, model, dataset) for pair in zip(folders, found["streams"], strict=True)]
    if len(folders) > 1:
        weights = " : ".join(f"{stream['weight']:g}" for stream in found["streams"])
        row = {"stream": f"{len(folders)} streams fused, {weights}", "device": "CPU", "best_on_test": "-"}
        row |= {"wall_time": "-", "command": f"python {shlex.join(arguments)}"}
        streams = {4: "four streams", 2: "two streams"}.get(len(folders), "")
        rows.append(common_row(folders[0], found["fusion"], model, dataset, (streams,)) | row)
    return rows


def stream_row(folder: Path, measured: dict[str, Any], model: str, dataset: str) -> Row:
    """The row of one stream, from its run directory and the figures of ensemble.py for its scores.

    Raises:
        RunError: the accuracy of the scores differs from the one that training recorded.
    """
    made, lines = read_environment(folder), read_metrics(folder)
    last = lines[-1]
    if abs(measured["top1"] - last["test_top1"]) > 1e-9:
        raise RunError(
            f"{folder}: expected the top-1 {last['test_top1']:.4f} of {METRICS}, got {measured['top1']:.4f} "
            f"from {SCORE_FILE}; remove the score file to test again"
        )
    threads, on_cpu = made["cpu_threads"], made["device"].startswith("CPU")
    stream = folder.name.replace("_", " ")
    return common_row(folder, measured, model, dataset, (stream, "one stream")) | {
        "stream": stream,
        "best_on_test": f"{last['best_on_test_top1']:.2f} (epoch {last['best_on_test_epoch']})",
        "device": f"CPU, {counted(threads, 'thread')}" if on_cpu else made["device"],
        "wall_time": f"{sum(line['train_seconds'] for line in lines) / 60:.0f} min",
        "command": (f"OMP_NUM_THREADS={threads} " if on_cpu else "") + f"python {made['command']}",
    }


def common_row(folder: Path, measured: dict[str, Any], model: str, dataset: str, streams: tuple[str, ...]) -> Row:
    """The columns that rows of streams and of fusions share; `published` is that of the first known stream."""
    config = load_config(folder / CONFIG)
    low, high = measured["top1_interval"]
    published, file = "not for this budget", ROOT / "config" / dataset / f"{model}.yaml"
    if file.exists() and length(config) == length(load_config(file)) and not config.hold_out:
        rows = [row for row in read_published() if (row["model"], row["dataset"]) == (model, dataset.split("/")[0])]
        known = {row["stream"]: row["top1"] for row in rows}
        published = next((known[stream] for stream in streams if stream in known), "-")
    return {
        "model": model,
        "dataset": dataset + (f", {' '.join(config.hold_out)}{HELD_OUT}" if config.hold_out else ""),
        "budget": length(config),
        "seed": str(config.seed),
        "last_epoch": f"{measured['top1']:.2f}",
        "interval": f"{low:.2f} to {high:.2f}",
        "published": published,
        "commit": (read_environment(folder).get("git_commit") or "unknown")[:7],
    }


def length(config: Config) -> str:
    """How long a recipe trains, in words."""
    passes = config.train_feeder_args.get("repeat", 1)
    return f"{config.num_epoch} single passes" if passes == 1 else f"{config.num_epoch} epochs of {passes} passes"


if __name__ == "__main__":
    sys.exit(main())
