"""Joint, bone, K-bone and the motion of each: linear maps of joints (N, C, T, V, M) along the bones of a skeleton."""

import torch
from torch import Tensor

from feeders.device import constant


def relative(x: Tensor, center: int) -> Tensor:
    """Joints minus the center joint, which keeps its own coordinates (BlockGCN, Hyper-GCN): (N, C, T, V, M) -> same."""
    y = x - x[:, :, :, center : center + 1]
    y[:, :, :, center] = x[:, :, :, center]
    return y


def bone(x: Tensor, parents: tuple[int, ...], score: bool = False, kept: int | None = None) -> Tensor:
    """Bones: each joint minus the joint where its bone starts: (N, C, T, V, M) -> same; the root's bone is 0.

    kept: the root joint, if its bone is replaced by its coordinates (BlockGCN, Hyper-GCN).
    score: whether the last channel is a score. The score of a bone is then the mean of its two ends, and the root keeps
    its own (PYSKL). Otherwise, the last channel is subtracted like a coordinate (2s-AGCN, MS-G3D).
    """
    start = x.index_select(3, constant(parents, x.device))
    y = x - start
    if score:
        y[:, -1] = (x[:, -1] + start[:, -1]) / 2
    if kept is not None:
        y[:, :, :, kept] = x[:, :, :, kept]
    return y


def two_steps(parents: tuple[int, ...]) -> tuple[int, ...]:
    """The joint where the K-bone of every joint starts: the parent of its parent; for the root and its children, the
    joint itself, so their K-bones are 0 (the streams `k` of InfoGCN and ProtoGCN).
    """
    return tuple(v if parents[p] == p else parents[p] for v, p in enumerate(parents))


def motion(x: Tensor, last: Tensor | None = None, score: bool = False) -> Tensor:
    """Motion: the next frame minus this one, the last frame 0: (N, C, T, V, M) -> same.

    last: (N,) last frame of each clip; the motion is 0 from this frame on. score: whether the last channel is a score;
    the score of a motion is then the mean of its two frames (PYSKL).
    """
    y = torch.zeros_like(x)
    now, after = x[:, :, :-1], x[:, :, 1:]
    torch.sub(after, now, out=y[:, :, :-1])
    if score:
        y[:, -1, :-1] = (now[:, -1] + after[:, -1]) / 2
    if last is None:
        return y
    ended = torch.arange(x.shape[2], device=x.device) >= last[:, None]  # (N, T)
    return y.masked_fill(ended[:, None, :, None, None], 0)


def derive(
    x: Tensor,
    modality: str,
    parents: tuple[int, ...],
    last: Tensor | None = None,
    score: tuple[bool, bool] = (False, False),
    center: int | None = None,
    kbone_parents: tuple[int, ...] | None = None,
) -> Tensor:
    """One modality of the joints: (N, C, T, V, M) -> same. Bone motion is the motion of the bones.

    K-bones (`kbone`) are bones over two joints: they start at `kbone_parents`, by default as in `two_steps`. Bones of
    half-precision joints are subtracted in half precision and converted to float32 (PYSKL).

    last: as in `motion`. score: whether bones, and whether motions, treat the last channel as a score. center: joints
    are relative to this joint, and the root of the bones keeps its coordinates.
    """
    if "bone" in modality:
        root = None if center is None else next(joint for joint, parent in enumerate(parents) if joint == parent)
        start = (kbone_parents or two_steps(parents)) if modality.startswith("kbone") else parents
        x = bone(x, start, score[0], root)
        x = x.float() if x.dtype == torch.float16 else x
    elif center is not None:
        x = relative(x, center)
    if modality.endswith("motion"):
        x = motion(x, last, score[1])
    return x
