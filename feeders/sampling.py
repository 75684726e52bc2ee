"""Uniform sampling of frames (PoseConv3D, and the GCNs of PYSKL): one frame from each of equal segments of the clip."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from feeders.random_numbers import RandomNumbers

TEST_SEED = 255  # PYSKL's seed of NumPy's generator for every test clip


def uniform_train(
    T: Tensor, L: int, random: RandomNumbers, p_interval: tuple[float, float] = (1, 1), loop_inside: bool = False
) -> Tensor:
    """L random frames in order for clips of T frames: (N,) -> (N, L).

    T < L: the clip is looped. L <= T < 2 L: T - L random frames are skipped. Otherwise: one random frame of each of L
    segments. p_interval: share of the clip that is sampled. loop_inside: short clips are looped inside this share
    (UniformSampleDecode of DG-STGCN) instead of from the end of the clip to its start (UniformSample).
    """
    low, high = p_interval
    T = T[:, None]
    seen = (random.uniform(1) * (high - low) + low).mul(T).long().clamp(min=1)
    offset = random.integer(0, T - seen + 1)
    k = torch.arange(L, device=T.device)

    short = random.integer(0, seen) + k
    if loop_inside:
        short = short % seen
    frame = torch.where(seen < L, short, spread(seen, random.uniform(L + 1), random.uniform(L))) + offset
    return frame % T


def spread(T: Tensor, gaps: Tensor, places: Tensor) -> Tensor:
    """L random frames in order, of clips of T >= L frames: T (N, 1), gaps (N, L + 1), places (N, L) -> (N, L).

    T < 2 L: the frames 0 .. L - 1 have L + 1 gaps before, between and after them. The T - L gaps with the smallest
    random numbers in `gaps` are widened by one frame. Otherwise: one frame of each of L segments; `places`, from 0 to
    below 1, is its relative position in the segment.
    """
    L = places.shape[1]
    rank = gaps.argsort(1).argsort(1)
    middle = torch.arange(L, device=T.device) + (rank < T - L).cumsum(1)[:, :L]
    edge = torch.arange(L + 1, device=T.device) * T // L
    segment = edge[:, :-1] + (places * edge.diff(dim=1)).long()
    return torch.where(T < 2 * L, middle, segment)


@lru_cache(maxsize=4096)
def uniform_test(
    T: int,
    L: int,
    n: int,
    p_interval: tuple[float, float] = (1, 1),
    loop_inside: bool = False,
    draw_share: bool = True,
) -> np.ndarray:
    """PYSKL's test sampling with its own random numbers: n clips of L frames of a clip of T frames -> (n L,) int64.

    draw_share: draw the share and its position for every clip, even if it is the whole clip; mmaction2 does not.
    """
    draw = np.random.RandomState(TEST_SEED)
    low, high = p_interval
    clips = []
    for i in range(n):
        seen = int((draw.rand() * (high - low) + low) * T) if draw_share else T
        offset = draw.randint(T - seen + 1) if draw_share else 0
        if seen < L:
            if loop_inside:
                frame = (draw.randint(0, max(seen, 1)) + np.arange(L)) % max(seen, 1)
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
