"""Cross-validation over performers: train one recipe, or two to compare, on several folds and with several seeds.

    python -m torchlight.protocol --config config/NW-UCLA/ctrgcn.yaml --folds performers --seeds 3
    python -m torchlight.protocol --config config/NW-UCLA/ctrgcn.yaml config/NW-UCLA/recipe/ctrgcn.yaml --folds 5 \\
        -- --num-epoch 20 --step 15

Each run is a command of main.py with --hold-out and its own folder, so the test part is never read. If the command is
repeated, interrupted runs continue and finished runs are skipped.
"""

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.commands.main import parse
from torchlight.commands.programs import train_and_test
from torchlight.commands.show import check_experiment, check_weights
from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.fusion.cli import check_output
from torchlight.fusion.groups import parse_name
from torchlight.fusion.intervals import sign_flip
from torchlight.fusion.score_files import name_score_files, read_score_files, read_truth, truth_of
from torchlight.runtime.logs import set_up_logging
from torchlight.system.command import Parser, path, run
from torchlight.system.consent import admit
from torchlight.system.files import atomic
from torchlight.system.paths import folder_name, set_data_root
from torchlight.system.text import printable, quote
from torchlight.training.build import build_feeder, check_fit, preflight
from torchlight.training.run_dir import CONFIG
from torchlight.training.scores import SCORE_FILE, is_correct

log = logging.getLogger("torchlight")
EVERY = ("performers", "groups")  # hold out each of them once
OWN = ("--config", "--hold-out", "--seed", "--phase", "--work-dir", "--resume", "--overwrite")  # flags set here


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m torchlight.protocol",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.option("config", nargs="+", required=True, metavar="FILE", help="one recipe, or two to compare")
    parser.option(
        "folds",
        nargs="+",
        default=["performers"],
        help="performers (or groups): hold out each performer, or each group of your own data, once; a number: that "
        "many folds of performers; or the words of each fold, such as s01,s02 s03,s04 (default: performers)",
    )
    parser.option("seeds", type=int, default=3, help="runs per fold, with the seeds 1, 2, ... (%(default)s)")
    parser.option(
        "work-dir", type=path, default=Path("work_dir/protocol"), metavar="DIR", help="folder of the runs (%(default)s)"
    )
    parser.option("data-root", type=path, metavar="DIR", help="folder of prepared data ($SKELETON_DATA, else data)")
    parser.option("json", type=path, metavar="FILE", help="write the table as JSON; an existing file is replaced")
    return parser


def act(argv: list[str]) -> None:
    """Run one command line: run or continue all unfinished runs, then print the table."""
    set_up_logging()
    cut = argv.index("--") if "--" in argv else len(argv)
    args, more = build_parser().parse_args(argv[:cut]), argv[cut + 1 :]
    check(args, more)
    set_data_root(args.data_root)
    configs = [read_recipe(file, more) for file in args.config]
    for config in configs:
        check_recipe(config)
    folds = make_folds(args.folds, *same_clips(configs))
    for fold in folds:
        same_clips([replace(config, hold_out=fold) for config in configs])
    names, counts = recipe_names(args.config), []
    for file, name in zip(args.config, names, strict=True):
        counts.append([[train_fold(args, file, name, fold, k + 1, more) for k in range(args.seeds)] for fold in folds])
    table = summarize(names, folds, np.array(counts))
    show(table)
    if args.json:
        with atomic(args.json, "w") as stream:
            json.dump(table, stream, indent=1)


def check(args: argparse.Namespace, more: Sequence[str]) -> None:
    """Raise ConfigError for mistakes on the command line."""
    problems = []
    if len({Path(file).absolute().with_suffix("") for file in args.config}) < len(args.config) or len(args.config) > 2:
        problems.append(f"config: expected one recipe, or two different ones, got {' '.join(args.config)}")
    if args.seeds < 1:
        problems.append(f"seeds: expected 1 or more, got {args.seeds}")
    problems += check_output(args.json, overwrite=True) if args.json else []
    given = [word.partition("=")[0].replace("_", "-") for word in more]
    problems += [f"{flag}: expected nothing after --, because the protocol sets it" for flag in OWN if flag in given]
    if problems:
        raise ConfigError(problems)


