"""Figures on a benchmark that anyone can repeat: train, test and fuse what is asked for, and a row of docs/results.csv for each.

    python -m benchmarks.results --dataset NW-UCLA --models ctrgcn recipe/ctrgcn --budget full
    python -m benchmarks.results --dataset NW-UCLA --models ctrgcn --modalities joint --budget cpu --jobs 2
    python -m benchmarks.results --dataset NW-UCLA --models ctrgcn --modalities joint --validation-performers 1 5 9 \\
        --name cosine -- --step --lr-schedule cosine         # compare recipes without reading the test part

Every run is one command line of main.py in a folder of its own below --work-dir. A run that is finished is read and not repeated, one
that broke off goes on from its checkpoint: the same command may be given until the table is complete. Figures are those of the last
epoch. With performers (or views) held out, the test part is not opened; those rows stand apart on the page and are no results.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import results_page
from benchmarks.models_page import read_published
from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.fusion.cli import figures
from torchlight.fusion.fuse import MODALITIES
from torchlight.fusion.score_files import name_score_files, read_score_files, read_truth, score_file_in
from torchlight.system.files import atomic
from torchlight.system.paths import ROOT
from torchlight.training.run_dir import CONFIG, ENVIRONMENT, LAST, METRICS
from torchlight.training.scores import SCORE_FILE

CPU_SHARE = (
    20 / 65
)  # of the epochs of a recipe, each of a single pass: the 325 passes of NW-UCLA's published recipe become 20
CPU_EVALUATIONS = 5  # epochs between two evaluations
PERFORMER = {"NW-UCLA": "s{:02d}", "ntu": "P{:03d}", "ntu120": "P{:03d}"}  # as names of clips spell it
VIEW = {"NW-UCLA": "v{:02d}", "ntu": "C{:03d}", "ntu120": "C{:03d}"}


@dataclass(frozen=True)
class Plan:
    """One network on one stream with one seed: where its run lives and the flags of its training."""

    model: str
    modality: str
    seed: int
    folder: Path
    flags: tuple[str, ...]


def make_plans(args: argparse.Namespace) -> list[Plan]:
    """A plan for every model, seed and modality that was asked for, streams of one fusion side by side.

    Raises:
        ConfigError: a model has no configuration for this data set.
    """
    hold_out = held_out(args)
    folder = (
        args.work_dir / args.budget if not hold_out else args.work_dir / f"{args.budget}_without_{'_'.join(hold_out)}"
    )
    plans, problems = [], []
    for model in args.models:
        file = Path("config") / args.dataset / f"{model}.yaml"
        if not (ROOT / file).is_file():
            known = ", ".join(results_page.networks(args.dataset)) or "none"
            problems.append(f"models: found {model}; {file} is not there; allowed for {args.dataset}: {known}")
            continue
        config = load_config(ROOT / file)
        for seed in args.seeds:
            for modality in args.modalities:
                place = (
                    folder / f"seed{seed}" / args.dataset / (model + (f"_{args.name}" if args.name else "")) / modality
                )
                flags = ["--config", str(file), "--modality", modality, "--seed", str(seed), "--work-dir", str(place)]
                flags += ["--hold-out", *hold_out] if hold_out else []
                flags += [
                    *budget_flags(config, args.budget),
                    *args.more,
                    *(["--device", args.device] if args.device else []),
                ]
                plans.append(Plan(model, modality, seed, place, tuple(flags)))
    if problems:
        raise ConfigError(problems)
    return plans


def held_out(args: argparse.Namespace) -> list[str]:
    """The words of clip names that --validation-performers and --validation-views mean."""
    dataset = args.dataset.split("/")[0]
    if (args.validation_performers or args.validation_views) and dataset not in PERFORMER:
        known = ", ".join(PERFORMER)
        raise ConfigError(
            [f"validation: found {dataset}; performers and views are known of {known}; use main.py --hold-out"]
        )
    words = [PERFORMER[dataset].format(number) for number in args.validation_performers]
    return words + [VIEW[dataset].format(number) for number in args.validation_views]


def budget_flags(config: Config, budget: str) -> list[str]:
    """full: the recipe as it stands. cpu: its schedule squeezed into single passes, a warm-up of a quarter at most."""
    if budget == "full":
        return []
    epochs = round(config.num_epoch * CPU_SHARE)
    flags = ["--train-feeder-args.repeat", "1", "--num-epoch", str(epochs), "--eval-interval", str(CPU_EVALUATIONS)]
    if config.step:
        flags += ["--step", *(str(round(epoch * epochs / config.num_epoch)) for epoch in config.step)]
    if config.warm_up_epoch > epochs // 4:
        flags += ["--warm-up-epoch", str(epochs // 4)]
    return flags


def run(plan: Plan, environment: dict[str, str]) -> None:
    """Train and test one plan, as far as it is not done.

    Raises:
        subprocess.CalledProcessError: main.py ended with an error, which it has printed.
    """
    if not finished(plan.folder):
        call(["main.py", *plan.flags, "--phase", "train", "--resume", "true"], environment)
    weights, values = plan.folder / LAST, plan.folder / SCORE_FILE
    if not values.exists() or values.stat().st_mtime < weights.stat().st_mtime:
        call(
            ["main.py", *plan.flags, "--phase", "test", "--weights", str(weights), "--save-score", "true"], environment
        )


def call(arguments: list[str], environment: dict[str, str] | None = None) -> None:
    """One of the project's programs."""
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True)


