"""Clusters of clips by their features, with DBSCAN or HDBSCAN, as in the tools of Multi-Branch ST-GCN.

python main.py --config config/NW-UCLA/ctrgcn.yaml --phase test --weights work_dir/NW-UCLA/ctrgcn/joint/last.pt \
    --save-feature true
python -m torchlight.report.cluster --features work_dir/NW-UCLA/ctrgcn/joint/epoch1_test_feature.pkl \
    --out clusters --pca 10
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchlight.system.command import Parser, path, run, start

if __name__ == "__main__":  # before the slow imports, so that an interrupt during them also prints one line
    sys.exit(start("torchlight.report.cluster"))

import numpy as np

from torchlight.config.options import ConfigError
from torchlight.fusion import score_files
from torchlight.report.safe_text import shorten, write_csv
from torchlight.runtime.logs import set_up_logging
from torchlight.system.files import atomic
from torchlight.system.text import printable
from torchlight.training.run_dir import CONFIG
from torchlight.training.scores import read_scores

log = logging.getLogger("torchlight")
NOISE = -1
MAX_COLORS = 21  # with more groups, the legend is left out


def standardize(features: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and population standard deviation 1; a constant column becomes 0: (n, D) -> same."""
    centered = features - features.mean(0)
    deviation = features.std(0)
    return centered / np.where(deviation > 0, deviation, 1)


def principal_components(x: np.ndarray, count: int) -> np.ndarray:
    """Coordinates along the `count` directions of largest variance: (n, D) -> (n, count)."""
    from sklearn.decomposition import PCA

    return PCA(count, svd_solver="full").fit_transform(x)


def cluster(x: np.ndarray, method: str, eps: float, min_points: int) -> np.ndarray:
    """Cluster numbers from 0, NOISE for outliers: (n, D) -> (n,). eps: Euclidean distance, used by DBSCAN only."""
    from sklearn.cluster import DBSCAN, HDBSCAN

    assert method in ("dbscan", "hdbscan"), method
    if method == "dbscan":
        return DBSCAN(eps=eps, min_samples=min_points).fit_predict(x)
    return HDBSCAN(min_cluster_size=max(min_points, 2), min_samples=min_points, copy=True).fit_predict(x)


def usual_distance(x: np.ndarray, min_points: int) -> float:
    """The median distance within which a sample has `min_points` neighbors, including itself: a first value for eps."""
    from sklearn.neighbors import NearestNeighbors

    return float(np.median(NearestNeighbors(n_neighbors=min_points).fit(x).kneighbors(x)[0][:, -1]))


def write_assignments(file: Path, names: Sequence[str], assigned: np.ndarray, labels: Sequence[str]) -> None:
    """Write a CSV file with the columns name, cluster, outlier and label."""
    rows = ([n, c, "yes" if c == NOISE else "no", k] for n, c, k in zip(names, assigned.tolist(), labels, strict=True))
    write_csv(file, ["name", "cluster", "outlier", "label"], rows)


def draw(file: Path, points: np.ndarray, assigned: np.ndarray, labels: Sequence[str]) -> None:
    """Draw points (n, 2), colored by cluster and, if any label is known, by label ("": unknown)."""
    from matplotlib.figure import Figure

    from torchlight.report.pictures import drawing

    groups = [("clusters", ["" if c == NOISE else str(c) for c in assigned.tolist()], "outlier")]
    if any(labels):
        groups.append(("labels", list(labels), "unknown"))
    with drawing(**{"text.color": "black"}), atomic(file) as stream:
        figure = Figure(figsize=(6 * len(groups), 6), layout="constrained")
        for k, (title, group, rest) in enumerate(groups, 1):
            axes = figure.add_subplot(1, len(groups), k)
            scatter(axes, points, group, rest)
            axes.set(title=title, xlabel="first component", ylabel="second component")
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(stream, format="png", dpi=150)


def scatter(axes: Any, points: np.ndarray, group: Sequence[str], rest: str) -> None:
    """Draw points (n, 2) in one color per group; the group "" is gray and has the name `rest` in the legend."""
    from matplotlib import colormaps

    kinds = sorted(set(group), key=sort_key)
    number = {kind: i for i, kind in enumerate(kinds)}
    index = np.array([number[kind] for kind in group])
    colors = colormaps["tab20" if len(kinds) <= MAX_COLORS else "turbo"]
    for i, kind in enumerate(kinds):
        color = colors((i + 0.5) / max(len(kinds), 20)) if kind else "0.6"
        marker = "o" if kind else "x"
        axes.scatter(*points[index == i].T, s=14, color=color, marker=marker, linewidths=0.8, label=str(i))
    if len(kinds) <= MAX_COLORS:
        legend = axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.08), ncols=3)
        # set here, because matplotlib leaves out a label that begins with _
        for text, kind in zip(legend.get_texts(), kinds, strict=True):
            text.set_text(shorten(kind, 32) or rest)


