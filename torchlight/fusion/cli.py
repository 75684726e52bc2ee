"""The command line of ensemble.py."""

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.config.options import ConfigError
from torchlight.fusion import fuse, score_files
from torchlight.fusion.groups import Groups, find_groups
from torchlight.fusion.held_out import choose_on_held_out
from torchlight.fusion.intervals import compare
from torchlight.fusion.score_files import GroundTruth, ScoreFile
from torchlight.fusion.tables import figures, show, show_classes, summarize
from torchlight.runtime.logs import set_up_logging
from torchlight.system.command import Parser, path, run
from torchlight.system.files import atomic
from torchlight.system.paths import set_data_root
from torchlight.system.text import printable
from torchlight.training import scores

log = logging.getLogger("torchlight")
FOR_FUSION = ("alpha", "weights_from", "preset", "space", "search", "save")  # have no effect on a comparison


def build_parser() -> Parser:
    """The options of ensemble.py."""
    parser = Parser(
        prog="python ensemble.py",
        description="Fuse score files of several streams, or compare two runs.",
    )
    add_streams(parser)
    add_statistics(parser)
    parser.option(
        "alpha",
        type=float,
        nargs="+",
        metavar="W",
        help="one weight per stream; a single W for two streams means 1 and W",
    )
    parser.option(
        "weights-from",
        type=path,
        nargs="+",
        metavar="DIR",
        help="run directories of the same streams trained with --hold-out, on which the weights are selected",
    )
    parser.option("preset", choices=fuse.PRESETS, help="published weights and space: " + ", ".join(fuse.PRESETS))
    spaces = "add logits, probabilities or logits of length 1 (default: the preset's, else logits)"
    parser.option("space", choices=fuse.SPACES, help=spaces)
    parser.option("save", type=path, metavar="FILE", help="write the fused scores as a score file")
    parser.option("json", type=path, metavar="FILE", help="write the table as JSON")
    parser.switch("overwrite", help="allow --save and --json to replace a file")
    return parser


def add_streams(parser: Parser) -> None:
    """Options for the streams and their labels."""
    parser.option(
        "dataset",
        "datasets",
        help="benchmark: a folder below config/, e.g. NW-UCLA or ntu120/xset; its scores are searched in --work-dir",
    )
    parser.option("model", nargs="+", default=[], help="models to fuse; required if several models have scores")
    parser.option(
        "work-dir",
        type=path,
        nargs="+",
        default=[Path("work_dir")],
        metavar="DIR",
        help="folder of the runs, <work-dir>/<dataset>/<model>/<modality>; several, one per seed: also print mean and "
        "standard deviation",
    )
    for modality in fuse.MODALITIES:
        parser.option(
            f"{modality.replace('_', '-')}-dir",
            type=path,
            metavar="DIR",
            help=f"run directory (or score file) of the {modality} stream",
        )
    parser.option(
        "data", metavar="PATH", help="prepared data with the labels; default: those of the runs or the dataset"
    )
    parser.option("data-root", type=path, metavar="DIR", help="folder of prepared data ($SKELETON_DATA, else data)")
    parser.option("split", metavar="NAME", help="split of --data; default: that of the run or the dataset")
    parser.option("scores", type=path, nargs="+", metavar="FILE", help="score files or run directories, any number")
    parser.switch("ema", help="read epoch1_test_ema_score.pkl, the scores of the averaged weights")


