"""Score fusion: a weighted sum of the class scores of several streams, as functions of arrays.

Scores are (S, n, num_class): S streams of n clips in the same order. The presets are published recipes:

ctrgcn    logits, joint 0.6, bone 0.6, joint motion 0.4, bone motion 0.4 (Chen et al., ICCV 2021)
pyskl     probabilities, 2 : 2 : 1 : 1 (Duan et al., 2022; also DG-STGCN)
protogcn  probabilities, six streams: joint, bone and K-bone 2, their motions 1 (Liu et al., CVPR 2025; also ACLNet,
          SkeletonAgent)
posec3d   probabilities, joint 1, limb 1 (Duan et al., CVPR 2022)
agcn      logits, joint 1, bone 1 (Shi et al., CVPR 2019; also MS-G3D)
hdgcn     logits of length 1, joint 1, bone 1, of each of three hierarchies (Lee et al., ICCV 2023)
blockgcn  logits, joint 0.6, bone 0.7, joint motion 0.35, bone motion 0.2 (Zhou et al., CVPR 2024; NTU RGB+D)
hypergcn  logits, joint 1, bone 1.4, joint motion 1.1, bone motion 0.3 (Zhou et al., ICCV 2025; base, NTU RGB+D 60 xsub)
tsgcnext  logits, by position instead of modality, as the published program computes them: 1 : 0.9 for two streams and
          0.95 : 0 : 0 : 1 for four, so that two of the four have no effect. The weights behind the published
          four-stream figures are not known.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from torchlight.system.modalities import MODALITIES
from torchlight.system.text import counted
from torchlight.training.scores import is_correct

SPACES = ("logits", "softmax", "unit")


@dataclass(frozen=True)
class Preset:
    """A published recipe: the space, and the weights by modality or, for each number of streams, by position."""

    space: str
    by_modality: dict[str, float] | None = None
    by_position: dict[int, tuple[float, ...]] | None = None


PRESETS = {
    "ctrgcn": Preset("logits", dict(zip(MODALITIES, (0.6, 0.6, 0.4, 0.4), strict=False))),
    "pyskl": Preset("softmax", dict(zip(MODALITIES, (2.0, 2.0, 1.0, 1.0), strict=False))),
    "protogcn": Preset("softmax", dict(zip(MODALITIES, (2.0, 2.0, 1.0, 1.0, 2.0, 1.0), strict=False))),
    "posec3d": Preset("softmax", {"joint": 1.0, "limb": 1.0}),
    "agcn": Preset("logits", {"joint": 1.0, "bone": 1.0}),
    "hdgcn": Preset("unit", {"joint": 1.0, "bone": 1.0}),
    "blockgcn": Preset("logits", dict(zip(MODALITIES, (0.6, 0.7, 0.35, 0.2), strict=False))),
    "hypergcn": Preset("logits", dict(zip(MODALITIES, (1.0, 1.4, 1.1, 0.3), strict=False))),
    "tsgcnext": Preset("logits", by_position={2: (1.0, 0.9), 4: (0.95, 0.0, 0.0, 1.0)}),
}
DEFAULT_PRESET = "ctrgcn"


def preset_weights(name: str, modalities: list[str | None]) -> list[float]:
    """The weights of a preset for streams of these modalities.

    If no modality is known, the order of the preset is assumed: joint, bone, joint motion, bone motion, K-bone, K-bone
    motion, or joint, limb.

    Raises:
        ValueError: the preset has no weight for one of the streams.
    """
    preset = PRESETS[name]
    if preset.by_position is not None:
        if len(modalities) not in preset.by_position:
            counts = " or ".join(map(str, preset.by_position))
            raise ValueError(f"preset {name}: expected {counts} streams, got {len(modalities)}; give --alpha instead")
        return list(preset.by_position[len(modalities)])
    if not any(modalities) and len(modalities) <= len(preset.by_modality):
        modalities = list(preset.by_modality)[: len(modalities)]
    unknown = [
        f"{m or 'an unknown modality'} (stream {i})" for i, m in enumerate(modalities, 1) if m not in preset.by_modality
    ]
    if unknown:
        known = ", ".join(preset.by_modality)
        fitting = [key for key, other in PRESETS.items() if set(modalities) <= (other.by_modality or {}).keys()]
        advice = f"give --preset {' or '.join(fitting)}, or --alpha" if fitting else "leave them out or give --alpha"
        raise ValueError(f"preset {name}: expected streams of {known}, got {', '.join(unknown)}; {advice}")
    return [preset.by_modality[m] for m in modalities]


def given_weights(alpha: Sequence[float], names: Sequence[str]) -> list[float]:
    """The weights of the option `alpha` for the streams `names`; a single W for two streams means 1 and W.

    Raises:
        ValueError: there is not one weight per stream, a weight is negative or not finite, or all weights are 0.
    """
    weights = [1.0, *alpha] if len(alpha) == 1 and len(names) == 2 else list(alpha)
    if len(weights) != len(names):
        streams = f"one per stream ({', '.join(names)})"
        raise ValueError(f"alpha: expected {counted(len(names), 'weight')}, {streams}, got {len(weights)}")
    if not (np.isfinite(weights).all() and min(weights) >= 0 < max(weights)):
        shown = " ".join(map(str, weights))
        raise ValueError(f"alpha: expected finite weights of 0 or more and not all 0, got {shown}")
    return weights


def are_probabilities(scores: np.ndarray) -> np.ndarray:
    """Whether each stream contains probabilities, as multi-clip tests write them, instead of logits: (S, n, num_class)
    -> (S,) bool."""
    return (scores.min((1, 2)) >= 0) & (np.abs(scores.sum(2) - 1).max(1) < 1e-3)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def lengths(scores: np.ndarray) -> np.ndarray:
    """Euclidean lengths along the last axis, which is kept; 1 for zero vectors."""
    found = np.linalg.norm(scores.astype(np.float64), axis=-1, keepdims=True)
    return np.where(found > 0, found, 1.0)


def to_space(scores: np.ndarray, space: str) -> np.ndarray:
    """Scores unchanged (`logits`), divided by their length (`unit`) or as probabilities (`softmax`): (S, n, num_class).

    A stream that already contains probabilities is not converted.
    """
    assert space in SPACES, space
    if space == "logits":
        return scores
    if space == "unit":
        return scores / lengths(scores)
    keep = are_probabilities(scores)
    return np.stack([stream if kept else softmax(stream) for stream, kept in zip(scores, keep, strict=True)])


def fuse(scores: np.ndarray, weights: list[float] | np.ndarray) -> np.ndarray:
    """The weighted sum: (S, n, num_class), (S,) -> (n, num_class); an overflow gives infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.tensordot(np.asarray(weights, np.float64), scores, axes=1)


