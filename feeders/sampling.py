"""Uniform sampling of frames (PoseConv3D's way, as pyskl's GCNs use it): the clip is cut into equal stretches, one frame from each."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from feeders.draws import Draws

TEST_SEED = 255  # pyskl restarts NumPy's generator with it for every clip it tests on


def uniform_train(
    T: Tensor, L: int, draws: Draws, p_interval: tuple[float, float] = (1, 1), loop_inside: bool = False
) -> Tensor:
    """L random frames in order for clips of T frames: (N,) -> (N, L).

    Clips shorter than L go round; below 2 L every frame comes once or twice less than a stretch would say; from there on one frame is
    drawn from each of L stretches. p_interval: share of the clip that is looked at. loop_inside: short clips go round inside this share
    (UniformSampleDecode of DG-STGCN) and not from the end of the clip to its start (UniformSample).
    """
    low, high = p_interval
    T = T[:, None]
    seen = (draws.uniform(1) * (high - low) + low).mul(T).long().clamp(min=1)
    offset = draws.integer(0, T - seen + 1)
    k = torch.arange(L, device=T.device)

    short = draws.integer(0, seen) + k
    if loop_inside:
        short = short % seen
    rank = draws.uniform(L + 1).argsort(1).argsort(1)
    middle = k + (rank < seen - L).cumsum(1)[:, :L]  # seen - L of the L + 1 gaps are widened by one frame
    edge = torch.arange(L + 1, device=T.device) * seen // L
    stretch = edge[:, :-1] + (draws.uniform(L) * edge.diff(dim=1)).long()

    frame = torch.where(seen < L, short, torch.where(seen < 2 * L, middle, stretch)) + offset
    return frame % T


@lru_cache(maxsize=4096)
def uniform_test(
    T: int, L: int, n: int, p_interval: tuple[float, float] = (1, 1), loop_inside: bool = False
) -> np.ndarray:
    """pyskl's own draws for testing, to the number: n clips of L frames of a clip of T frames -> (n L,) int64."""
    draw = np.random.RandomState(TEST_SEED)
    low, high = p_interval
    clips = []
    for i in range(n):
        seen = int((draw.rand() * (high - low) + low) * T)
        offset = draw.randint(T - seen + 1)
        if seen < L:
            if loop_inside:
                frame = (draw.randint(0, seen) + np.arange(L)) % seen
            else:
                frame = (i if seen < n else i * seen // n) + np.arange(L)
        elif seen < 2 * L:
            widened = np.zeros(L + 1, np.int64)
            widened[draw.choice(L + 1, seen - L, replace=False)] = 1
            frame = np.arange(L) + np.cumsum(widened)[:L]
        else:
            edge = np.arange(L + 1) * seen // L
            frame = edge[:-1] + draw.randint(np.diff(edge))
        clips.append(frame + offset)
    return np.concatenate(clips) % T
