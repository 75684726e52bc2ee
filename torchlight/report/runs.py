"""What a report reads: runs from their directories, their scores, clips to draw, learned adjacencies."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.contract import manifest_of
from torchlight.fusion import fuse, streams
from torchlight.training import checkpoint
from torchlight.training.build import build_feeder, preflight
from torchlight.training.run_dir import BEST, CONFIG, LAST, read_environment, read_metrics
from torchlight.training.scores import SCORE_FILE

LEARNED = (
    r"(^|\.)PA$",
    r"(^|\.)edge_importance\.\d+$",
    r"(^|\.)A_res$",
    r"(^|\.)gcn\d*\.A$",
)  # the field's names of learned adjacencies
FRAMES = 8  # poses of a clip that are drawn


@dataclass
class Run:
    """What a run directory holds; `scores` (n, num_class) or None."""

    folder: Path
    name: str
    config: Config
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    scores: np.ndarray | None = None


def read_runs(folders: list[Path]) -> list[Run]:
    """The runs in these directories, under the shortest names that tell them apart; a folder that is no run stands for the runs in it.

    Raises:
        ConfigError: one or more of them hold no run.
    """
    groups = [
        [folder] if (folder / CONFIG).is_file() else in_field_order(folder.glob(f"*/{CONFIG}")) for folder in folders
    ]
    missing = [folder for folder, group in zip(folders, groups, strict=True) if not group]
    if missing or not folders:
        raise ConfigError(
            [
                f"work_dir: found no {CONFIG} in {folder}; the directory of a trained run is needed"
                for folder in missing or ["-"]
            ]
        )
    folders = [folder for group in groups for folder in group]
    found = streams.name_streams([folder / SCORE_FILE for folder in folders])
    runs = []
    for folder, stream in zip(folders, found, strict=True):
        config = load_config(folder / CONFIG)
        runs.append(Run(folder, stream.name, config, read_environment(folder), read_metrics(folder)))
    return runs


def in_field_order(configs: Iterable[Path]) -> list[Path]:
    """The folders of these files: joint, bone, joint motion, bone motion, then others by name."""
    order = {modality: i for i, modality in enumerate(fuse.MODALITIES)}
    return sorted(
        (path.parent for path in configs), key=lambda folder: (order.get(folder.name, len(order)), folder.name)
    )


def open_test_feeder(config: Config) -> Any:
    """The test clips of an experiment as joints, whatever its stream is, to be drawn."""
    joints = replace(config, modality="joint", teacher=[])
    return build_feeder(joints, preflight(joints, ("feeder",))["feeder"], "test")


def read_scores(runs: list[Run], truth: streams.GroundTruth) -> list[Run]:
    """Read the scores of the runs that have some; returns those runs."""
    scored = [run for run in runs if (run.folder / SCORE_FILE).exists()]
    if scored:
        found = [streams.Stream(run.folder / SCORE_FILE, run.name, run.config.modality) for run in scored]
        for run, values in zip(scored, streams.read_streams(found, truth), strict=True):
            run.scores = values
    return scored


def describe_data(config: Config) -> str:
    """The data and split of an experiment in words."""
    arguments = config.test_feeder_args
    path = Path(str(arguments.get("data_path", config.feeder)))
    return " ".join(
        str(word)
        for word in (path.parent.name if path.suffix == ".clips" else path.name, arguments.get("split", ""))
        if word
    )


def combine(scored: list[Run]) -> tuple[np.ndarray | None, list[float | None], str]:
    """The scores that a report is about (the fusion's, the only run's or None), the weight of each run, and where the weights come from."""
    if len(scored) < 2:
        return (scored[0].scores if scored else None), [None] * len(scored), ""
    try:
        weights, origin = (
            fuse.preset_weights("ctrgcn", [run.config.modality for run in scored]),
            "Fused with the weights of CTR-GCN. ",
        )
    except ValueError:
        weights, origin = [1.0] * len(scored), "Fused with equal weights. "
    return fuse.fuse(np.stack([run.scores for run in scored]), weights), weights, origin


def score_command(run: Run) -> str:
    """The command that writes the run's score file."""
    weights = next((run.folder / name for name in (LAST, BEST) if (run.folder / name).exists()), run.folder / LAST)
    return f"python main.py --config {run.folder / CONFIG} --phase test --weights {weights} --save-score true --work-dir {run.folder}"


def poses(feeder: Any, i: int) -> tuple[np.ndarray, Sequence[int], Sequence[int], Sequence[int]]:
    """Some frames of a test clip as the picture needs them, (T, M, V, 2) with the second axis up, and the skeleton's bones and sides."""
    data = feeder.batch([i], 0)["data"][0].cpu().numpy()  # (C, T, V, M)
    moving = np.flatnonzero(np.abs(data).max((0, 2, 3)) > 0)
    frames = (
        moving[np.linspace(0, len(moving) - 1, FRAMES).round().astype(int)] if len(moving) else np.zeros(FRAMES, int)
    )
    up = str(manifest_of(feeder).get("up") or "y")
    axes = (0 if up[-1] != "x" else 1, "xyz".index(up[-1]))
    points = data[list(axes)][:, frames].transpose(1, 3, 2, 0)  # (T, M, V, 2)
    if up.startswith("-"):
        points = points * [1, -1]
    skeleton = feeder.skeleton
    return points, skeleton.parents, skeleton.left, skeleton.right


def learned_adjacency(folder: Path) -> list[tuple[str, np.ndarray]]:
    """[(key, (K, V, V))] of the first and the last block in the run's checkpoint; empty if there is none of either."""
    file = next((folder / name for name in (LAST, BEST) if (folder / name).exists()), None)
    if file is None:
        return []
    weights = checkpoint.load(file)
    weights = weights.get("model", weights)
    for pattern in LEARNED:
        keys = sorted((key for key in weights if re.search(pattern, key)), key=natural)
        if keys:
            V = weights[keys[0]].shape[-1]
            keys = [key for key in keys if weights[key].shape[-1] == V]  # windows of several frames are not drawn
            chosen = dict.fromkeys((keys[0], keys[-1]))
            return [(key, weights[key].detach().float().cpu().numpy().reshape(-1, V, V)) for key in chosen]
    return []


def natural(key: str) -> list[Any]:
    """Sort key by which l2 comes before l10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key)]
