"""Clusters of clips by their features, with DBSCAN or HDBSCAN, as the Multi-Branch ST-GCN tools do after training.

python main.py --config config/NW-UCLA/ctrgcn.yaml --phase test --weights work_dir/NW-UCLA/ctrgcn/joint/last.pt --save-feature true
python -m torchlight.report.cluster --features work_dir/NW-UCLA/ctrgcn/joint/epoch1_test_feature.pkl --out clusters --pca 10 --method hdbscan
"""

import argparse
import csv
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from torchlight.config.options import ConfigError
from torchlight.fusion import streams
from torchlight.runtime.logs import set_up_logging
from torchlight.system.command import Parser, run
from torchlight.system.files import atomic
from torchlight.training.scores import read_scores

log = logging.getLogger("torchlight")
NOISE = -1


def standardize(features: np.ndarray) -> np.ndarray:
    """Every column with mean 0 and population standard deviation 1; a constant column becomes 0: (n, D) -> same."""
    centred = features - features.mean(0)
    deviation = features.std(0)
    return centred / np.where(deviation > 0, deviation, 1)


def principal_components(x: np.ndarray, count: int) -> np.ndarray:
    """Coordinates along the `count` directions of largest variance: (n, D) -> (n, count)."""
    from sklearn.decomposition import PCA

    return PCA(count, svd_solver="full").fit_transform(x)


def cluster(x: np.ndarray, method: str, eps: float, min_points: int) -> np.ndarray:
    """Cluster numbers from 0, NOISE for outliers: (n, D) -> (n,). eps, a Euclidean distance, counts for DBSCAN only."""
    from sklearn.cluster import DBSCAN, HDBSCAN

    assert method in ("dbscan", "hdbscan"), method
    if method == "dbscan":
        return DBSCAN(eps=eps, min_samples=min_points).fit_predict(x)
    return HDBSCAN(min_cluster_size=max(min_points, 2), min_samples=min_points, copy=True).fit_predict(x)


def usual_distance(x: np.ndarray, min_points: int) -> float:
    """The median distance at which a sample, itself counted, has `min_points` neighbours: where to begin with eps."""
    from sklearn.neighbors import NearestNeighbors

    return float(np.median(NearestNeighbors(n_neighbors=min_points).fit(x).kneighbors(x)[0][:, -1]))


def write_assignments(file: Path, names: Sequence[str], assigned: np.ndarray, labels: Sequence[str]) -> None:
    """Write CSV rows name, cluster, outlier, label."""
    with atomic(file, "w") as stream:
        rows = csv.writer(stream)
        rows.writerow(["name", "cluster", "outlier", "label"])
        rows.writerows(
            [n, c, "yes" if c == NOISE else "no", label]
            for n, c, label in zip(names, assigned.tolist(), labels, strict=True)
        )


def draw(file: Path, places: np.ndarray, assigned: np.ndarray, labels: Sequence[str]) -> None:
    """Scatter plot of places (n, 2), coloured by cluster and, where labels are known, by label."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    groups = {"clusters": np.where(assigned == NOISE, "outlier", assigned.astype(str))}
    if any(labels):
        groups["labels"] = np.array([label or "unknown" for label in labels])
    figure = Figure(figsize=(6 * len(groups), 6), layout="constrained")
    for k, (title, group) in enumerate(groups.items(), 1):
        axes = figure.add_subplot(1, len(groups), k)
        kinds = sorted(set(group), key=lambda kind: (not kind.isdigit(), int(kind) if kind.isdigit() else kind))
        for i, kind in enumerate(kinds):
            grey = kind in ("outlier", "unknown")
            colour = (
                "0.6" if grey else colormaps["tab20" if len(kinds) <= 21 else "turbo"]((i + 0.5) / max(len(kinds), 20))
            )
            axes.scatter(
                *places[group == kind].T, s=14, color=colour, marker="x" if grey else "o", linewidths=0.8, label=kind
            )
        axes.set(title=title, xlabel="first component", ylabel="second component")
        axes.spines[["top", "right"]].set_visible(False)
        if len(kinds) <= 21:
            axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.08), ncols=3)
    with atomic(file) as stream:
        figure.savefig(stream, format="png", dpi=150)


def known_labels(file: Path, names: Sequence[str], dataset: str | None) -> list[str]:
    """The class name of every sample, "" where it is not known."""
    if dataset is None and not (file.parent / "config.yaml").exists():
        return [""] * len(names)
    truth = streams.open_test_part(streams.find_config(streams.name_streams([file]), dataset))
    known = dict(zip(map(str, truth.name), truth.label, strict=True))
    labels = [truth.class_names[known[name]] if name in known else "" for name in names]
    if "" in labels:
        log.warning("labels: %d of %d samples are not in the test data and get none", labels.count(""), len(names))
    return labels


def build_parser() -> Parser:
    """The options of the command line."""
    parser = Parser(prog="python -m torchlight.report.cluster", description="Cluster clips by their features.")
    parser.option(
        "features", type=Path, required=True, help="epoch1_test_feature.pkl, or a score file: {sample name: vector}"
    )
    parser.option("out", type=Path, required=True, help="folder for assignments.csv and clusters.png")
    parser.option("method", choices=("dbscan", "hdbscan"), default="dbscan", help="default dbscan")
    parser.option(
        "eps",
        type=float,
        help="DBSCAN: largest distance of neighbours, in standard deviations of a column (default 0.7)",
    )
    parser.option(
        "min-points", type=int, default=5, help="neighbours that make a core point, itself counted (default 5)"
    )
    parser.option("pca", type=int, help="reduce the standardized features to so many principal components first")
    parser.option(
        "dataset",
        help="benchmark as below config/ that knows the labels, where no config.yaml lies beside the features",
    )
    return parser


def check(args: argparse.Namespace, n: int, D: int) -> None:
    """Raise ConfigError for values that n vectors of length D do not allow."""
    problems = []
    if args.eps is not None and args.method == "hdbscan":
        problems.append("eps: has no effect on hdbscan; leave it out")
    if args.eps is not None and not args.eps > 0:
        problems.append(f"eps: found {args.eps}; more than 0 is needed")
    if not 1 <= args.min_points <= n:
        problems.append(f"min_points: found {args.min_points}; allowed: 1 to the number of samples, {n}")
    if args.pca is not None and not 1 <= args.pca <= min(n, D):
        problems.append(f"pca: found {args.pca}; allowed: 1 to {min(n, D)} for {n} vectors of length {D}")
    if problems:
        raise ConfigError(problems)


def act(argv: list[str]) -> int:
    """Read, standardize, reduce, cluster, write."""
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
            "eps: more than half are outliers; half of them have %d neighbours within %.2f",
            args.min_points,
            usual_distance(x, args.min_points),
        )
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"out: {args.out} cannot be made ({error.strerror}); give another folder"]) from error
    write_assignments(args.out / "assignments.csv", names, assigned, labels)
    places = principal_components(x, 2) if x.shape[1] > 2 else np.pad(x, ((0, 0), (0, 2 - x.shape[1])))
    draw(args.out / "clusters.png", places, assigned, labels)
    log.info("wrote %s and %s", args.out / "assignments.csv", args.out / "clusters.png")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code is that of `torchlight.system.command.run`."""
    return run(act, argv)


if __name__ == "__main__":
    sys.exit(main())
