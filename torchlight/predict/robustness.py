"""Degradation of test clips, to measure the loss of accuracy: missing joints, noise, a lower frame rate, or only the
first part of a clip."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.poses.convert import fill
from data.poses.recording import ASSUMED_RATE
from data.recipes import Recipe
from graph.skeleton import find_skeleton
from torchlight.contract import Batch, RawClipFeeder
from torchlight.report.safe_text import write_csv
from torchlight.training.metrics import accuracies
from torchlight.training.run_dir import ROBUSTNESS


def drop_stretches(clip: np.ndarray, percent: float, random: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """Each joint of each person is missing in one random range of `percent` of the frames."""
    M, T, V, _ = clip.shape
    length = round(percent / 100 * T)
    begin = random.integers(0, T - length + 1, (M, V))
    time = np.arange(T)[None, :, None]
    return refill(clip, (time >= begin[:, None]) & (time < begin[:, None] + length), recipe)


def drop_joints(clip: np.ndarray, count: float, random: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """`count` joints are missing in the whole clip, the same for all persons."""
    M, T, V, _ = clip.shape
    lost = np.zeros((M, T, V), bool)
    lost[..., random.permutation(V)[: int(count)]] = True
    return refill(clip, lost, recipe)


def add_noise(clip: np.ndarray, sigma: float, random: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """Normal noise on every coordinate, sigma in percent of the size of the body: the largest extent along an axis,
    median over the frames."""
    dims, seen = coordinates(recipe), clip.any((2, 3))
    if not seen.any():
        return clip
    size = np.median(np.ptp(clip[seen][..., :dims], axis=1).max(1))
    out = clip.copy()
    out[..., :dims] += (sigma / 100 * size * random.standard_normal(clip[..., :dims].shape)).astype(np.float32)
    out[~clip.any(3)] = 0  # joints that the data does not have
    return out


def lower_rate(clip: np.ndarray, step: float, random: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """Every step-th frame is kept, the frames between are interpolated: (M, T, V, C) -> (M, T, V, C)."""
    T, step = clip.shape[1], int(step)
    before = np.arange(T) // step * step
    after = np.minimum(before + step, (T - 1) // step * step)
    share = ((np.arange(T) - before) / step)[:, None, None].astype(np.float32)
    both = clip.any((2, 3))  # a person who is absent at one end does not move
    share = np.where((both[:, before] & both[:, after])[..., None, None], share, 0)
    return (clip[:, before] * (1 - share) + clip[:, after] * share).astype(np.float32)


def observe(clip: np.ndarray, percent: float, random: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """The first `percent` of the frames."""
    return clip[:, : max(1, math.ceil(percent / 100 * clip.shape[1]))]


def refill(clip: np.ndarray, lost: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Replace missing joints as `--phase predict` does; lost: (M, T, V) bool."""
    dims, seen = coordinates(recipe), clip.any((2, 3))
    points = clip[..., :dims].astype(np.float32)
    points[lost] = np.nan
    score = np.where(lost, 0, clip[..., dims]) if clip.shape[-1] > dims else None
    none_left, center = seen & np.isnan(points).all((2, 3)), recipe.skeleton.center
    points[none_left, center] = clip[none_left, center, :dims]  # keep one joint of a frame
    points[~seen] = np.nan
    rate = recipe.rate or ASSUMED_RATE
    points = fill(points, score, rate, recipe.skeleton, recipe.body.is_flat, recipe.missing)
    points = np.nan_to_num(points)
    return points if score is None else np.concatenate([points, score[..., None]], -1).astype(np.float32)


def coordinates(recipe: Recipe) -> int:
    """Channels of the data that are coordinates, not scores."""
    return 2 if recipe.body.is_flat else 3


class DegradedClips:
    """A feeder of the test clips of another feeder, each degraded by one level of a curve; it implements
    `contract.Feeder`.

    arguments: those of the other feeder. Every call degrades a clip in the same way.
    """

    def __init__(self, feeder: RawClipFeeder, arguments: Mapping[str, Any], curve: str, level: float):
        for name in ("name", "label", "num_class", "class_names", "num_point", "num_person", "channels", "shape"):
            setattr(self, name, getattr(feeder, name))
        self.feeder, self.arguments, self.change, self.level = feeder, arguments, CURVES[curve].change, level
        skeleton = find_skeleton("graph.coco") if arguments.get("middle_joints") else feeder.skeleton  # of the data
        self.recipe = Recipe(skeleton, feeder.manifest)

    def __len__(self) -> int:
        return len(self.label)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """The changed clips, prepared as test clips."""
        raw, images = zip(*map(self.feeder.raw_clip, indices), strict=True)
        numbered = zip(raw, indices, strict=True)
        changed = [self.degrade(clip, np.random.default_rng(i)) for clip, i in numbered]
        facts = {**self.feeder.manifest, "skeleton": self.recipe.skeleton}
        made = type(self.feeder).from_clips(changed, facts, images, **self.arguments)
        batch = made.batch(list(range(len(indices))), epoch)
        chosen = torch.as_tensor(list(indices))
        return batch | {"label": torch.from_numpy(self.label)[chosen], "index": chosen}

    def degrade(self, clip: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A changed clip (M, T, V, C). The empty frames that fill up its window are not changed, and omitted if the
        clip becomes shorter."""
        seen = np.flatnonzero(clip.any((0, 2, 3)))
        last = int(seen[-1]) + 1 if len(seen) else clip.shape[1]
        changed = self.change(clip[:, :last], self.level, random, self.recipe)
        return np.concatenate([changed, clip[:, last:]], 1) if changed.shape[1] == last else changed


@dataclass(frozen=True)
class Curve:
    """A kind of degradation: title, meaning of the levels, the levels (the first one changes nothing), and the
    function."""

    title: str
    unit: str
    levels: tuple[float, ...]
    change: Callable[[np.ndarray, float, np.random.Generator, Recipe], np.ndarray]


CURVES = {
    "stretches": Curve("each joint missing for a while", "% of the frames", (0, 10, 20, 30, 50, 70), drop_stretches),
    "joints": Curve("joints missing in the whole clip", "joints", (0, 1, 2, 4, 6, 8), drop_joints),
    "noise": Curve("noise", "% of the body's size", (0, 1, 2, 4, 8, 16), add_noise),
    "rate": Curve("lower frame rate", "every n-th frame", (1, 2, 3, 4, 6, 10), lower_rate),
    "observed": Curve("first part of the clip", "% of the frames", (100, 80, 60, 40, 20, 10), observe),
}
COLUMNS = ("curve", "level", "unit", "clips", "top1", "macro")


def figures(curve: str, level: float, scores: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """One row: top-1 and mean accuracy of the classes, percent."""
    found = accuracies(scores, label)
    values = {"curve": curve, "level": level, "unit": CURVES[curve].unit, "clips": len(label)}
    return values | {key: round(found[key], 2) for key in ("top1", "macro")}


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write robustness.csv and robustness.png; raises OSError."""
    write_csv(folder / ROBUSTNESS, COLUMNS, ([row[key] for key in COLUMNS] for row in rows))
    from torchlight.report import pictures  # matplotlib is slow to import

    lines = {
        (curve.title, curve.unit): [(row["level"], row["top1"]) for row in rows if row["curve"] == name]
        for name, curve in CURVES.items()
    }
    figure = pictures.panels({key: points for key, points in lines.items() if points}, "top-1, percent")
    pictures.to_png(figure, folder / "robustness.png")