def read_recipe(file: str, more: Sequence[str]) -> Config:
    """The configuration of main.py for a file and further flags, whose data root is set."""
    options = parse(["--config", file, *more])
    for word in options.pop("import", []):
        admit(word)
    config = load_config(options.pop("config"), options)
    set_data_root(config.data_root)
    return config


def check_recipe(config: Config) -> None:
    """Raise ConfigError if training could not start with a recipe for any data."""
    try:
        check_weights(config)
        check_experiment(config)
    except ValueError as error:
        raise ConfigError([f"{config.config}: {line}" for line in str(error).splitlines()]) from error


def recipe_names(files: Sequence[str]) -> list[str]:
    """The shortest names of the files that differ, as names of folders.

    >>> recipe_names(["config/toy/net.yaml", "config/toy/recipe/net.yaml"])
    ['toy_net', 'recipe_net']
    """
    parts = [Path(file).absolute().with_suffix("").parts for file in files]
    depth = next(d for d in range(1, 100) if len({p[-d:] for p in parts}) == len(parts))
    return ["_".join(p[-depth:]).strip("/") for p in parts]


def same_clips(configs: Sequence[Config]) -> tuple[list[str], list[str] | None]:
    """The training clips of all recipes, and the groups of the first one; raises ConfigError if they differ."""
    clips = [clips_of(config) for config in configs]
    if any(names != clips[0][0] for names, _ in clips):
        files = " and ".join(str(config.config) for config in configs)
        raise ConfigError([f"config: expected recipes on the same clips, got {files}"])
    return clips[0]


def clips_of(config: Config) -> tuple[list[str], list[str] | None]:
    """The names of the training clips of a recipe, and their groups if the data has groups.

    Raises:
        ConfigError: the data cannot be read or does not fit the network, its clips have several labels, or no clip is
            held out.
    """
    feeder = build_feeder(config, preflight(config, ("feeder",))["feeder"], "train")
    truth_of(feeder).single()
    check_fit(config, feeder)
    groups = getattr(feeder, "group", None)
    return feeder.name.tolist(), None if groups is None else groups.tolist()


def make_folds(words: Sequence[str], names: Sequence[str], groups: Sequence[str] | None = None) -> list[list[str]]:
    """The words of --hold-out for each fold.

    words: `performers` or `groups` for one performer per fold, a number K for K folds of performers with similar
    numbers of clips, or the words of each fold, separated by commas. Performers are the groups of the data if it has
    groups; otherwise they follow from the clip names.

    Raises:
        ConfigError: the performers cannot be derived from the names, there are fewer performers than folds, or a word
            is in two folds.
    """
    if len(words) == 1 and (words[0] in EVERY or words[0].isdigit()):
        performers = performers_of(names) if groups is None else groups
        return folds_of_performers(performers, None if words[0] in EVERY else int(words[0]))
    folds = [word.split(",") for word in words]
    repeated = [word for word, count in Counter(word for fold in folds for word in fold).items() if count > 1]
    if len(folds) < 2 or repeated or not all(all(fold) for fold in folds):
        raise ConfigError(
            [f"folds: expected performers, a number, or two or more folds of different words, got {' '.join(words)}"]
        )
    return folds


def performers_of(names: Sequence[str]) -> list[str]:
    """The performer of each clip, from its name; raises ConfigError."""
    parsed = [parse_name(name) for name in names]
    if None in parsed:
        raise ConfigError(
            [
                "folds: expected clip names such as S001C001P001R001A001 or a01_s01_e00_v01, got "
                f"{quote(names[parsed.index(None)])}; give the words of each fold instead"
            ]
        )
    return [name["performer"] for name in parsed]


def folds_of_performers(performers: Sequence[str], number: int | None) -> list[list[str]]:
    """`number` folds of performers with similar numbers of clips; None: one performer per fold; raises ConfigError."""
    clips = Counter(performers)
    number = len(clips) if number is None else number
    if not 2 <= number <= len(clips):
        raise ConfigError([f"folds: expected 2 to {len(clips)}, the number of performers, got {number}"])
    folds: list[list[str]] = [[] for _ in range(number)]
    for performer in sorted(clips, key=lambda word: (-clips[word], word)):
        min(folds, key=lambda fold: sum(clips[word] for word in fold)).append(performer)
    return sorted(sorted(fold) for fold in folds)