def weight_grid(S: int, limit: int = 300) -> np.ndarray:
    """Weights that sum to 1, the equal ones first and the most unequal ones last: (G, S).

    They form the finest grid with steps of 0.05 or more and at most `limit` points, plus the equal weights.
    """
    steps = max(s for s in range(1, 21) if s == 1 or math.comb(s + S - 1, S - 1) <= limit)
    bars = list(itertools.combinations(range(steps + S - 1), S - 1))  # stars and bars: all divisions of the steps
    edges = np.pad(
        np.reshape(bars, (len(bars), S - 1)), ((0, 0), (1, 1)), constant_values=((0, 0), (-1, steps + S - 1))
    )
    grid = (np.diff(edges, axis=1) - 1) / steps
    unevenness = ((grid - 1 / S) ** 2).sum(1)
    order = np.argsort(unevenness, kind="stable")
    return np.vstack([np.full((1, S), 1 / S), grid[order][unevenness[order] > 1e-12]])


@dataclass(frozen=True)
class Search:
    """Weights found by search.

    `cross_fitted`: top-1 in percent of each split, where each clip is scored with weights chosen on other clips; an
    unbiased estimate. `weights`, `fitted`: the best weights for all clips and their top-1 on the same clips; an
    optimistic estimate.
    """

    cross_fitted: np.ndarray
    weights: np.ndarray
    fitted: float


def search_weights(
    scores: np.ndarray, label: np.ndarray, splits: int = 20, seed: int = 0, group: np.ndarray | None = None
) -> Search:
    """Search the weight grid on random halves: the best weights of each half are measured on the other half.

    group (n,): the number of each clip's group; a group is never split. None: every clip is a group of its own.
    """
    grid, correct = correct_of_grid(scores, label)
    n = len(label)
    group = np.arange(n) if group is None else group
    G = group.max() + 1
    random, figures = np.random.default_rng(seed), []
    for _ in range(splits):
        first = np.isin(group, random.permutation(G)[: G // 2])
        halves = np.flatnonzero(first), np.flatnonzero(~first)
        right = sum(correct[correct[:, fit].sum(1).argmax(), measure].sum() for fit, measure in (halves, halves[::-1]))
        figures.append(100.0 * right / n)
    best = correct.sum(1).argmax()
    return Search(np.array(figures), grid[best], 100.0 * float(correct[best].mean()))


def best_weights(scores: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, float]:
    """The weights of the grid with the highest top-1 on these clips, (S,), and this top-1 in percent. Among equally
    good weights, the most even ones are chosen."""
    grid, correct = correct_of_grid(scores, label)
    best = correct.sum(1).argmax()
    return grid[best], 100.0 * float(correct[best].mean())


def correct_of_grid(scores: np.ndarray, label: np.ndarray, chunk: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """The weight grid, (G, S), and whether fusion with each row of it classifies each clip correctly, (G, n)."""
    grid, n = weight_grid(len(scores)), len(label)
    correct = np.empty((len(grid), n), bool)
    for begin in range(0, n, chunk):  # a chunk fits into the cache
        rows = slice(begin, begin + chunk)
        for g, weights in enumerate(grid):
            correct[g, rows] = is_correct(fuse(scores[:, rows], weights), label[rows])
    return grid, correct
