"""Conversion of 2-D poses in pixels to heatmaps (Duan et al., PoseConv3D, CVPR 2022), for whole batches.

Points are (N, 2, T, V, M): x and y of V joints of M persons; a coordinate of exactly 0 is missing. Scores are (N, T, V,
M). Sizes are (N, 2) int64: height and width of the image of each clip, so x ranges from 0 to width - 1. All frames of a
clip are transformed in the same way. Points are float32 before cropping and float64 afterwards.
"""

import math

import torch
from torch import Tensor

from feeders.device import constant

SIGMA = 0.6  # pixels
CHUNK = 1 << 22  # pixels of heatmaps that are computed at once, so that they fit into the CPU caches
SMALLEST = 10  # pixels; smaller persons are not cropped
PADDING = 0.25  # of the box around all persons
ASPECT, AREA = (3 / 4, 4 / 3), (0.56, 1.0)  # of a random crop
CANDIDATES = 10  # random crops; the first one that fits is used


def compact(
    points: Tensor, size: Tensor, ratio: tuple[float, float] | None = (1.0, 1.0), beyond: bool = True
) -> tuple[Tensor, Tensor]:
    """Crop the box around all persons; returns points and size of the crop (float32).

    ratio: minimum of height / width and of width / height of the box; None: any. beyond: the box may exceed the
    image. Images with persons smaller than 10 pixels are not cropped.
    """
    points = points.masked_fill(points.isnan(), 0)
    flat = points.flatten(2)
    low = flat.masked_fill(flat == 0, math.inf).amin(2)
    high = flat.masked_fill(flat == 0, -math.inf).amax(2)  # (N, 2)
    act = (high - low >= SMALLEST).all(1)
    low, high = (x.masked_fill(~act[:, None], 0) for x in (low, high))
    middle, half = (low + high).double() / 2, (high - low).double() / 2 * (1 + PADDING)
    if ratio is not None:
        a, b = half.unbind(1)
        b = torch.maximum(ratio[0] * a, b)
        half = torch.stack([torch.maximum(1 / ratio[1] * b, a), b], 1)
    begin, end = middle - half, middle + half
    if not beyond:
        begin, end = begin.clamp(min=0), torch.minimum(end, size.flip(1).double())
    begin, end = begin.trunc().long(), end.trunc().long()
    begin = begin.masked_fill(~act[:, None], 0)
    size = torch.where(act[:, None], (end - begin).flip(1), size)
    return torch.where(points != 0, points - begin[:, :, None, None, None].to(points.dtype), points), size