def finished(folder: Path) -> bool:
    """Whether the run in this folder has trained all its epochs."""
    lines = (folder / METRICS).read_text().splitlines() if (folder / LAST).exists() else []
    return bool(lines) and json.loads(lines[-1])["epoch"] == load_config(folder / CONFIG).num_epoch


def stream_row(folder: Path, model: str, dataset: str) -> dict[str, str]:
    """The row of one finished and tested run, from the files of its folder alone.

    Raises:
        ValueError: its score file does not give the accuracy that training recorded.
    """
    config, made = load_config(folder / CONFIG), json.loads((folder / ENVIRONMENT).read_text())
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    last, truth = lines[-1], read_truth(folder / CONFIG)
    files = name_score_files([score_file_in(folder)])
    measured = figures(read_score_files(files, truth)[0], truth.label, seed=0)
    if abs(measured["top1"] - last["test_top1"]) > 1e-9:
        found = f"top-1 {measured['top1']:.4f} in {SCORE_FILE}, {last['test_top1']:.4f} in {METRICS}"
        raise ValueError(f"{folder}: found {found}; remove the score file to test again")
    on_cpu = made["device"].startswith("CPU")
    row = common_row(config, model, dataset, made["git_commit"]) | accuracy(measured)
    row["stream"] = config.modality.replace("_", " ")
    row["best_on_test"] = f"{last['best_on_test_top1']:.2f} (epoch {last['best_on_test_epoch']})"
    row["device"] = f"CPU, {made['cpu_threads']} thread{'s' * (made['cpu_threads'] > 1)}" if on_cpu else made["device"]
    row["wall_time"] = f"{sum(line['train_seconds'] for line in lines) / 60:.0f} min"
    row["command"] = (f"OMP_NUM_THREADS={made['cpu_threads']} " if on_cpu else "") + f"python {made['command']}"
    row["published"] = published(row, model, dataset, (config.modality.replace("_", " "), "one stream"))
    return row


def fusion_row(folders: list[Path], model: str, dataset: str) -> dict[str, str]:
    """The row of the fusion of several streams with the weights of ensemble.py's default."""
    table = folders[0].parent / "fusion.json"
    names = [f"--{folder.name.replace('_', '-')}-dir" for folder in folders]
    arguments = ["ensemble.py", *(word for pair in zip(names, map(str, folders), strict=True) for word in pair)]
    call([*arguments, "--json", str(table), "--overwrite", "true"])
    config, made = load_config(folders[0] / CONFIG), json.loads((folders[0] / ENVIRONMENT).read_text())
    result = json.loads(table.read_text())
    row = common_row(config, model, dataset, made["git_commit"]) | accuracy(result["fusion"])
    row["stream"] = f"{len(folders)} streams fused, " + " : ".join(
        f"{stream['weight']:g}" for stream in result["streams"]
    )
    row |= {"best_on_test": "-", "device": "CPU", "wall_time": "-", "command": f"python {shlex.join(arguments)}"}
    row["published"] = published(row, model, dataset, ({4: "four streams", 2: "two streams"}.get(len(folders), ""),))
    return row


def common_row(config: Config, model: str, dataset: str, commit: str | None) -> dict[str, str]:
    """What rows of streams and of fusions share."""
    held = f", {' '.join(config.hold_out)}{results_page.HELD_OUT}" if config.hold_out else ""
    return {
        "model": model,
        "dataset": dataset + held,
        "budget": results_page.budget(config),
        "seed": str(config.seed),
        "commit": (commit or "unknown")[:7],
    }


