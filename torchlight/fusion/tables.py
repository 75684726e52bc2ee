"""The tables that ensemble.py prints."""

import logging
from typing import Any

import numpy as np

from torchlight.config.options import ConfigError
from torchlight.fusion.groups import FEW, Groups
from torchlight.fusion.intervals import bootstrap_interval
from torchlight.fusion.score_files import GroundTruth
from torchlight.system.text import printable
from torchlight.training import metrics, scores

log = logging.getLogger("torchlight")
MOST_CLASSES = 10  # of a comparison; the JSON file contains all


def figures(values: np.ndarray, label: np.ndarray, groups: Groups, seed: int) -> dict[str, Any]:
    """The accuracies of scores (n, num_class), the 95 % interval of top-1, and the recall of each class (None for a
    class without clips); in percent."""
    low, high = bootstrap_interval(scores.is_correct(values, label), seed, groups.index)
    recall = [None if np.isnan(value) else value for value in metrics.class_recall(values, label).tolist()]
    return metrics.accuracies(values, label) | {"top1_interval": [low, high], "recall": recall}


def show(rows: list[dict[str, Any]], origin: str, clips: int, groups: Groups) -> None:
    """Log the rows as a table."""
    width = max(len(row["stream"]) for row in rows)
    log.info("%d clips; weights: %s; intervals: bootstrap over %s", clips, origin, groups)
    if groups.few:
        log.warning("groups: expected %d or more, got %s; with so few, the intervals are too narrow", FEW, groups)
    more = [key for key in ("macro", "top5") if key in rows[0]]
    heads = "".join(f"{metrics.TITLES[key]:>8}" for key in more)
    log.info("%-*s  weight   top-1  95 %% interval  %s", width, "stream", heads)
    for row in rows:
        low, high = row["top1_interval"]
        weight = "" if row["weight"] is None else f"{row['weight']:g}"
        cells = "".join(f"{row[key]:8.2f}" for key in more)
        log.info("%-*s  %6s  %6.2f  %6.2f - %6.2f%s", width, row["stream"], weight, row["top1"], low, high, cells)


def show_classes(rows: list[dict[str, Any]], truth: GroundTruth) -> None:
    """Log the recall of two runs in the classes in which their numbers of correct clips differ most."""
    clips = np.bincount(truth.label, minlength=len(truth.class_names))
    a, b = (np.array(row["recall"], float) for row in rows)  # NaN for a class without clips
    difference = np.rint(np.nan_to_num(a - b) * clips / 100)
    largest = np.argsort(-np.abs(difference), kind="stable")[:MOST_CLASSES]
    names = {i: printable(truth.class_names[i]) for i in largest.tolist() if difference[i]}
    if names:
        width = max(map(len, ("class", *names.values())))
        log.info("classes with the largest differences between %s and %s", *(row["stream"] for row in rows))
        log.info("%-*s  clips        recall", width, "class")
        for i, name in names.items():
            log.info("%-*s  %5d  %6.2f  %6.2f", width, name, clips[i], a[i], b[i])


def summarize(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log and return mean and standard deviation over seeds of the top-1 of each stream and of the fusion.

    Raises:
        ConfigError: the seeds have different streams.
    """
    kinds = [[row["stream"].rpartition("/")[2] for row in [*t["streams"], t["fusion"]]] for t in tables]
    if any(kind != kinds[0] for kind in kinds):
        names = "; ".join(", ".join(kind) for kind in kinds)
        raise ConfigError([f"work_dir: expected the same streams for every seed, got {names}"])
    values = np.array([[row["top1"] for row in [*t["streams"], t["fusion"]]] for t in tables])  # (seeds, streams)
    rows = [
        {"stream": name, "mean": float(x.mean()), "std": float(x.std(ddof=1)), "top1": x.tolist()}
        for name, x in zip(kinds[0], values.T, strict=True)
    ]
    log.info("mean and standard deviation over %d seeds", len(tables))
    for row in rows:
        log.info("%-*s  %6.2f +- %.2f", max(map(len, kinds[0])), row["stream"], row["mean"], row["std"])
    return rows