def add_statistics(parser: Parser) -> None:
    """Options for intervals, search and comparison."""
    parser.option(
        "groups",
        metavar="KIND",
        help="unit to resample for intervals: performance (default if the clip names contain it), performer, clip, or "
        "a CSV file with the columns name and group",
    )
    parser.switch("search", help="search weights on random halves of the test set")
    parser.option("splits", type=int, default=20, help="number of random splits for --search")
    parser.option("seed", type=int, default=0, help="seed of the intervals and of --search")
    parser.option(
        "compare",
        type=path,
        nargs=2,
        metavar=("A", "B"),
        help="two score files or run directories, compared clip by clip",
    )


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for invalid values and combinations."""
    problems = []
    directories = [m for m in fuse.MODALITIES if getattr(args, f"{m}_dir")]
    sources = {"--scores": args.scores, "--<modality>-dir": directories, "--compare": args.compare}
    given = [name for name, value in sources.items() if value]
    if len(given) > 1:
        problems.append(f"streams: expected one of {', '.join(sources)}, got {' and '.join(given)}")
    if not given and not args.dataset:
        problems.append("streams: expected --dataset, --scores or folders such as --joint-dir, got none; see --help")
    without_effect = FOR_FUSION if args.compare else ("model",) if given else ()
    problems += [f"{name}: has no effect with {given[0]}; remove it" for name in without_effect if getattr(args, name)]
    if args.alpha and args.preset:
        problems.append("alpha: expected either --alpha or --preset, got both")
    problems += [
        f"{name}: expected either --{name} or --weights-from, got both"
        for name in ("alpha", "preset")
        if args.weights_from and getattr(args, name)
    ]
    if len(args.work_dir) > 1:
        blocked = ("weights_from", "search", "save", "compare", "scores", *(f"{m}_dir" for m in fuse.MODALITIES))
        problems += [
            f"{name}: expected one --work-dir, got {len(args.work_dir)}" for name in blocked if getattr(args, name)
        ]
    if len({os.path.realpath(root) for root in args.work_dir}) < len(args.work_dir):
        problems.append(f"work_dir: expected a different folder for each seed, got {' '.join(map(str, args.work_dir))}")
    if args.split and not args.data:
        problems.append("split: expected --data as well, got none")
    if args.splits < 1:
        problems.append(f"splits: expected 1 or more, got {args.splits}")
    if args.seed < 0:
        problems.append(f"seed: expected 0 or more, got {args.seed}")
    for word in (args.dataset or "", *args.model):
        try:
            path(word)
        except argparse.ArgumentTypeError as error:
            problems.append(f"{'dataset' if word is args.dataset else 'model'}: {error}")
    problems += [problem for file in (args.save, args.json) if file for problem in check_output(file, args.overwrite)]
    if args.save and args.save == args.json:
        problems.append(f"json: expected another file than --save, got {args.json} for both")
    if problems:
        raise ConfigError(problems)


def check_output(file: Path, overwrite: bool) -> list[str]:
    """The reason why a file cannot be written under this name, if any."""
    if os.path.isdir(file):
        return [f"{file}: expected the name of a file, got a folder"]
    if os.path.lexists(file) and not overwrite:
        return [f"{file}: exists already; give --overwrite true to replace it, or another name"]
    if not os.path.isdir(os.path.dirname(os.path.abspath(file))):
        return [f"{file}: its folder does not exist; create it first"]
    return []


def choose_score_files(args: argparse.Namespace, root: Path) -> list[ScoreFile]:
    """The score files that the command line names, or those of the dataset below `root`."""
    name = scores.EMA_SCORE_FILE if args.ema else scores.SCORE_FILE
    given = {m: getattr(args, f"{m}_dir") for m in fuse.MODALITIES if getattr(args, f"{m}_dir")}
    paths = args.scores or args.compare or list(given.values())
    if not paths:
        return keep_known(args.preset, score_files.find_score_files(root, args.dataset, args.model, name))
    if args.ema and not all(os.path.isdir(path) for path in paths):
        raise ConfigError(["ema: has no effect on the path of a score file; give its folder, or remove --ema"])
    found = score_files.name_score_files([score_files.score_file_in(path, name) for path in paths])
    if given:  # the flag names the modality, regardless of the name of the folder
        found = [ScoreFile(file.path, modality, modality) for file, modality in zip(found, given, strict=True)]
        for file in found:
            if (trained := score_files.trained_modality(file)) not in (None, file.modality):
                log.warning("%s: trained on %s, fused with the weight of %s", file.path, trained, file.modality)
    return found


def keep_known(preset: str | None, found: list[ScoreFile]) -> list[ScoreFile]:
    """The files that the preset has weights for; the others are left out with a warning.

    Raises:
        ConfigError: the preset has no weight for any of them.
    """
    known = fuse.PRESETS[preset].by_modality if preset else None
    kept = [file for file in found if known is None or file.modality in known]
    if not kept:
        names = ", ".join(file.name for file in found)
        raise ConfigError([f"preset {preset}: expected streams of {', '.join(known)}, got {names}"])
    for file in found:
        if file not in kept:
            log.warning("%s: left out, preset %s has no weight for it", file.name, preset)
    return kept


def choose_weights(args: argparse.Namespace, found: list[ScoreFile]) -> tuple[list[float], str]:
    """One weight per stream, and the origin of the weights in words.

    Raises:
        ValueError: the weights of --alpha are refused, or the preset has no weight for one of the streams.
    """
    if args.alpha:
        return fuse.given_weights(args.alpha, [file.name for file in found]), "--alpha"
    preset = args.preset or (None if args.scores else fuse.DEFAULT_PRESET)
    if preset is None:
        return [1.0] * len(found), "equal weights; choose others with --alpha or --preset"
    weights = fuse.preset_weights(preset, [file.modality for file in found])
    if 0 in weights:
        log.warning(
            "preset %s: gives the weight 0 to %d of %d streams, as its published program does",
            *(preset, weights.count(0), len(found)),
        )
    return weights, f"preset {preset}" + ("" if args.preset else " (the default)")


def run_fusion(args: argparse.Namespace, found: list[ScoreFile], truth: GroundTruth, groups: Groups) -> dict[str, Any]:
    """Fuse, print the table and write the file of --save; returns the table."""
    space = args.space or (fuse.PRESETS[args.preset].space if args.preset else "logits")
    raw = score_files.read_score_files(found, truth)
    mixed = fuse.are_probabilities(raw)
    if space == "logits" and mixed.any() and not mixed.all():
        log.warning(
            "%s: contains probabilities and others contain logits; --space softmax converts them to one scale",
            found[int(mixed.argmax())].name,
        )
    values = fuse.to_space(raw, space)
    if args.weights_from:
        weights, origin = choose_on_held_out(args.weights_from, found, truth, space, args.ema)
    else:
        weights, origin = choose_weights(args, found)
    fused = fuse.fuse(values, weights)
    if not np.isfinite(fused).all():
        raise ConfigError(["alpha: expected weights whose sums are finite, got an overflow; give smaller weights"])
    rows = [
        {"stream": s.name, "weight": w, **figures(v, truth.label, groups, args.seed)}
        for s, w, v in zip(found, weights, values, strict=True)
    ]
    rows.append({"stream": f"fusion of {space}", "weight": None, **figures(fused, truth.label, groups, args.seed)})
    table: dict[str, Any] = {
        "clips": len(truth.label),
        "groups": str(groups),
        "space": space,
        "weights_from": origin,
        "streams": rows[:-1],
        "fusion": rows[-1],
    }
    show(rows, origin, len(truth.label), groups)
    if args.search:
        table["search"] = run_search(args, found, values, truth, groups)
    if args.save:
        scores.write_scores(args.save, truth.name, fused)
        log.info("wrote %s", printable(str(args.save)))
    return table


def run_search(
    args: argparse.Namespace, found: list[ScoreFile], values: np.ndarray, truth: GroundTruth, groups: Groups
) -> dict[str, Any]:
    """Search weights on random halves, and log the unbiased and the optimistic estimate."""
    if len(found) < 2:
        raise ConfigError(["search: expected two or more streams, got one"])
    result = fuse.search_weights(values, truth.label, args.splits, args.seed, groups.index)
    mean, spread = float(result.cross_fitted.mean()), float(result.cross_fitted.std())
    low, high = float(result.cross_fitted.min()), float(result.cross_fitted.max())
    log.info("weights chosen on one half and measured on the other: top-1 %.2f +- %.2f", mean, spread)
    log.info("    %d splits, from %.2f to %.2f; report this figure", args.splits, low, high)
    log.info("weights chosen and measured on the same clips: top-1 %.2f, optimistic, not a result", result.fitted)
    log.info("    --alpha %s", " ".join(f"{w:.4g}" for w in result.weights))
    cross_fitted = {"top1": mean, "std": spread, "min": low, "max": high, "splits": args.splits}
    return {
        "cross_fitted": cross_fitted,
        "fitted_optimistic": {"top1": result.fitted, "weights": result.weights.tolist()},
    }


def run_comparison(
    args: argparse.Namespace, found: list[ScoreFile], truth: GroundTruth, groups: Groups
) -> dict[str, Any]:
    """Compare two runs clip by clip; returns the table."""
    values = score_files.read_score_files(found, truth)
    correct = [scores.is_correct(v, truth.label) for v in values]
    result = compare(*correct, seed=args.seed, group=groups.index)
    rows = [
        {"stream": s.name, "weight": None, **figures(v, truth.label, groups, args.seed)}
        for s, v in zip(found, values, strict=True)
    ]
    show(rows, "none, a comparison", result.n, groups)
    log.info(
        "only %s is correct: %d clips; only %s is correct: %d clips",
        *(found[0].name, result.only_a, found[1].name, result.only_b),
    )
    log.info("difference %+.2f (95 %% interval %+.2f to %+.2f)", result.difference, *result.interval)
    if groups.index is not None:
        log.info("sign-flip test over %s: p = %.4g", groups, result.p)
    log.info("McNemar's exact test, which treats clips as independent: p = %.4g", result.p_clips)
    same = int((values[0].argmax(1) == values[1].argmax(1)).sum())
    log.info("same prediction: %d of %d clips (%.2f %%)", same, result.n, 100 * same / result.n)
    show_classes(rows, truth)
    return {"runs": rows, "groups": str(groups), **vars(result), "same_prediction": same}


def act(argv: list[str]) -> int:
    """Run one command line; no file is written if it contains a mistake."""
    set_up_logging()
    args = build_parser().parse_args(argv)
    check(args)
    set_data_root(args.data_root)
    tables = []
    for root in args.work_dir:
        if len(args.work_dir) > 1:
            log.info("%s:", printable(str(root)))
        found = choose_score_files(args, root)
        truth = score_files.find_truth(found, args.dataset, args.data, args.split).single()
        groups = find_groups(truth.name.tolist(), args.groups, truth.group)
        tables.append((run_comparison if args.compare else run_fusion)(args, found, truth, groups))
    table = tables[0] if len(tables) == 1 else {"runs": tables, "seeds": summarize(tables)}
    if args.json:
        with atomic(args.json, "w") as file:
            json.dump(table, file, indent=1)
        log.info("wrote %s", printable(str(args.json)))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code is that of `torchlight.system.command.run`."""
    return run(act, argv)