def accuracy(measured: dict[str, Any]) -> dict[str, str]:
    """Top-1 and its interval as the table writes them."""
    low, high = measured["top1_interval"]
    return {"last_epoch": f"{measured['top1']:.2f}", "interval": f"{low:.2f} to {high:.2f}"}


def published(row: dict[str, str], model: str, dataset: str, streams: tuple[str, ...]) -> str:
    """The published figure of the same streams, for the published recipe in full."""
    file = ROOT / "config" / dataset / f"{model}.yaml"
    full = common_row(load_config(file), model, dataset, None) if file.exists() else {}
    if any(row[key] != full.get(key) for key in ("dataset", "budget")):
        return "not for this budget"
    known = {
        r["stream"]: r["top1"] for r in read_published() if (r["model"], r["dataset"]) == (model, dataset.split("/")[0])
    }
    return next((known[stream] for stream in streams if stream in known), "-")


def add_rows(rows: list[dict[str, str]], file: Path) -> None:
    """Append rows to the table; one of the same experiment on the same device takes the place of the older."""
    key = ("model", "dataset", "stream", "budget", "seed", "device")
    table = {tuple(row[k] for k in key): row for row in results_page.read_rows(file)}
    table |= {tuple(row[k] for k in key): row for row in rows}
    with atomic(file, "w") as stream:
        writer = csv.DictWriter(stream, results_page.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.values())


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="NW-UCLA", help="benchmark as below config/ (%(default)s)")
    parser.add_argument(
        "--models",
        nargs="+",
        default=["ctrgcn"],
        help="names of configurations, e.g. ctrgcn recipe/ctrgcn (%(default)s)",
    )
    parser.add_argument(
        "--modalities",
        nargs="+",
        default=list(MODALITIES),
        choices=MODALITIES,
        help="streams, fused if several (all four)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="(1)")
    parser.add_argument(
        "--budget", choices=("full", "cpu"), default="full", help="the recipe, or 20/65 of its epochs as single passes"
    )
    parser.add_argument(
        "--validation-performers",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="test on these training performers instead",
    )
    parser.add_argument(
        "--validation-views", type=int, nargs="+", default=[], metavar="N", help="test on these training views instead"
    )
    parser.add_argument(
        "--name", default="", help="name of a variant; needed with further flags of main.py, which follow after --"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="trainings at a time; on a CPU they share its cores (%(default)s)"
    )
    parser.add_argument("--device", default="", help="as in main.py")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("work_dir/results"), help="where the runs live (%(default)s)"
    )
    parser.add_argument("--table", type=Path, default=results_page.DOCS / "results.csv", help="(%(default)s)")
    parser.add_argument("--commands", action="store_true", help="show the trainings and run none")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; 0: the table is complete, 1: a run failed, 2: a mistake in what was given, 130: interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    cut = argv.index("--") if "--" in argv else len(argv)
    args = build_parser().parse_args(argv[:cut])
    args.more = argv[cut + 1 :]
    try:
        if args.more and not args.name:
            raise ConfigError(["name: missing; further flags make another recipe, which needs a name of its own"])
        plans = make_plans(args)
    except ConfigError as error:
        print(f"error: {error}".replace("\n", "\nerror: "), file=sys.stderr)
        return 2
    if args.commands:
        for plan in plans:
            print(f"python {shlex.join(['main.py', *plan.flags])}")
        return 0
    environment = dict(os.environ)
    if args.device == "cpu" or not torch.cuda.is_available():
        environment.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // args.jobs)))
    pool = ThreadPoolExecutor(args.jobs)
    try:
        for done in [pool.submit(run, plan, environment) for plan in plans]:
            done.result()
        write_rows(args, plans)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        print(
            f"error: {error.cmd[1]} ended with code {error.returncode}; the same command goes on where it stopped",
            file=sys.stderr,
        )
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        pool.shutdown(cancel_futures=True)
    return 0


def write_rows(args: argparse.Namespace, plans: list[Plan]) -> None:
    """The rows of all plans and of the fusion of the streams of each model and seed, then the page."""
    rows, groups = [], {}
    for plan in plans:
        name = plan.model + (f", {args.name}" if args.name else "")
        rows.append(stream_row(plan.folder, name, args.dataset))
        groups.setdefault((name, plan.seed), []).append(plan.folder)
    rows += [fusion_row(folders, name, args.dataset) for (name, _), folders in groups.items() if len(folders) > 1]
    add_rows(rows, args.table)
    results_page.write_page(args.table)
    for row in rows:
        print("  ".join(row[key] for key in ("model", "dataset", "stream", "budget", "seed", "last_epoch", "interval")))


if __name__ == "__main__":
    sys.exit(main())