def resize(points: Tensor, size: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Scale images to one size without keeping their aspect ratio."""
    return scale(points, size, constant((height, width), size.device).expand_as(size))


def resize_short(points: Tensor, size: Tensor, short: int) -> tuple[Tensor, Tensor]:
    """Scale images so that the shorter side is `short`."""
    factor = short / size.amin(1, keepdim=True).double()
    return scale(points, size, (size * factor + 0.5).long())


def scale(points: Tensor, size: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """Scale images to the sizes `to` (N, 2); the factors are rounded to float32."""
    factor = (to.double() / size.double()).flip(1).float()
    return points * factor[:, :, None, None, None].to(points.dtype), to


def center_crop(points: Tensor, size: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Crop the square in the center; missing points are also moved."""
    begin = ((size - side) // 2).flip(1)
    return points.double() - begin[:, :, None, None, None], torch.full_like(size, side)


def random_crop(points: Tensor, size: Tensor, u: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Crop a random part of the image: u (N, 20) and place (N, 2) are uniform from 0 to 1.

    The first of ten random sizes that fits is used; if none fits, the largest square in the center. Missing points are
    also moved.
    """
    low, high = (math.log(x) for x in ASPECT)
    aspect = torch.exp(u[:, :CANDIDATES] * (high - low) + low)
    area = (u[:, CANDIDATES:] * (AREA[1] - AREA[0]) + AREA[0]) * size.prod(1, keepdim=True)
    sizes = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], 2).round().long()  # (N, 10, 2)
    fits = (sizes <= size[:, None]).all(2)
    first = fits.long().argmax(1)
    chosen = sizes.gather(1, first[:, None, None].expand(-1, 1, 2))[:, 0]
    square = size.amin(1, keepdim=True).expand_as(size)
    found = fits.any(1)[:, None]
    begin = (place * (size - chosen + 1).flip(1)).floor().long()
    begin = torch.where(found, begin, ((size - square) // 2).flip(1))
    return points.double() - begin[:, :, None, None, None], torch.where(found, chosen, square)


def flip(
    points: Tensor, score: Tensor, width: int, act: Tensor, left: tuple[int, ...], right: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Mirror images where `act` (N,) is true: the points that are not missing, and the left and right joints."""
    x = points[:, 0]
    mirrored = torch.stack([torch.where(x != 0, width - x, x), points[:, 1]], 1)
    order = constant(swapped(points.shape[3], left, right), points.device)
    mirrored, exchanged = mirrored.index_select(3, order), score.index_select(2, order)
    return (
        torch.where(act[:, None, None, None, None], mirrored, points),
        torch.where(act[:, None, None, None], exchanged, score),
    )


def swapped(count: int, left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers 0 to count - 1 with those of `left` and `right` exchanged in pairs."""
    pairs = dict(zip((*left, *right), (*right, *left), strict=True))
    return tuple(pairs.get(i, i) for i in range(count))


def mirror_maps(maps: Tensor, left: tuple[int, ...], right: tuple[int, ...]) -> Tensor:
    """Mirror heatmaps (N, K, T, H, W) and exchange the channels of the left and right side."""
    return maps.index_select(1, constant(swapped(maps.shape[1], left, right), maps.device)).flip(-1)


def joint_maps(
    points: Tensor, score: Tensor, height: int, width: int, threshold: float, sigma: float = SIGMA
) -> Tensor:
    """A normal distribution at each joint times its score, the maximum over persons -> (N, V, T, H, W) float32.

    Joints with scores below the threshold are omitted. A map is limited to a rectangle of 3 sigma around the joint.
    """
    points, score = points.transpose(2, 3), score.masked_fill(score < threshold, 0).float().transpose(1, 2)
    x, y = (profile(points[:, i], points[:, i], size, sigma) for i, size in enumerate((width, height)))
    N, V, T, M = score.shape
    maps = x.new_zeros(N, V, T, height, width)
    for m in range(M):
        if maps.is_cuda or bool(score[..., m].any()):
            drawn = (y[..., m, :] * score[..., m, None])[..., None] * x[..., m, None, :]
            torch.maximum(maps, drawn, out=maps)
    return maps


def profile(low: Tensor, high: Tensor, size: int, sigma: float) -> Tensor:
    """exp(-(i - low)^2 / 2 sigma^2) for pixels i around the points from low to high, else 0: (...) -> (..., size)."""
    i = torch.arange(size, device=low.device)
    distance = i - low.float()[..., None]
    return torch.exp(-(distance**2) / (2 * sigma**2)) * inside(low, high, size, sigma)


def inside(low: Tensor, high: Tensor, size: int, sigma: float) -> Tensor:
    """Whether pixels are at most 3 sigma from the points from low to high, with truncated bounds: (..., size)."""
    i, radius = torch.arange(size, device=low.device), 3 * sigma
    begin, end = (low.double() - radius).trunc(), (high.double() + radius).trunc() + 1
    return (i >= begin[..., None]) & (i < end[..., None])


def limb_maps(
    points: Tensor,
    score: Tensor,
    limbs: tuple[tuple[int, int], ...],
    height: int,
    width: int,
    threshold: float,
    sigma: float = SIGMA,
) -> Tensor:
    """A normal distribution of the distance to each limb, times the lower score of its two joints; the maximum over
    persons -> (N, K, T, H, W) float32.

    Limbs with a joint whose score is below the threshold are omitted. If a limb is shorter than a pixel, its first
    joint is drawn instead.
    """
    N, _, T, _, M = points.shape
    start, end = (constant(joints, points.device) for joints in zip(*limbs, strict=True))
    a, b = (points.transpose(1, 2).flatten(0, 1).index_select(2, joints) for joints in (start, end))  # (N T, 2, K, M)
    of_a, of_b = (score.flatten(0, 1).index_select(1, joints) for joints in (start, end))  # (N T, K, M)
    value = torch.minimum(of_a, of_b)
    drawn = value >= threshold
    short = ((a - b) ** 2).sum(1) < 1
    value = torch.where(short, of_a, value).float() * drawn
    b = torch.where(short[:, None], a, b)
    maps = a.new_zeros(N * T, len(limbs), height, width, dtype=torch.float32)
    step = max(1, CHUNK // (len(limbs) * height * width))
    for m in range(M):
        for part in torch.arange(N * T).split(step):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            if maps.is_cuda or bool(value[rows, :, m].any()):
                drawn_limbs = segment(a[rows, ..., m], b[rows, ..., m], value[rows, :, m], height, width, sigma)
                maps[rows] = torch.maximum(maps[rows], drawn_limbs)
    return maps.view(N, T, len(limbs), height, width).transpose(1, 2)


def segment(a: Tensor, b: Tensor, value: Tensor, height: int, width: int, sigma: float) -> Tensor:
    """Heatmaps of the segments from a to b (B, 2, K) -> (B, K, height, width), within their rectangles."""
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    within_x, within_y = (inside(low[:, i], high[:, i], size, sigma) for i, size in enumerate((width, height)))
    d = (b - a).float()
    a = a.float()
    x = torch.arange(width, device=a.device) - a[:, 0, :, None]  # (B, K, W)
    y = torch.arange(height, device=a.device) - a[:, 1, :, None]
    dx, dy = d[:, 0, :, None], d[:, 1, :, None]
    square = (dx**2 + dy**2).masked_fill((d == 0).all(1)[..., None], 1)
    share = (x * dx / square)[..., None, :] + (y * dy / square)[..., :, None]  # along the segment
    share = share.clamp_(0, 1)
    distance = (x[..., None, :] - share * dx[..., None]) ** 2 + (y[..., :, None] - share * dy[..., None]) ** 2
    maps = distance.mul_(-1 / (2 * sigma**2)).exp_()
    return maps.mul_((within_x * value[..., None])[..., None, :]).mul_(within_y[..., :, None])
