"""The content of a report: runs from their directories, their scores, clips to draw, learned adjacency matrices."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from torchlight.config.imports import ROOTS
from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.contract import DrawnFeeder, Feeder, manifest_of
from torchlight.fusion import fuse, score_files
from torchlight.system.clip_view import UNKNOWN_RATE, ClipView, to_viewer, without_empty
from torchlight.system.consent import ADMITTED
from torchlight.system.files import read_text
from torchlight.training import checkpoint
from torchlight.training.build import build_feeder, build_model, preflight
from torchlight.training.run_dir import BEST, CONFIG, LAST, ROBUSTNESS, read_environment, read_metrics
from torchlight.training.scores import SCORE_FILE

FRAMES = 8  # of a clip that are drawn
MOST_CURVES = 10  # of a robustness.csv


@dataclass
class Run:
    """The content of a run directory; `scores` (n, num_class) or None; `robustness`: see `read_robustness`; `problems`:
    why parts of it are not shown."""

    folder: Path
    name: str
    config: Config
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    scores: np.ndarray | None = None
    robustness: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_runs(folders: list[Path]) -> list[Run]:
    """The runs in these directories, under the shortest names that distinguish them.

    A folder that is not a run is replaced by the runs in its subfolders. A damaged record is added to `Run.problems`.

    Raises:
        ConfigError: one or more of the folders contain no run, or a configuration is not valid.
    """
    groups = [folders_of_runs(folder) for folder in folders]
    missing = [folder for folder, group in zip(folders, groups, strict=True) if not group]
    if missing:
        raise ConfigError(
            [f"work_dir: expected a run with {CONFIG} in {folder}, got none{deeper_runs(folder)}" for folder in missing]
        )
    folders = [folder for group in groups for folder in group]
    files = score_files.name_score_files([folder / SCORE_FILE for folder in folders])
    runs = [Run(folder, file.name, load_config(folder / CONFIG)) for folder, file in zip(folders, files, strict=True)]
    for run in runs:
        for read in (read_environment, read_metrics, read_robustness):
            try:
                setattr(run, read.__name__.removeprefix("read_"), read(run.folder))
            except ValueError as error:
                run.problems.append(str(error))
    return runs


def on_same_clips(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """The runs that are tested on the clips of the first one, and the others, whose `hold_out` is another."""
    first, same, others = set(runs[0].config.hold_out), [], []
    for run in runs:
        (same if set(run.config.hold_out) == first else others).append(run)
    return same, others


def read_robustness(folder: Path) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """{(curve, unit of its levels): [(level, top-1)]} in robustness.csv, empty if there is none.

    Raises:
        ValueError: it is not the table of `--phase robustness`.
    """
    file, lines = folder / ROBUSTNESS, {}
    if not file.exists():
        return lines
    try:
        for row in csv.DictReader(io.StringIO(read_text(file), newline="")):
            point = float(row["level"]), float(row["top1"])
            if not np.isfinite(point).all():
                raise ValueError("expected finite numbers")
            lines.setdefault((row["curve"], row["unit"]), []).append(point)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{file}: expected the table of --phase robustness, got another ({error})") from error
    if len(lines) > MOST_CURVES:
        raise ValueError(f"{file}: expected at most {MOST_CURVES} curves, got {len(lines)}")
    return lines


def folders_of_runs(folder: Path) -> list[Path]:
    """The folder itself if it is a run, else the runs in it: joint, bone, joint motion, bone motion, then others by
    name."""
    if os.path.isfile(folder / CONFIG):
        return [folder]
    configs = folder.glob(f"*/{CONFIG}") if os.path.isdir(folder) else ()
    order = {modality: i for i, modality in enumerate(fuse.MODALITIES)}
    return sorted(
        (path.parent for path in configs), key=lambda folder: (order.get(folder.name, len(order)), folder.name)
    )


def deeper_runs(folder: Path) -> str:
    """A hint at folders with runs further below a folder without runs, empty if there are none."""
    found = sorted({path.parent.parent for depth in range(2, 5) for path in folder.glob("*/" * depth + CONFIG)})
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"; runs are in {', '.join(map(str, found[:3]))}{more}" if found else ""


def open_test_feeder(config: Config) -> Feeder:
    """The test clips of an experiment as joints, regardless of its modality, to draw them."""
    joints = replace(config, modality="joint", teacher=[])
    return build_feeder(joints, preflight(joints, ("feeder",))["feeder"], "test")


def read_scores(runs: list[Run], truth: score_files.GroundTruth) -> list[Run]:
    """Read the scores of all runs that have a score file; returns these runs.

    Raises:
        ConfigError: a score file is damaged or belongs to other test clips.
    """
    scored = [run for run in runs if os.path.exists(run.folder / SCORE_FILE)]
    if scored:
        files = [score_files.ScoreFile(run.folder / SCORE_FILE, run.name, run.config.modality) for run in scored]
        for run, values in zip(scored, score_files.read_score_files(files, truth), strict=True):
            run.scores = values
    return scored


def describe_data(config: Config) -> str:
    """Data and split of an experiment in words."""
    arguments = config.test_feeder_args
    path = Path(str(arguments.get("data_path", config.feeder)))
    words = path.parent.name if path.suffix == ".clips" else path.name, arguments.get("split", "")
    held_out = f", {' '.join(config.hold_out)} held out" if config.hold_out else ""
    return " ".join(str(word) for word in words if word) + held_out


def combine(scored: list[Run]) -> tuple[np.ndarray | None, list[float | None], str]:
    """The scores of the report (of the fusion, of the only run, or None), the weight of each run, and the origin of
    the weights."""
    if len(scored) < 2:
        return (scored[0].scores if scored else None), [None] * len(scored), ""
    preset = fuse.DEFAULT_PRESET
    try:
        weights = fuse.preset_weights(preset, [run.config.modality for run in scored])
        origin = f"Fused with the weights of the preset {preset}. "
    except ValueError:
        weights, origin = [1.0] * len(scored), "Fused with equal weights. "
    values = np.stack([run.scores for run in scored])
    if len(set(fuse.are_probabilities(values))) > 1:  # some tests average several samples of a clip
        values, origin = fuse.to_space(values, "softmax"), f"{origin}Logits were converted to probabilities. "
    return fuse.fuse(values, weights), weights, origin


def score_command(run: Run) -> str:
    """The command that writes the score file of a run."""
    weights = find_checkpoint(run.folder) or run.folder / LAST
    return (
        f"python main.py --config {run.folder / CONFIG} --phase test --weights {weights} "
        f"--save-score true --work-dir {run.folder}{import_flag(run.config)}"
    )


def import_flag(config: Config) -> str:
    """` --import ...` with the modules outside this project that a run needs, or nothing."""
    roots = [path.split(".")[0] for path in (config.model, config.feeder, config.objective) if path]
    outside = [root for root in dict.fromkeys(roots) if root not in ROOTS and root not in ADMITTED]
    return " ".join([" --import", *ADMITTED.values(), *outside]) if ADMITTED or outside else ""


def find_checkpoint(folder: Path) -> Path | None:
    """last.pt of a run, else best.pt, else None."""
    return next((folder / name for name in (LAST, BEST) if os.path.exists(folder / name)), None)


def joints_of(feeder: Feeder, i: int) -> np.ndarray:
    """The coordinates of a test clip, (C, T, V, M)."""
    data = feeder.joints(i) if isinstance(feeder, DrawnFeeder) else feeder.batch([i], 0)["data"][0]
    return data.cpu().numpy()


def view_of(feeder: Feeder, i: int, name: str, top: Sequence[tuple[str, float]]) -> ClipView:
    """A test clip for the interactive view, with the most probable classes and their probabilities."""
    data = joints_of(feeder, i).transpose(1, 3, 2, 0)  # (T, M, V, C)
    up = "y" if isinstance(feeder, DrawnFeeder) else str(manifest_of(feeder).get("up") or "y")
    points = without_empty(to_viewer(data, up, min(getattr(feeder, "dims", 3), data.shape[-1])))
    body = feeder.skeleton
    bones = [(v, p) for v, p in enumerate(body.parents) if v != p]
    segments = [(0.0, len(points) / UNKNOWN_RATE, f"{label} {100 * p:.0f} %", "") for label, p in top[:1]]
    curves = [(label, [p]) for label, p in top]
    return ClipView(name, points, bones, None, body.left, body.right, (), segments, [0.0], curves)


def poses(feeder: Feeder, i: int) -> tuple[np.ndarray, Sequence[int], Sequence[int], Sequence[int]]:
    """Some frames of a test clip, (T, M, V, 2) with the second axis up, and the bones and sides of its skeleton."""
    data = joints_of(feeder, i)
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


def learned_adjacency(run: Run, V: int) -> list[tuple[str, np.ndarray]]:
    """[(name, (K, V, V))] of the first and the last learned adjacency of a run with V joints.

    These are the first and the last parameter of its network that `adjacency_shapes` finds. Empty if there is no
    checkpoint or no such parameter.

    Raises:
        ValueError: the network cannot be built, or the checkpoint is damaged or of another network.
    """
    file = find_checkpoint(run.folder)
    if file is None:
        return []
    shapes = adjacency_shapes(build_model(run.config, preflight(run.config, ("model",))["model"]), V)
    weights = checkpoint.state_dict_of(checkpoint.load(file), file)
    names = [name for name in shapes if name in weights]
    found = []
    for name in dict.fromkeys((*names[:1], *names[-1:])):
        if tuple(weights[name].shape) != shapes[name]:
            raise ValueError(f"{file}: {name}: expected the shape {shapes[name]}, got {tuple(weights[name].shape)}")
        matrices = weights[name].detach().float().cpu().numpy().reshape(-1, V, V)
        found.append((name, np.nan_to_num(matrices)))
    return found


def adjacency_shapes(model: nn.Module, V: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the learned adjacency: all parameters (..., k * V, V), except for weights of linear layers
    and convolutions."""
    return {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1
        and parameter.shape[-1] == V
        and parameter.shape[-2] % V == 0
        and not name.endswith("weight")
    }
