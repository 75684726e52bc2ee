"""The command line of ensemble.py."""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.config.options import ConfigError
from torchlight.fusion import fuse, streams
from torchlight.fusion.intervals import bootstrap_interval, compare
from torchlight.fusion.streams import GroundTruth, Stream
from torchlight.runtime.logs import set_up_logging
from torchlight.system.command import Parser, run
from torchlight.system.files import atomic
from torchlight.training import scores

log = logging.getLogger("torchlight")


def build_parser() -> Parser:
    """The options of ensemble.py."""
    parser = Parser(
        prog="python ensemble.py",
        description="Fuse score files of several streams, or compare two runs.",
    )
    parser.option(
        "dataset",
        "datasets",
        help="benchmark as below config/, e.g. NW-UCLA or ntu120/xset; its streams are looked for in work_dir",
    )
    parser.option(
        "model",
        nargs="+",
        default=[],
        help="whose streams, if there are several models; more than one are fused together",
    )
    parser.option(
        "work-dir",
        type=Path,
        default=Path("work_dir"),
        help="where the runs lie: <work-dir>/<dataset>/<model>/<modality>",
    )
    for modality in fuse.MODALITIES:
        parser.option(
            f"{modality.replace('_', '-')}-dir",
            type=Path,
            metavar="DIR",
            help=f"run directory (or score file) of the {modality} stream",
        )
    parser.option("scores", type=Path, nargs="+", metavar="FILE", help="any number of score files or run directories")
    parser.option(
        "alpha",
        type=float,
        nargs="+",
        metavar="W",
        help="a weight for each stream; a single one for two streams means 1 and W",
    )
    parser.option("preset", choices=fuse.PRESETS, help="published weights and space: " + ", ".join(fuse.PRESETS))
    parser.option("space", choices=fuse.SPACES, help="add logits or probabilities (default: the preset's, else logits)")
    parser.switch("search", help="look for weights across random halves of the test set")
    parser.option("splits", type=int, default=20, help="random halves for --search")
    parser.option("seed", type=int, default=0, help="of intervals and of --search")
    parser.switch("ema", help="read epoch1_test_ema_score.pkl, the scores of the averaged weights")
    parser.option(
        "compare",
        type=Path,
        nargs=2,
        metavar=("A", "B"),
        help="two score files or run directories, compared clip by clip",
    )
    parser.option("save", type=Path, metavar="FILE", help="write the fused scores as a score file")
    parser.option("json", type=Path, metavar="FILE", help="write the table as JSON")
    parser.switch("overwrite", help="let --save and --json replace a file")
    return parser


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for combinations that make no sense."""
    problems = []
    directories = [m for m in fuse.MODALITIES if getattr(args, f"{m}_dir")]
    ways = [
        name
        for name, given in (("--scores", args.scores), ("--<modality>-dir", directories), ("--compare", args.compare))
        if given
    ]
    if len(ways) > 1:
        problems.append(f"streams: found {' and '.join(ways)}; choose one")
    if not ways and not args.dataset:
        problems.append(
            "streams: missing; give --dataset, --scores or directories such as --joint-dir; see python ensemble.py --help"
        )
    without_effect = ("alpha", "preset", "space", "search", "save") if args.compare else ("model",) if ways else ()
    problems += [
        f"{name}: has no effect with {ways[0]}; leave it out" for name in without_effect if getattr(args, name)
    ]
    if args.alpha and args.preset:
        problems.append("alpha and preset: found both; choose one")
    if args.splits < 1:
        problems.append(f"splits: found {args.splits}; at least 1 is needed")
    for path in (args.save, args.json):
        if path and path.exists() and not args.overwrite:
            problems.append(f"{path}: is there already; give --overwrite true to replace it, or another name")
        if path and not path.absolute().parent.is_dir():
            problems.append(f"{path}: its folder is not there; make it first")
    if problems:
        raise ConfigError(problems)


def choose_streams(args: argparse.Namespace) -> list[Stream]:
    """The streams that the command line means."""
    file = scores.EMA_SCORE_FILE if args.ema else scores.SCORE_FILE
    given = {m: getattr(args, f"{m}_dir") for m in fuse.MODALITIES if getattr(args, f"{m}_dir")}
    paths = args.scores or args.compare or list(given.values())
    if not paths:
        return known_to_preset(args, streams.find_streams(args.work_dir, args.dataset, args.model, file))
    if args.ema and not all(path.is_dir() for path in paths):
        raise ConfigError(
            ["ema: has no effect on a score file that is named itself; name its directory, or leave --ema out"]
        )
    found = streams.name_streams([streams.score_file(path, file) for path in paths])
    if given:  # the flag tells the modality, whatever the folder is called
        found = [Stream(stream.path, modality, modality) for stream, modality in zip(found, given, strict=True)]
    return found


def known_to_preset(args: argparse.Namespace, found: list[Stream]) -> list[Stream]:
    """The found streams that the preset has weights for; the others are left out, and said."""
    known = fuse.PRESETS[args.preset].by_modality if args.preset else None
    kept = [stream for stream in found if known is None or stream.modality in known]
    for stream in found:
        if stream not in kept:
            log.warning("%s: left out, preset %s has no weight for it", stream.name, args.preset)
    return kept


def choose_weights(args: argparse.Namespace, found: list[Stream]) -> tuple[list[float], str]:
    """A weight for each stream, and where it comes from in words.

    Raises:
        ConfigError: as many weights as streams are needed, 0 or more and not all 0.
    """
    if args.alpha:
        weights = [1.0, *args.alpha] if len(args.alpha) == 1 and len(found) == 2 else args.alpha
        if len(weights) != len(found):
            names = ", ".join(stream.name for stream in found)
            raise ConfigError(
                [f"alpha: found {len(weights)} weights for {len(found)} streams ({names}); one for each is needed"]
            )
        if not (np.isfinite(weights).all() and min(weights) >= 0 < max(weights)):
            raise ConfigError(
                [f"alpha: found {' '.join(map(str, weights))}; weights of 0 or more, not all 0, are needed"]
            )
        return list(weights), "--alpha"
    preset = args.preset or (None if args.scores else "ctrgcn")
    if preset is None:
        return [1.0] * len(found), "equal weights; choose others with --alpha or --preset"
    try:
        weights = fuse.preset_weights(preset, [stream.modality for stream in found])
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    if 0 in weights:
        log.warning(
            "preset %s: gives the weight 0 to %d of %d streams, as its published program does",
            preset,
            weights.count(0),
            len(found),
        )
    return weights, f"preset {preset}" + ("" if args.preset else " (the default)")


def figures(values: np.ndarray, label: np.ndarray, seed: int) -> dict[str, Any]:
    """Top-1 with its interval and top-5 of scores (n, num_class), in percent."""
    low, high = bootstrap_interval(scores.is_correct(values, label), seed)
    return {
        "top1": scores.top_k(values, label, 1),
        "top1_interval": [low, high],
        "top5": scores.top_k(values, label, 5),
    }


def run_fusion(args: argparse.Namespace, found: list[Stream], part: GroundTruth) -> dict[str, Any]:
    """Fuse, print the table, write what was asked for; returns the table."""
    weights, origin = choose_weights(args, found)
    space = args.space or (fuse.PRESETS[args.preset].space if args.preset else "logits")
    raw = streams.read_streams(found, part)
    mixed = fuse.are_probabilities(raw)
    if space == "logits" and mixed.any() and not mixed.all():
        log.warning(
            "%s: holds probabilities, others logits; --space softmax puts them on one scale",
            found[int(mixed.argmax())].name,
        )
    values = fuse.to_space(raw, space)
    fused = fuse.fuse(values, weights)
    rows = [
        {"stream": s.name, "weight": w, **figures(v, part.label, args.seed)}
        for s, w, v in zip(found, weights, values, strict=True)
    ]
    rows.append({"stream": f"fusion of {space}", "weight": None, **figures(fused, part.label, args.seed)})
    table: dict[str, Any] = {
        "clips": len(part.label),
        "space": space,
        "weights_from": origin,
        "streams": rows[:-1],
        "fusion": rows[-1],
    }
    show(rows, origin, len(part.label))
    if args.search:
        table["search"] = run_search(args, found, values, part)
    if args.save:
        scores.write_scores(args.save, part.name, fused)
        log.info("fused scores: %s", args.save)
    return table


def show(rows: list[dict[str, Any]], origin: str, clips: int) -> None:
    """Print an aligned table."""
    width = max(len(row["stream"]) for row in rows)
    log.info("%d clips; weights: %s; intervals: bootstrap over clips", clips, origin)
    log.info("%-*s  weight   top-1  95 %% interval   top-5", width, "stream")
    for row in rows:
        low, high = row["top1_interval"]
        weight = "" if row["weight"] is None else f"{row['weight']:g}"
        log.info(
            "%-*s  %6s  %6.2f  %6.2f - %6.2f %6.2f", width, row["stream"], weight, row["top1"], low, high, row["top5"]
        )


def run_search(args: argparse.Namespace, found: list[Stream], values: np.ndarray, part: GroundTruth) -> dict[str, Any]:
    """Search for weights across halves, and say which of its figures is honest."""
    if len(found) < 2:
        raise ConfigError(["search: found one stream; two or more are needed"])
    result = fuse.search_weights(values, part.label, args.splits, args.seed)
    mean, spread = float(result.cross_fitted.mean()), float(result.cross_fitted.std())
    low, high = float(result.cross_fitted.min()), float(result.cross_fitted.max())
    log.info("searched weights, measured on the halves that did not choose them: top-1 %.2f +- %.2f", mean, spread)
    log.info("    %d splits, from %.2f to %.2f; this is the honest figure", args.splits, low, high)
    log.info(
        "searched weights, chosen and measured on the same clips: top-1 %.2f, optimistic, not a result", result.fitted
    )
    log.info("    --alpha %s", " ".join(f"{w:.4g}" for w in result.weights))
    honest = {"top1": mean, "std": spread, "min": low, "max": high, "splits": args.splits}
    return {"cross_fitted": honest, "fitted_optimistic": {"top1": result.fitted, "weights": result.weights.tolist()}}


def run_comparison(args: argparse.Namespace, found: list[Stream], part: GroundTruth) -> dict[str, Any]:
    """Two runs on the same clips."""
    values = streams.read_streams(found, part)
    correct = [scores.is_correct(v, part.label) for v in values]
    result = compare(*correct, seed=args.seed)
    rows = [
        {"stream": s.name, "weight": None, **figures(v, part.label, args.seed)}
        for s, v in zip(found, values, strict=True)
    ]
    show(rows, "none, a comparison", result.n)
    log.info(
        "only %s is right: %d clips; only %s is right: %d clips",
        found[0].name,
        result.only_a,
        found[1].name,
        result.only_b,
    )
    log.info(
        "difference %+.2f (95 %% interval %+.2f to %+.2f), McNemar's exact p = %.4g",
        result.difference,
        *result.interval,
        result.p,
    )
    return {"runs": rows, **vars(result)}


def act(argv: list[str]) -> int:
    """Run one command line; nothing is written if it holds a mistake."""
    set_up_logging()
    args = build_parser().parse_args(argv)
    check(args)
    found = choose_streams(args)
    part = streams.open_test_part(streams.find_config(found, args.dataset))
    table = run_comparison(args, found, part) if args.compare else run_fusion(args, found, part)
    if args.json:
        with atomic(args.json, "w") as file:
            json.dump(table, file, indent=1)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code is that of `torchlight.system.command.run`."""
    return run(act, argv)
