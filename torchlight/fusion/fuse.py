"""Score fusion: a weighted sum of the class scores of several streams, as functions of arrays.

Scores are (S, n, num_class): S streams of n clips in the same order. Where the field's recipes come from:

ctrgcn    logits, joint 0.6, bone 0.6, joint motion 0.4, bone motion 0.4 (Chen et al., ICCV 2021)
pyskl     probabilities, 2 : 2 : 1 : 1 (Duan et al., 2022; also DG-STGCN)
agcn      logits, joint 1, bone 1 (Shi et al., CVPR 2019; also MS-G3D)
tsgcnext  logits, by place and not by modality: what its published program really computes, which is 1 : 0.9 for two streams and
          0.95 : 0 : 0 : 1 for four. Two of the four have no effect. The weights behind its published four-stream figures are not known.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from torchlight.system.modalities import MODALITIES
from torchlight.training.scores import is_correct

SPACES = ("logits", "softmax")


@dataclass(frozen=True)
class Preset:
    """A published way to fuse: the space, and the weights by modality or, for each number of streams, by place."""

    space: str
    by_modality: dict[str, float] | None = None
    by_place: dict[int, tuple[float, ...]] | None = None


PRESETS = {
    "ctrgcn": Preset("logits", dict(zip(MODALITIES, (0.6, 0.6, 0.4, 0.4), strict=True))),
    "pyskl": Preset("softmax", dict(zip(MODALITIES, (2.0, 2.0, 1.0, 1.0), strict=True))),
    "agcn": Preset("logits", {"joint": 1.0, "bone": 1.0}),
    "tsgcnext": Preset("logits", by_place={2: (1.0, 0.9), 4: (0.95, 0.0, 0.0, 1.0)}),
}


def preset_weights(name: str, modalities: list[str | None]) -> list[float]:
    """The weights of a preset for streams of these modalities; if none is known, the order joint, bone, joint motion, bone motion is taken.

    Raises:
        ValueError: the preset says nothing about one of the streams.
    """
    preset = PRESETS[name]
    if preset.by_place is not None:
        if len(modalities) not in preset.by_place:
            raise ValueError(
                f"preset {name}: found {len(modalities)} streams; it knows {' or '.join(map(str, preset.by_place))}; give --alpha instead"
            )
        return list(preset.by_place[len(modalities)])
    if not any(modalities) and len(modalities) <= len(preset.by_modality):
        modalities = list(MODALITIES[: len(modalities)])
    unknown = [
        f"stream {i} ({m or 'unknown modality'})" for i, m in enumerate(modalities, 1) if m not in preset.by_modality
    ]
    if unknown:
        raise ValueError(
            f"preset {name}: found {', '.join(unknown)}; it has weights for {', '.join(preset.by_modality)}; leave them out or give --alpha"
        )
    return [preset.by_modality[m] for m in modalities]


def are_probabilities(scores: np.ndarray) -> np.ndarray:
    """Which streams hold probabilities already (as multi-clip tests write them): (S, n, num_class) -> (S,) bool."""
    return (scores.min((1, 2)) >= 0) & (np.abs(scores.sum(2) - 1).max(1) < 1e-3)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def to_space(scores: np.ndarray, space: str) -> np.ndarray:
    """Scores as they are (`logits`) or as probabilities (`softmax`; a stream that holds probabilities stays): (S, n, num_class) -> same."""
    assert space in SPACES, space
    if space == "logits":
        return scores
    keep = are_probabilities(scores)
    return np.stack([stream if kept else softmax(stream) for stream, kept in zip(scores, keep, strict=True)])


def fuse(scores: np.ndarray, weights: list[float] | np.ndarray) -> np.ndarray:
    """The weighted sum: (S, n, num_class), (S,) -> (n, num_class)."""
    return np.tensordot(np.asarray(weights, np.float64), scores, axes=1)


def weight_grid(S: int, limit: int = 300) -> np.ndarray:
    """Weights that sum to 1: even ones, then the finest grid (steps of 0.05 or more) of at most `limit` points, most even first: (G, S)."""
    steps = max(s for s in range(1, 21) if s == 1 or math.comb(s + S - 1, S - 1) <= limit)
    bars = list(itertools.combinations(range(steps + S - 1), S - 1))  # stars and bars: every way to share out the steps
    edges = np.pad(
        np.reshape(bars, (len(bars), S - 1)), ((0, 0), (1, 1)), constant_values=((0, 0), (-1, steps + S - 1))
    )
    grid = (np.diff(edges, axis=1) - 1) / steps
    unevenness = ((grid - 1 / S) ** 2).sum(1)
    order = np.argsort(unevenness, kind="stable")
    return np.vstack([np.full((1, S), 1 / S), grid[order][unevenness[order] > 1e-12]])


@dataclass(frozen=True)
class Search:
    """Weights found by search. `cross_fitted`: top-1 in percent of each split, every clip scored by weights that never saw it (the honest
    figures); `weights` and `fitted`: the best of all clips and their top-1, optimistic because the same clips chose and measured them."""

    cross_fitted: np.ndarray
    weights: np.ndarray
    fitted: float


def search_weights(scores: np.ndarray, label: np.ndarray, splits: int = 20, seed: int = 0, chunk: int = 2048) -> Search:
    """Search the weight grid across random halves: the best weights of one half are measured on the other, and the other way round."""
    grid, n = weight_grid(len(scores)), len(label)
    correct = np.empty((len(grid), n), bool)
    for begin in range(0, n, chunk):  # a part at a time: it stays in the cache
        part, own = scores[:, begin : begin + chunk], label[begin : begin + chunk]
        for g, weights in enumerate(grid):
            correct[g, begin : begin + chunk] = is_correct(fuse(part, weights), own)
    random, figures = np.random.default_rng(seed), []
    for _ in range(splits):
        order = random.permutation(n)
        halves = order[: n // 2], order[n // 2 :]
        right = sum(correct[correct[:, fit].sum(1).argmax(), measure].sum() for fit, measure in (halves, halves[::-1]))
        figures.append(100.0 * right / n)
    best = correct.sum(1).argmax()
    return Search(np.array(figures), grid[best], 100.0 * float(correct[best].mean()))