def sort_key(text: str) -> tuple[bool, int, str]:
    """Sort key: numbers in numeric order, then other text, then the empty text."""
    numeric = text.isdecimal() and len(text) < 10
    return (not numeric, int(text) if numeric else int(not text), text)


def known_labels(file: Path, names: Sequence[str], dataset: str | None) -> list[str]:
    """The class name of each sample, "" if it is not known."""
    if dataset is None and not os.path.exists(file.parent / CONFIG):
        return [""] * len(names)
    truth = score_files.find_truth(score_files.name_score_files([file]), dataset)
    known = dict(zip(map(str, truth.name), truth.label, strict=True))
    labels = [truth.class_names[known[name]] if name in known else "" for name in names]
    unknown = sum(name not in known for name in names)
    if unknown:
        log.warning("labels: %d of %d samples are not in the test data and get none", unknown, len(names))
    return labels


def build_parser() -> Parser:
    """The options of the command line."""
    parser = Parser(prog="python -m torchlight.report.cluster", description="Cluster clips by their features.")
    parser.option(
        "features", type=path, required=True, help="epoch1_test_feature.pkl, or a score file: {sample name: vector}"
    )
    parser.option("out", type=path, required=True, help="folder for assignments.csv and clusters.png")
    parser.option("method", choices=("dbscan", "hdbscan"), default="dbscan", help="default dbscan")
    parser.option(
        "eps",
        type=float,
        help="DBSCAN: largest distance of neighbors, in standard deviations of a column (default 0.7)",
    )
    parser.option(
        "min-points", type=int, default=5, help="minimum neighbors of a core point, including itself (default 5)"
    )
    parser.option("pca", type=int, help="first reduce the standardized features to this number of principal components")
    parser.option("dataset", help="folder below config/, for the labels if there is no config.yaml beside the features")
    return parser


def check(args: argparse.Namespace, n: int, D: int) -> None:
    """Raise ConfigError for options that are invalid for n vectors of length D."""
    problems = []
    if args.eps is not None and args.method == "hdbscan":
        problems.append("eps: has no effect on hdbscan; remove it")
    if args.eps is not None and not 0 < args.eps < np.inf:
        problems.append(f"eps: expected a number above 0, got {args.eps}")
    if not 1 <= args.min_points <= n:
        problems.append(f"min_points: expected 1 to {n}, the number of samples, got {args.min_points}")
    if args.method == "hdbscan" and n < 2:
        problems.append("features: expected two or more samples for hdbscan, got one")
    if args.pca is not None and not 1 <= args.pca <= min(n, D):
        problems.append(f"pca: expected 1 to {min(n, D)} for {n} vectors of length {D}, got {args.pca}")
    if os.path.lexists(args.out) and not os.path.isdir(args.out):
        problems.append(f"out: expected a folder, got the file {args.out}")
    if problems:
        raise ConfigError(problems)


def act(argv: list[str]) -> int:
    """Read the features, standardize, reduce and cluster them, and write the results."""
    set_up_logging()
    args = build_parser().parse_args(argv)
    rows = read_scores(args.features)
    names, features = [str(key) for key in rows], np.stack(list(rows.values()))
    check(args, *features.shape)
    labels = known_labels(args.features, names, args.dataset)
    x = standardize(features)
    if args.pca:
        x = principal_components(x, args.pca)
    assigned = cluster(x, args.method, 0.7 if args.eps is None else args.eps, args.min_points)
    clusters, outliers = len(set(assigned.tolist()) - {NOISE}), int((assigned == NOISE).sum())
    log.info("%d samples of %d numbers: %d clusters, %d outliers", len(x), x.shape[1], clusters, outliers)
    if args.method == "dbscan" and outliers > len(x) / 2:
        log.warning(
            "eps: more than half of the samples are outliers; half of the samples have %d neighbors within %.2f",
            *(args.min_points, usual_distance(x, args.min_points)),
        )
    args.out.mkdir(parents=True, exist_ok=True)
    write_assignments(args.out / "assignments.csv", names, assigned, labels)
    points = principal_components(x, 2) if min(x.shape) > 2 else x[:, :2]
    draw(args.out / "clusters.png", np.pad(points, ((0, 0), (0, 2 - points.shape[1]))), assigned, labels)
    log.info("wrote assignments.csv and clusters.png in %s", printable(str(args.out)))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code is that of `torchlight.system.command.run`."""
    return run(act, argv)
