"""Adjacency tensors of skeleton graphs, in NumPy and float64.

An edge is a pair (child, parent): a 1 in row parent, column child. Reversed edges give the transpose.
Subsets are stacked along the first axis, (K, V, V).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from torchlight.system.text import nearest, quote

Edges = Iterable[tuple[int, int]]

LABELING_MODES = ("spatial", "stgcn_spatial", "distance", "uniform", "binary", "hierarchy")
DEEPEST_LEVEL = 6  # of HD-GCN's hierarchy; joints farther away also belong to this level


def build(inward: Edges, num_node: int, center: int, labeling_mode: str, max_hop: int, dilation: int) -> np.ndarray:
    """The adjacency tensor of one labeling mode, (K, V, V).

    Raises:
        ValueError: an unknown mode, or arguments that the mode does not use.
    """
    inward = list(inward)
    if labeling_mode not in LABELING_MODES:
        raise ValueError(
            f"labeling_mode: unknown mode {quote(labeling_mode)}; {nearest(str(labeling_mode), LABELING_MODES)}"
        )
    for key, value in (("max_hop", max_hop), ("dilation", dilation)):
        if type(value) is not int or not 1 <= value <= num_node:
            raise ValueError(f"{key}: expected a whole number from 1 to {num_node} (the joints), got {quote(value)}")
    if labeling_mode in ("spatial", "binary", "hierarchy"):
        if (max_hop, dilation) != (1, 1):
            raise ValueError(
                f"max_hop, dilation: expected 1 and 1 with labeling_mode {labeling_mode}, where they have no effect, "
                f"got {max_hop} and {dilation}; use stgcn_spatial, distance or uniform"
            )
        if labeling_mode == "hierarchy":
            return hierarchy(levels_from(center, inward, num_node), num_node)
        return spatial(inward, num_node) if labeling_mode == "spatial" else binary(inward, num_node)[None]
    hop = hop_distance(inward, num_node, max_hop)
    hops = range(0, max_hop + 1, dilation)
    if labeling_mode == "uniform":
        return uniform(hop, hops)
    return distance(hop, hops) if labeling_mode == "distance" else stgcn_spatial(hop, hops, center)


def edge_matrix(edges: Edges, num_node: int) -> np.ndarray:
    """(V, V) with a 1 at [parent, child] of every edge."""
    M = np.zeros((num_node, num_node))
    for child, parent in edges:
        M[parent, child] = 1
    return M


def normalize_columns(M: np.ndarray) -> np.ndarray:
    """Divide every column by its sum; columns of zeros stay zero."""
    total = M.sum(axis=-2, keepdims=True)
    return np.divide(M, total, out=np.zeros_like(M), where=total > 0)


def spatial(inward: Edges, num_node: int) -> np.ndarray:
    """Identity, inward, outward: the three subsets of 2s-AGCN, CTR-GCN, ST-GCN++ and TSGCNeXt, (3, V, V)."""
    M = edge_matrix(inward, num_node)
    return np.stack([np.eye(num_node), normalize_columns(M), normalize_columns(M.T)])


def binary(inward: Edges, num_node: int) -> np.ndarray:
    """Symmetric 0/1 matrix without self loops, (V, V)."""
    M = edge_matrix(inward, num_node)
    return np.maximum(M, M.T)


def hop_distance(inward: Edges, num_node: int, max_hop: int) -> np.ndarray:
    """Number of edges between two joints up to `max_hop`, infinite beyond, (V, V)."""
    step = binary(inward, num_node) + np.eye(num_node)
    hop = np.full((num_node, num_node), np.inf)
    for d in range(max_hop, -1, -1):
        hop[np.linalg.matrix_power(step, d) > 0] = d
    return hop


def steps(neighbors: np.ndarray) -> np.ndarray:
    """Number of edges between two joints, infinite without a path, (V, V); neighbors: symmetric, not 0 at edges."""
    around = [np.flatnonzero(row).tolist() for row in neighbors]
    hop = np.full(neighbors.shape, np.inf)
    for start in range(len(neighbors)):
        distance = {start: 0}
        for joint in (queue := [start]):  # breadth-first search; the queue grows
            for other in around[joint]:
                if other not in distance:
                    distance[other] = distance[joint] + 1
                    queue.append(other)
        hop[start, list(distance)] = list(distance.values())
    return hop


def levels_from(center: int, inward: Edges, num_node: int) -> list[list[int]]:
    """Joints by their number of steps from the center; the last level contains all joints at 6 steps or more
    (HD-GCN)."""
    level = np.minimum(steps(binary(inward, num_node))[center], DEEPEST_LEVEL)
    return [np.flatnonzero(level == d).tolist() for d in range(int(level.max()) + 1)]


def check_levels(levels: Any, num_joint: int) -> None:
    """Raise ValueError unless these are two or more lists that contain every joint once."""
    rows = levels if isinstance(levels, list | tuple) and all(isinstance(r, list | tuple) for r in levels) else []
    joints = [joint for row in rows for joint in row]
    whole = all(type(joint) is int for joint in joints) and sorted(joints) == list(range(num_joint))
    if len(rows) < 2 or not all(rows) or not whole:
        raise ValueError(
            f"levels: expected two or more lists with each joint from 0 to {num_joint - 1} once, got {quote(levels)}"
        )


def hierarchy(levels: Sequence[Sequence[int]], num_node: int) -> np.ndarray:
    """The layers of HD-GCN, one for each two successive levels g_a, g_b: (layers, 3, V, V), row target.

    Subsets: the identity on the joints of both levels; from every joint of g_a to every joint of g_b, divided by the
    size of g_b; from g_b to g_a, divided by the size of g_a.
    """
    A = np.zeros((len(levels) - 1, 3, num_node, num_node))
    for layer, above, below in zip(A, levels, levels[1:], strict=False):
        both = [*above, *below]
        layer[0, both, both] = 1
        layer[1][np.ix_(below, above)] = 1 / len(below)
        layer[2][np.ix_(above, below)] = 1 / len(above)
    return A


def uniform(hop: np.ndarray, hops: Iterable[int]) -> np.ndarray:
    """All used hops in one subset, (1, V, V) (ST-GCN, "uni-labeling")."""
    return normalize_columns(np.isin(hop, list(hops)).astype(float))[None]


def distance(hop: np.ndarray, hops: Iterable[int]) -> np.ndarray:
    """One subset per hop, normalized together, (number of hops, V, V) (ST-GCN, "distance partitioning")."""
    N = uniform(hop, hops)[0]
    return np.stack([np.where(hop == h, N, 0) for h in hops])


def stgcn_spatial(hop: np.ndarray, hops: Iterable[int], center: int) -> np.ndarray:
    """The diagonal, then for each other hop the sources that are not closer to the center and those that are,
    (2 * hops - 1, V, V).

    The distance to the center is truncated at max_hop too, and two infinite distances are equal: with max_hop 1 nearly
    all edges are in the second subset. Published weights depend on this (ST-GCN, "spatial configuration partitioning").
    """
    to_center = hop[:, center]
    closer = to_center[:, None] < to_center[None, :]
    diagonal, *further = distance(hop, hops)
    subsets = [diagonal]
    for N in further:
        subsets += [np.where(closer, 0, N), np.where(closer, N, 0)]
    return np.stack(subsets)


def k_adjacency(A: np.ndarray, k: int) -> np.ndarray:
    """1 for the pairs at distance exactly k and on the diagonal, (V, V) (MS-G3D)."""
    eye = np.eye(len(A))
    if k == 0:
        return eye
    within = [np.minimum(np.linalg.matrix_power(A + eye, d), 1) for d in (k, k - 1)]
    return within[0] - within[1] + eye


def disentangled(A: np.ndarray, num_scales: int) -> np.ndarray:
    """k_adjacency for k = 0 .. num_scales - 1, divided by the roots of its row and column sums, (num_scales, V, V)."""
    scales = np.stack([k_adjacency(A, k) for k in range(num_scales)])
    degree = scales.sum(axis=-1)
    return scales / np.sqrt(degree[:, :, None] * degree[:, None, :])


def windowed(A: np.ndarray, window: int) -> np.ndarray:
    """Joints of `window` frames, each connected to its neighbors in all of them, (window * V, window * V) (MS-G3D)."""
    return np.tile(A + np.eye(len(A)), (window, window))
