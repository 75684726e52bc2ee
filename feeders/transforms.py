"""Transforms of whole batches: pure functions of tensors, on any device; random numbers are arguments.

Transforms that select frames (crop, shift, choose, pad, sample) return a map `time` (N, T) of frame numbers, -1 for an
empty frame; clips are read through it once. Transforms that change coordinates work on (N, C, T, V, M).
"""

import math

import torch
from torch import Tensor

MIN_CROP = 64  # frames; CTR-GCN does not crop clips below this length, for any window size


def crop_center(valid: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The middle share p of the valid frames: (N,) -> begin (N,), length (N,), in frames (CTR-GCN, testing)."""
    begin = ((1 - p) * valid.double() / 2).long()
    return begin, valid - 2 * begin


def crop_random(valid: Tensor, p: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """A share p of the valid frames at a random position (CTR-GCN, training): (N,) each -> begin (N,), length (N,).

    In frames; at least 64 frames, at most all. u in [0, 1) selects one of the possible positions.
    """
    length = (valid * p).floor().long().clamp(min=MIN_CROP).minimum(valid)
    return (u * (valid - length + 1)).long(), length


def resize_map(length: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Linear resizing of `length` frames to `window` with half-pixel centers, as in torch's `interpolate`.

    (N,) -> earlier frame, later frame (N, window) int64, weight of the later one (N, window) float32.
    """
    center = torch.arange(window, dtype=torch.float64, device=length.device) + 0.5
    scale = (length.float() / window).double()  # rounded to float32 here and below, like torch's fused multiply-add
    place = (scale[:, None] * center - 0.5).clamp(min=0).float()
    early = place.long().minimum(length[:, None] - 1)
    return early, (early + 1).minimum(length[:, None] - 1), place - early


def blend(early: Tensor, late: Tensor, weight: Tensor) -> Tensor:
    """Interpolate between two frames: (N, C, T, V, M) twice, weight of the later frame (N, T) -> (N, C, T, V, M).

    `addcmul` rounds once, like torch's `interpolate`, so the results are bit-equal. A separate product and sum would
    round twice.
    """
    w = weight[:, None, :, None, None]
    return (late * w).addcmul_(early, 1 - w)


def rotation(angles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation matrices by minus the angle about x, y and z: angles (N, 3) in radians -> three (N, 3, 3)."""
    one, zero = torch.ones_like(angles[:, 0]), torch.zeros_like(angles[:, 0])
    (cx, cy, cz), (sx, sy, sz) = angles.cos().T, angles.sin().T

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    x = matrix((one, zero, zero), (zero, cx, sx), (zero, -sx, cx))
    y = matrix((cy, zero, -sy), (zero, one, zero), (sy, zero, cy))
    z = matrix((cz, sz, zero), (-sz, cz, zero), (zero, zero, one))
    return x, y, z


def apply_matrix(matrix: Tensor, x: Tensor) -> Tensor:
    """One linear map of the coordinates for each clip: (N, C, C), (N, C, T, V, M) -> (N, C, T, V, M)."""
    matrix, rows = matrix.to(x.dtype), x.flatten(2)
    if not x.is_cuda:
        return (matrix @ rows).view(x.shape)
    # on a GPU, matrix products may use TensorFloat-32, and another kernel for another number of clips
    y = matrix[:, :, :1] * rows[:, :1]
    for c in range(1, rows.shape[1]):
        y.addcmul_(matrix[:, :, c : c + 1], rows[:, c : c + 1])
    return y.view(x.shape)


def random_rotation(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate each clip about the origin by three angles (N, 3) in radians, in float32: (N, 3, T, V, M) -> same."""
    rx, ry, rz = rotation(angles.float())

    def product(a: Tensor, b: Tensor) -> Tensor:
        return apply_matrix(a, b[..., None, None])[..., 0, 0]

    return apply_matrix(product(product(rz, ry), rx), x)


def choose_map(T: int, size: int, begin: Tensor) -> Tensor:
    """A window of `size` of T frames, or T frames in a longer window of empty frames: begin (N,) -> time (N, size)."""
    inside = torch.arange(size, device=begin.device)
    if T >= size:
        return begin[:, None] + inside
    time = inside - begin[:, None]
    return time.masked_fill((time < 0) | (time >= T), -1)


def shift_map(first: Tensor, last: Tensor, T: int, begin: Tensor) -> Tensor:
    """The frames first .. last-1 moved to `begin`, all others empty: (N,) each -> time (N, T)."""
    time = torch.arange(T, device=begin.device) - begin[:, None] + first[:, None]
    return time.masked_fill((time < first[:, None]) | (time >= last[:, None]), -1)


def pad_map(length: Tensor, window: int, pad: str) -> Tensor:
    """`window` frames of shorter clips, padded with empty frames ("zero") or looped ("repeat"): (N,) -> (N, window)."""
    time = torch.arange(window, device=length.device).expand(len(length), window)
    if pad == "repeat":
        return time % length[:, None].clamp(min=1)
    return time.masked_fill(time >= length[:, None], -1)


def extent(x: Tensor) -> tuple[Tensor, Tensor]:
    """First frame that is not empty and one after the last: (N, C, T, V, M) -> (N,), (N,); (0, 0) for an empty clip."""
    full = (x != 0).permute(0, 2, 1, 3, 4).flatten(2).any(2)
    first = full.long().argmax(1)
    last = full.shape[1] - full.flip(1).long().argmax(1)
    return first, torch.where(full.any(1), last, 0)


def random_move(x: Tensor, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Rotate, scale and move x and y of each clip, by values that change evenly from first to last frame (ST-GCN).

    angle (N, 2) degrees, scale (N, 2), shift (N, 2, 2) as (x or y, first or last). Missing joints and empty frames move
    as well, as in the published code. (N, C, T, V, M) -> same.
    """
    T = x.shape[2]
    ramp = torch.linspace(0, 1, T, dtype=torch.float64, device=x.device)

    def over_time(ends: Tensor) -> Tensor:
        values = ends[..., :1] + (ends[..., 1:] - ends[..., :1]) * ramp
        return values.to(x.dtype)[..., None, None]  # (N, ..., T, 1, 1)

    radians = over_time(angle.double() * math.pi / 180)
    c, s = radians.cos() * over_time(scale), radians.sin() * over_time(scale)
    dx, dy = over_time(shift[:, 0]), over_time(shift[:, 1])
    y = x.clone()
    y[:, 0] = c * x[:, 0] - s * x[:, 1] + dx
    y[:, 1] = s * x[:, 0] + c * x[:, 1] + dy
    return y


def min_max(x: Tensor) -> Tensor:
    """Scale each axis to -1 .. 1 by its extent in the whole clip (CTR-GCN on NW-UCLA): (N, C, T, V, M) -> same.

    An axis without extent becomes 0 everywhere (the published code divides by zero). Persons of zeros, who are absent,
    do not count and stay 0, unless all persons are absent.
    """
    if x.shape[4] == 1:
        low, high = x.amin((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True)
        return torch.where(high > low, (x - low) / (high - low) * 2 - 1, 0)
    absent = (x == 0).all(3, keepdim=True).all(2, keepdim=True).all(1, keepdim=True)  # (N, 1, 1, 1, M)
    absent &= ~absent.all(4, keepdim=True)
    low = x.masked_fill(absent, math.inf).amin((2, 3, 4), keepdim=True)
    high = x.masked_fill(absent, -math.inf).amax((2, 3, 4), keepdim=True)
    return torch.where((high > low) & ~absent, (x - low) / (high - low) * 2 - 1, 0)


def linspace_map(length: Tensor, window: int) -> Tensor:
    """Evenly spread frames from the first to the last: (N,) -> time (N, window)."""
    return torch.arange(window, device=length.device) * (length[:, None] - 1) // max(window - 1, 1)


def choose_frames(x: Tensor, time: Tensor) -> Tensor:
    """Frames of clips in memory: (N, C, T, V, M), time (N, T') with -1 for an empty frame -> (N, C, T', V, M)."""
    clip = torch.arange(len(x), device=x.device)[:, None]
    y = x.transpose(1, 2)[clip, time.clamp(min=0)]  # (N, T', C, V, M)
    return y.masked_fill_((time < 0)[:, :, None, None, None], 0).transpose(1, 2)  # (N, C, T', V, M)


def drop(
    x: Tensor, chosen: Tensor, axis: Tensor | None = None, frame: Tensor | None = None, joint: Tensor | None = None
) -> Tensor:
    """Set the chosen clips to 0 where axis, frame and joint are all marked (Hyper-GCN): (N, C, T, V, M) -> same.

    chosen (N, 1), axis (N, C), frame (N, T), joint (N, V), all bool; None marks everything.
    """
    marked = chosen[:, :, None, None, None]
    for mask, place in ((axis, 1), (frame, 2), (joint, 3)):
        if mask is not None:
            marked = marked & mask.view(-1, *(mask.shape[1] if place == i else 1 for i in range(1, 5)))
    return x.masked_fill(marked, 0)


def drop_stretches(x: Tensor, chosen: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Set the chosen joints to 0 from `begin` to `end` of the clip: (N, C, T, V, M), (N, V) -> same.

    begin, end: shares of the clip from 0 to 1; chosen: bool.
    """
    time = ((torch.arange(x.shape[2], device=x.device) + 0.5) / x.shape[2])[:, None]
    missing = chosen[:, None] & (begin[:, None] <= time) & (time < end[:, None])  # (N, T, V)
    return x.masked_fill(missing[:, None, :, :, None], 0)


def smallest(u: Tensor, k: Tensor) -> Tensor:
    """Mark the k smallest numbers of each row, a random choice if they are random: (N, n), (N, 1) -> (N, n) bool."""
    return u.argsort(1).argsort(1) < k
