"""Compare a teacher, a student trained alone, and the distilled student on the same clips with the same seeds.

    python -m benchmarks.distillation                                    # CTR-GCN and dke7 on NW-UCLA, three seeds
    python -m benchmarks.distillation --student dke9 --seeds 1 2 --budget full
    python -m benchmarks.distillation --name tiny -- --num-epoch 1 --step 1 --warm-up-epoch 0

Adds rows to docs/distillation.csv and updates the table in docs/distillation.md. A student is trained with the teacher
of the same seed. Run directories are shared with benchmarks.results: finished runs are read, interrupted runs continue.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import distillation_page, pages, results
from benchmarks.distillation_page import COLUMNS, KEY, TABLE, Row
from benchmarks.measure import in_turns, inference
from benchmarks.networks import clip_shape
from data.cli import whole_number
from torchlight.commands.programs import train_and_test
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.fusion.groups import Groups, find_groups
from torchlight.fusion.intervals import bootstrap_means, sign_flip, sums_of_groups
from torchlight.fusion.score_files import name_score_files, read_score_files, read_truth
from torchlight.search.space import size_of
from torchlight.system.command import Parser
from torchlight.system.command import run as run_command
from torchlight.system.paths import ROOT
from torchlight.training.engine import for_inference
from torchlight.training.run_dir import CONFIG, LAST, read_environment
from torchlight.training.scores import SCORE_FILE, is_correct

ALONE = ("--objective", "torchlight.objective.Classification", "--teacher")  # --teacher without a value: no teacher
CPU = torch.device("cpu")


class Role(NamedTuple):
    """A network of the comparison: its role, its recipe, and its run directories, one for each seed."""

    name: str
    model: str
    folders: list[Path]


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.distillation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.option("dataset", default="NW-UCLA", help="benchmark, a folder below config/ (%(default)s)")
    parser.option("student", default="dke7", help="configuration of the student, with one teacher (%(default)s)")
    parser.option("teacher", default="ctrgcn", help="configuration of the teacher (%(default)s)")
    parser.option("modality", default="joint", help="stream (%(default)s)")
    parser.option("seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds (1 2 3)")
    parser.option("budget", choices=("full", "cpu"), default="cpu", help=f"cpu: {results.CPU_EPOCHS} single passes")
    parser.option("name", default="", help="name of a variant; required with further flags of main.py after --")
    parser.option("device", default="", help="as in main.py")
    parser.option("rounds", type=whole_number(1, 1000), default=50, help="repetitions of the timing (%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Complete all runs, then write their rows and the page."""
    args, more = results.parse(build_parser(), argv)
    roles = train(args, more)
    command = f"python -m benchmarks.distillation {shlex.join(argv)}".strip()
    pages.add_rows(TABLE, COLUMNS, KEY, make_rows(roles, args, command))
    pages.write("distillation", distillation_page.make_page)


def train(args: argparse.Namespace, more: list[str]) -> list[Role]:
    """Train the teacher, the student alone and the distilled student with every seed."""
    entries = load_config(ROOT / f"config/{args.dataset}/{args.student}.yaml").teacher
    if len(entries) != 1:
        raise ConfigError([f"--student: expected a recipe with one teacher, got {len(entries)} in {args.student}"])
    roles = [
        Role("teacher", args.teacher, []),
        Role("student alone", args.student, []),
        Role("student distilled", args.student, []),
    ]
    for seed in args.seeds:
        weights = ""
        for role in roles:
            taught = {"teacher": [], "student alone": ALONE}.get(role.name)
            taught = ["--teacher", json.dumps(entries[0] | {"weights": weights})] if taught is None else taught
            kind = "" if role.name == "teacher" else role.name.split()[1]
            facts = {"models": [role.model], "modalities": [args.modality], "seeds": [seed]}
            facts |= {"name": "_".join(filter(None, [kind, args.name]))}
            (plan,) = results.make_plans(argparse.Namespace(**vars(args) | facts), [*more, *taught])
            train_and_test(plan.folder, plan.flags)
            role.folders.append(plan.folder)
            weights = weights or str(plan.folder / LAST)
    return roles


def make_rows(roles: list[Role], args: argparse.Namespace, command: str) -> list[Row]:
    """A row for each role; the others are compared with the student alone."""
    correct, groups = read_correct(roles)
    configs = [load_config(role.folders[0] / CONFIG) for role in roles]
    milliseconds = time_of_one_clip(roles, configs, args.rounds)
    rows = []
    for role, config in zip(roles, configs, strict=True):
        made, seeds = read_environment(role.folders[0]), len(args.seeds)
        own, alone = (correct[name].sum(0) for name in (role.name, "student alone"))  # (n,), 0 to the number of seeds
        top1 = 100 * correct[role.name].mean(1)
        size = size_of(import_object(config.model)(**config.model_args), clip_shape(config)[0])
        row = {"role": role.name, "model": ", ".join(filter(None, [role.model, args.name])), "dataset": args.dataset}
        row |= {"stream": args.modality, "budget": results.length(config), "seeds": " ".join(map(str, args.seeds))}
        row |= {"top1": " ".join(f"{value:.2f}" for value in top1), "mean": f"{top1.mean():.2f}"}
        row |= {"interval": "{:.2f} to {:.2f}".format(*interval(own, groups, seeds)), "groups": str(groups)}
        row |= {"difference": "", "p": ""}
        if role.name != "student alone":
            difference = 100 * (own - alone).mean() / seeds
            row["difference"] = "{:+.2f} ({:+.2f} to {:+.2f})".format(difference, *interval(own - alone, groups, seeds))
            row["p"] = f"{sign_flip(sums_of_groups(own - alone, groups.index)):.3g}"
        row |= {"parameters": f"{size.parameters:,}", "multiply_adds": f"{size.multiply_adds / 1e9:.3f} G"}
        row |= {"milliseconds": f"{milliseconds[role.model]:.1f}", "device": made["device"]}
        rows.append(row | {"commit": (made.get("git_commit") or "unknown")[:7], "command": command})
    return rows


def read_correct(roles: list[Role]) -> tuple[dict[str, np.ndarray], Groups]:
    """Which clips each network classifies correctly, (seeds, n) int, by role, and the groups of the clips."""
    truth = read_truth(load_config(roles[0].folders[0] / CONFIG))
    correct = {}
    for role in roles:
        scores = read_score_files(name_score_files([folder / SCORE_FILE for folder in role.folders]), truth)
        correct[role.name] = np.stack([is_correct(one, truth.label) for one in scores]).astype(int)
    return correct, find_groups(truth.name)


def interval(values: np.ndarray, groups: Groups, seeds: int) -> tuple[float, float]:
    """95 % bootstrap interval over groups of the mean of values (n,) that are sums over seeds, in percent."""
    low, high = np.quantile(bootstrap_means(values, groups.index, 0, 10_000) / seeds, [0.025, 0.975])
    return float(low), float(high)


def time_of_one_clip(roles: list[Role], configs: list[Config], rounds: int) -> dict[str, float]:
    """Median milliseconds of one clip with each network in the form used in evaluation, on one CPU thread, in turns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sides = {}
    for role, config in zip(roles, configs, strict=True):
        model = import_object(config.model)(**config.model_args).eval()
        sides[role.model] = inference(for_inference(model), torch.randn(1, *clip_shape(config)[0]))
    found = in_turns(sides, rounds, CPU)
    torch.set_num_threads(threads)
    return {model: 1e3 * measured["seconds"] for model, measured in found.items()}


if __name__ == "__main__":
    sys.exit(main())
