"""Transforms of SkateFormer (Do, Kim, ECCV 2024). Clips are (N, C, T, V, M); `act` (N,) bool selects the clips that are
changed."""

import math

import torch
from torch import Tensor

from feeders.device import constant
from feeders.transforms import apply_matrix, blend, resize_map, rotation

EPSILON = 1e-5  # added to bone lengths before division


def crop(valid: Tensor, p: Tensor | float, window: int) -> Tensor:
    """Length of a crop: a share p of the valid frames, at least `window`, at most all: (N,) -> (N,)."""
    return (valid.double() * p).floor().long().clamp(min=window).minimum(valid)


def pick_or_resize(begin: Tensor, length: Tensor, picked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The `picked` frames (N, T) of a crop, given by `begin` and `length` (N,) -> earlier frame, later frame, weight of
    the later frame, (N, T) each.

    Crops of fewer than T frames are resized linearly instead.
    """
    early, late, weight = resize_map(length, picked.shape[1])
    short, begin = (length < picked.shape[1])[:, None], begin[:, None]
    early, late = (torch.where(short, frame, picked) + begin for frame in (early, late))
    return early, late, weight.masked_fill(~short, 0)


def frame_numbers(early: Tensor, late: Tensor, weight: Tensor) -> Tensor:
    """The numbers of blended frames: (N, T) each -> (N, T) float32."""
    early, late = (frame.float()[:, None, :, None, None] for frame in (early, late))
    return blend(early, late, weight)[:, 0, :, 0, 0]


def times(frame: Tensor, length: Tensor) -> Tensor:
    """Frame numbers as times from -1, the start of a clip, to 1, its end: (N, T), (N,) -> (N, T) float32."""
    return 2 * frame.float() / length[:, None] - 1


def where(act: Tensor, changed: Tensor, x: Tensor) -> Tensor:
    """Clips `changed` where `act`, x elsewhere."""
    return torch.where(act.view(-1, 1, 1, 1, 1), changed, x)


def linear_map(shear: Tensor, axis: Tensor, degrees: Tensor, scale: Tensor, act: Tensor) -> Tensor:
    """The matrix of shearing, then rotating about one axis, then scaling every axis: -> (N, 3, 3) float64.

    shear (N, 6): the off-diagonal entries, first the first one of each row, then the second one. axis (N,) and degrees
    (N,): of the rotation. scale (N, 3). act (N, 3): which of the three steps are applied.
    """
    one = torch.ones_like(degrees)
    a0, a1, a2, b0, b1, b2 = torch.where(act[:, :1], shear, 0).unbind(1)
    sheared = torch.stack([one, a0, b0, a1, one, b1, a2, b2, one], 1).view(-1, 3, 3)
    angle = torch.where(act[:, 1], degrees * math.pi / 180, 0)
    rx, ry, rz = rotation(angle[:, None] * (torch.arange(3, device=axis.device) == axis[:, None]))
    scaled = torch.diag_embed(torch.where(act[:, 2:], scale, 1))
    return scaled @ rz @ ry @ rx @ sheared


def transform(x: Tensor, matrix: Tensor) -> Tensor:
    """Linear maps (N, 3, 3) of the coordinates, in float64."""
    return apply_matrix(matrix, x.double())


def mirror(x: Tensor, left: tuple[int, ...], right: tuple[int, ...], act: Tensor) -> Tensor:
    """Exchange left and right joints without changing their coordinates."""
    order = list(range(x.shape[3]))
    for i, j in zip(left, right, strict=True):
        order[i], order[j] = j, i
    return where(act, x.index_select(3, constant(tuple(order), x.device)), x)


def tree_levels(parents: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The joints of a tree by their distance from the root, which is its own parent."""
    levels = [tuple(joint for joint, parent in enumerate(parents) if joint == parent)]
    while sum(map(len, levels)) < len(parents):
        levels.append(tuple(j for j, parent in enumerate(parents) if parent in levels[-1] and j != parent))
    return levels


def bone_lengths_of(x: Tensor, reference: Tensor, parents: tuple[int, ...]) -> Tensor:
    """Bones in the directions of x with the lengths of a reference, from the root joint of the reference outwards."""
    start = constant(parents, x.device)
    bone, other = (y - y.index_select(3, start) for y in (x, reference))
    length, wanted = (y.norm(dim=1, keepdim=True) + EPSILON for y in (bone, other))
    bone = bone * (wanted / length)
    y = torch.empty_like(x)
    (root,), *levels = tree_levels(parents)
    y[:, :, :, root] = reference[:, :, :, root]
    for level in levels:
        joints, before = constant(level, x.device), constant(tuple(parents[joint] for joint in level), x.device)
        placed = y.index_select(3, before) + bone.index_select(3, joints)
        y.index_copy_(3, joints, placed)
    return y
