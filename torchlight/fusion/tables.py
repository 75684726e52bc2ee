"""The tables that ensemble.py prints."""

import logging
from typing import Any

import numpy as np

from torchlight.config.options import ConfigError
from torchlight.fusion.groups import FEW, Groups
from torchlight.fusion.intervals import bootstrap_interval
from torchlight.training import scores

log = logging.getLogger("torchlight")


def figures(values: np.ndarray, label: np.ndarray, groups: Groups, seed: int) -> dict[str, Any]:
    """Top-1 with its 95 % interval, and top-5, of scores (n, num_class); in percent."""
    low, high = bootstrap_interval(scores.is_correct(values, label), seed, groups.index)
    return {
        "top1": scores.top_k(values, label, 1),
        "top1_interval": [low, high],
        "top5": scores.top_k(values, label, 5),
    }


def show(rows: list[dict[str, Any]], origin: str, clips: int, groups: Groups) -> None:
    """Log the rows as an aligned table."""
    width = max(len(row["stream"]) for row in rows)
    log.info("%d clips; weights: %s; intervals: bootstrap over %s", clips, origin, groups)
    if groups.few:
        log.warning("intervals: expected %d groups or more, got %s; with so few they are too narrow", FEW, groups)
    log.info("%-*s  weight   top-1  95 %% interval   top-5", width, "stream")
    for row in rows:
        low, high = row["top1_interval"]
        weight = "" if row["weight"] is None else f"{row['weight']:g}"
        log.info(
            "%-*s  %6s  %6.2f  %6.2f - %6.2f %6.2f", width, row["stream"], weight, row["top1"], low, high, row["top5"]
        )


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