def train_fold(
    args: argparse.Namespace, file: str, name: str, fold: list[str], seed: int, more: Sequence[str]
) -> tuple[int, int]:
    """Run or continue one run; returns the number of correctly classified held-out clips and of all held-out clips."""
    folder = args.work_dir / name / folder_name(fold) / f"seed{seed}"
    own = ["--config", file, "--hold-out", *fold, "--seed", str(seed), "--work-dir", str(folder)]
    train_and_test(folder, [*own, *more])
    truth = read_truth(load_config(folder / CONFIG)).single()
    (scores,) = read_score_files(name_score_files([folder / SCORE_FILE]), truth)
    return int(is_correct(scores, truth.label).sum()), len(truth.label)


def summarize(names: Sequence[str], folds: list[list[str]], counts: np.ndarray) -> dict[str, Any]:
    """The table for counts (recipes, folds, seeds, 2) of correct and of all clips: top-1 of every run, means, standard
    deviations, and the comparison of two recipes.

    Raises:
        ConfigError: the recipes have different clips in a fold.
    """
    clips = counts[..., 1]
    if (clips != clips[:1, :, :1]).any():
        raise ConfigError([f"config: expected recipes on the same clips, got {clips[:, :, 0].tolist()} held-out clips"])
    top1 = 100 * counts[..., 0] / clips  # (recipes, folds, seeds)
    recipes = [
        {
            "recipe": name,
            "top1": own.tolist(),
            "mean": float(own.mean()),
            "std_folds": float(own.mean(1).std(ddof=1)),
            "std_seeds": float(own.mean(0).std(ddof=1)) if own.shape[1] > 1 else None,
        }
        for name, own in zip(names, top1, strict=True)
    ]
    table: dict[str, Any] = {"folds": folds, "clips": clips[0, :, 0].tolist(), "recipes": recipes}
    if len(names) == 2:
        by_fold = (top1[0] - top1[1]).mean(1)
        table["comparison"] = {
            "difference": float(by_fold.mean()),
            "std_folds": float(by_fold.std(ddof=1)),
            "by_fold": by_fold.tolist(),
            "p": sign_flip((counts[0, :, :, 0] - counts[1, :, :, 0]).sum(1)),
        }
    return table


def show(table: dict[str, Any]) -> None:
    """Log the table of the folds, mean and standard deviation of each recipe, and the comparison."""
    names = [printable(recipe["recipe"]) for recipe in table["recipes"]]
    width = [max(len(name), 8) for name in names]
    fold_names = [printable(",".join(fold)) for fold in table["folds"]]
    first = max(4, *map(len, fold_names))
    head = "  ".join(f"{name:>{w}}" for name, w in zip(names, width, strict=True))
    both = "comparison" in table
    log.info("top-1 on held-out training clips, mean over seeds")
    log.info("%s", f"{'fold':{first}}  clips  {head}" + ("  difference" if both else ""))
    for i, (fold, clips) in enumerate(zip(fold_names, table["clips"], strict=True)):
        means = [float(np.mean(recipe["top1"][i])) for recipe in table["recipes"]]
        cells = "  ".join(f"{mean:{w}.2f}" for mean, w in zip(means, width, strict=True))
        more = f"  {table['comparison']['by_fold'][i]:+10.2f}" if both else ""
        log.info("%s", f"{fold:{first}}  {clips:5}  {cells}{more}")
    for name, recipe in zip(names, table["recipes"], strict=True):
        seeds = "" if recipe["std_seeds"] is None else f", of seeds {recipe['std_seeds']:.2f}"
        log.info("%s: mean %.2f, standard deviation of folds %.2f%s", name, recipe["mean"], recipe["std_folds"], seeds)
    if both:
        log.info(
            "difference %+.2f, standard deviation of folds %.2f, sign-flip test over %d folds: p = %.4g",
            *(table["comparison"]["difference"], table["comparison"]["std_folds"]),
            *(len(fold_names), table["comparison"]["p"]),
        )


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code is that of `torchlight.system.command.run`."""
    return run(act, argv)


if __name__ == "__main__":
    sys.exit(main())
