"""Normalization and augmentation of whole clips as in PYSKL: pure functions of (N, C, T, V, M), on any device."""

import torch
from torch import Tensor

from feeders.transforms import apply_matrix, choose_frames, rotation

CENTER_25 = 1  # middle of the spine, the center of NTU's skeletons; others are centered at their last joint
SPINE, SHOULDERS = (0, 1), (8, 4)
TINY = 1e-6  # smaller vectors and angles count as zero


def keep_main_person(x: Tensor) -> tuple[Tensor, Tensor]:
    """Drop the frames without the main person and put it first: (N, C, T, V, M) -> same, length (N,).

    The main person is the one who is present in more frames; ties: the first. A clip of zeros has length 0. Frames
    after the end of a clip are zero.
    """
    seen = (x.abs() > 1e-8).permute(0, 2, 4, 1, 3).flatten(3).any(3)  # (N, T, M)
    if x.shape[-1] > 1:
        count = seen.sum(1)
        swap = count[:, 1] > count[:, 0]
        x = torch.where(swap[:, None, None, None, None], x.flip(4), x)
        seen = torch.where(swap[:, None, None], seen.flip(2), seen)
    main = seen[:, :, 0]
    length = main.sum(1)
    order = (~main).long().argsort(stable=True, dim=1)
    inside = torch.arange(x.shape[2], device=x.device) < length[:, None]
    return choose_frames(x, order.masked_fill(~inside, -1)), length


def center(x: Tensor) -> Tensor:
    """Joints that are not zero, relative to the first person's center in the first frame: (N, 3, T, V, M) -> same."""
    origin = x[:, :, :1, CENTER_25 if x.shape[3] == 25 else -1, :1]
    return torch.where((x != 0).any(1, keepdim=True), x - origin[:, :, :, None], 0)


def align(x: Tensor) -> Tensor:
    """Rotate the first person's spine to z, then the shoulders to x, by the first frame: (N, 3, T, V, M) -> same."""
    for (start, end), axis in ((SPINE, 2), (SHOULDERS[::-1], 0)):
        line = (x[:, :, 0, end, 0] - x[:, :, 0, start, 0]).double()
        target = torch.eye(3, dtype=line.dtype, device=x.device)[axis].expand_as(line)
        x = apply_matrix(rotation_onto(line, target).to(x.dtype), x)
    return x


def rotation_onto(u: Tensor, v: Tensor) -> Tensor:
    """Rotations of the direction u to v: (N, 3) twice -> (N, 3, 3); the identity where u is zero or parallel to v."""
    axis = torch.linalg.cross(u, v)
    cosine = (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1)).clamp(min=1e-300)
    angle = torch.where(u.abs().sum(1) < TINY, 0, cosine.clamp(-1, 1).arccos())
    fixed = (axis.abs().sum(1) < TINY) | (angle.abs() < TINY)
    nx, ny, nz = (axis / axis.norm(dim=1, keepdim=True).clamp(min=1e-300)).T
    zero = torch.zeros_like(nx)
    cross = torch.stack([zero, -nz, ny, nz, zero, -nx, -ny, nx, zero], 1).view(-1, 3, 3)
    angle = angle[:, None, None]
    matrix = torch.eye(3, dtype=u.dtype, device=u.device) + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)
    return torch.where(fixed[:, None, None], torch.eye(3, dtype=u.dtype, device=u.device), matrix)


def normalize_3d(x: Tensor, align_spine: bool = True) -> tuple[Tensor, Tensor]:
    """PreNormalize3D: frames of the main person, centered and aligned: (N, 3, T, V, M) -> same, length (N,)."""
    x, length = keep_main_person(x)
    x = center(x)
    return (align(x) if align_spine else x), length


def normalize_2d(x: Tensor, image: Tensor, threshold: float = 0.01) -> Tensor:
    """PreNormalize2D: pixels to -1 .. 1, joints with a score up to the threshold to 0: (N, 3, T, V, M) -> same.

    The channels are x, y, score. image: (N, 2) height and width in pixels.
    """
    place, score = x[:, :2], x[:, 2:]
    half = image.flip(1).to(x.dtype)[:, :, None, None, None] / 2
    return torch.cat([torch.where(score > threshold, (place - half) / half, 0), score], 1)


def normalize_2d_in_place(x: Tensor, image: Tensor, present: Tensor) -> Tensor:
    """PreNormalize2D of mmaction2: pixels to -1 .. 1 in the precision of the data, independent of the scores.

    x, y, score (N, 3, T, V, M) -> same. image: (N, 2) height and width in pixels. present: (N, M) persons; others stay
    zero.
    """
    half = (image.flip(1) / 2).to(x.dtype)[:, :, None, None, None]
    place = ((x[:, :2] - half) / half).masked_fill(~present[:, None, None, None], 0)
    return torch.cat([place, x[:, 2:]], 1)


def normalize_2d_fixed(x: Tensor, present: Tensor) -> Tensor:
    """PoseNormalize of mmaction2 0.x for images of 1920 x 1080: x, y, score (N, 3, T, V, M) -> same.

    present: (N, M) persons; others stay zero.
    """
    y = torch.stack([(x[:, 0] - 960) / 1920, (x[:, 1] - 540) / 1080, x[:, 2] - 0.5], 1)
    return y.masked_fill(~present[:, None, None, None], 0)


def add_middle_joints(x: Tensor) -> Tensor:
    """Append the three joints of `graph.coco20` to those of COCO: (N, C, T, 17, M) -> (N, C, T, 20, M)."""
    hips, shoulders = ((x[:, :, :, left] + x[:, :, :, left + 1]) / 2 for left in (11, 5))
    return torch.cat([x, torch.stack([hips, (hips + shoulders) / 2, shoulders], 3)], 3)


def random_scale(x: Tensor, factor: Tensor) -> Tensor:
    """Each channel times its own factor (N, C): (N, C, T, V, M) -> same."""
    return x * factor.to(x.dtype)[:, :, None, None, None]


def random_rotate(x: Tensor, angles: Tensor) -> Tensor:
    """RandomRot of PYSKL, with matrices in float64: (N, 3, T, V, M) about x, y, z by (N, 3) radians -> same."""
    rx, ry, rz = rotation(angles.double())
    return apply_matrix((rz @ ry @ rx).to(x.dtype), x)


def gaussian_noise(x: Tensor, sigma: float, normal: Tensor, direction: Tensor) -> Tensor:
    """Noise proportional to the size of each person in each frame (N, C, T, V, M) -> same.

    normal: (N, T, V, M), lengths in units of sigma times the diagonal of the box of the joints (0 if its low corner is
    the origin); direction: (N, C, T, V, M) in the cube -1 .. 1.
    """
    low, high = x.amin(3, keepdim=True), x.amax(3, keepdim=True)
    size = (high - low).norm(dim=1, keepdim=True)
    size = torch.where((low**2).sum(1, keepdim=True) > 1e-4, size, 0)
    direction = direction / direction.norm(dim=1, keepdim=True)
    return x + (normal[:, None] * sigma * size * direction).to(x.dtype)
