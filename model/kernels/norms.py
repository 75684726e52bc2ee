"""Batch norms, the sum with a residual path, and ReLU as Triton kernels for training on a GPU.

They work on matrices (L, C), whose rows are the positions (n, t, v) of a map with the channels last in memory. Columns
may be part of a wider matrix. Statistics are (3, C) float32: mean, 1 / sqrt(variance + eps) and unbiased variance. Sums
are computed in float32. Each output element is written by exactly one program, so the results are deterministic. All
are operators of PyTorch (`torch.library`): torch.compile calls them, and `benchmarks.traffic` counts them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE, CHANNELS, ROWS = 2048, 64, 1024  # elements and maximum channels of a tile, rows of a program that sums


@torch.library.custom_op("skeleton::statistics", mutates_args=(), schema="(Tensor[] xs, float eps) -> Tensor")
def statistics(xs: list[Tensor], eps: float) -> Tensor:
    """The statistics of each column of [xs], (L, C_i) each: (3, sum of C_i)."""
    L, widths = len(xs[0]), [x.shape[1] for x in xs]
    C, P = sum(widths), triton.cdiv(L, ROWS)
    parts, out = (xs[0].new_empty(shape, dtype=torch.float32) for shape in ((2, P, C), (3, C)))
    for x, part in zip(xs, parts.split(widths, dim=2), strict=True):
        sizes = _tile(x)
        _moments[P, triton.cdiv(x.shape[1], sizes["BC"])](x, x.stride(0), part, C, P, *x.shape, ROWS=ROWS, **sizes)
    sizes = _tile(out)
    _combine[(triton.cdiv(C, sizes["BC"]),)](parts, out, eps, P, L, C, ROWS=ROWS, **sizes)
    return out


@torch.library.custom_op(
    "skeleton::relu_of_norms",
    mutates_args=(),
    schema="(Tensor[] xs, Tensor[] norm, Tensor? residual, Tensor[] residual_norm) -> Tensor",
)
def relu_of_norms(xs: list[Tensor], norm: list[Tensor], residual: Tensor | None, residual_norm: list[Tensor]) -> Tensor:
    """ReLU(norm([xs]) + residual_norm(residual)): (L, C_i) each, (L, sum of C_i) -> (L, sum of C_i).

    norm: statistics, weight and bias. residual_norm: the same, or empty for the residual itself.
    """
    widths, C = [x.shape[1] for x in xs], sum(x.shape[1] for x in xs)
    y = xs[0].new_empty(len(xs[0]), C, dtype=_result(xs, residual))
    r = y if residual is None else residual  # not read if there is no residual
    mode = {"HAS_R": residual is not None, "NORM_R": bool(residual_norm)}
    columns = _columns(widths, r, y, *norm, *(residual_norm or norm))
    for x, (part, out, *vectors) in zip(xs, columns, strict=True):
        grid, sizes = _grid(x)
        _relu_of_norms[grid](x, part, out, *vectors, x.stride(0), part.stride(0), C, *x.shape, **mode, **sizes)
    return y


@torch.library.custom_op(
    "skeleton::masked_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor y, Tensor[] xs, Tensor norm, Tensor? residual, Tensor? residual_norm)"
    " -> (Tensor, Tensor)",
)
def masked_gradient(
    grad: Tensor, y: Tensor, xs: list[Tensor], norm: Tensor, residual: Tensor | None, residual_norm: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The gradient g before y = ReLU(...), (L, C), and the column sums of g, g [xs]' and, if given, g residual'.

    x' is x minus its mean, divided by its standard deviation. norm, residual_norm: statistics. The sums are (2, C) or
    (3, C), float32: the gradients of bias and weights of the norms.
    """
    C, widths, has_r = y.shape[1], [x.shape[1] for x in xs], residual is not None
    P = triton.cdiv(len(y), ROWS)
    masked, sums = torch.empty_like(y), y.new_empty(2 + has_r, P, C, dtype=torch.float32)
    columns = _columns(widths, grad, y, residual if has_r else y, masked, norm, residual_norm if has_r else norm, sums)
    for x, (g, out, r, *rest) in zip(xs, columns, strict=True):
        sizes, strides = _tile(x), (x.stride(0), g.stride(0), r.stride(0), C)
        grid = P, triton.cdiv(x.shape[1], sizes["BC"])
        _masked_gradient[grid](x, g, out, r, *rest, *strides, P, *x.shape, HAS_R=has_r, ROWS=ROWS, **sizes)
    return masked, sums.sum(1)


@torch.library.custom_op(
    "skeleton::norm_gradient",
    mutates_args=(),
    schema="(Tensor grad, Tensor[] xs, Tensor norm, Tensor weight, Tensor total, Tensor product) -> Tensor[]",
)
def norm_gradient(
    grad: Tensor, xs: list[Tensor], norm: Tensor, weight: Tensor, total: Tensor, product: Tensor
) -> list[Tensor]:
    """The gradient of [xs] from that of norm([xs]), (L, C) -> (L, C_i) each.

    norm: statistics; total and product: the column sums of g and g x' of `masked_gradient`.
    """
    widths, out = [x.shape[1] for x in xs], []
    columns = _columns(widths, grad, norm, weight, total, product)
    for x, (g, *vectors) in zip(xs, columns, strict=True):
        (grid, sizes), result = _grid(x), torch.empty_like(x, memory_format=torch.contiguous_format)
        _norm_gradient[grid](g, x, result, *vectors, g.stride(0), x.stride(0), norm.shape[1], *x.shape, **sizes)
        out.append(result)
    return out


@torch.library.custom_op(
    "skeleton::sum_of_gradients", mutates_args=(), schema="(Tensor[] grads, Tensor mean) -> Tensor"
)
def sum_of_gradients(grads: list[Tensor], mean: Tensor) -> Tensor:
    """The sum of one to three matrices (N T V, C), and of mean (N, V, C) / T for all frames."""
    L, C = grads[0].shape
    N, V, _ = mean.shape
    out = grads[0].new_empty(L, C, dtype=mean.dtype)
    three = (grads * 3)[:3]  # the kernel reads the first COUNT
    strides = [grad.stride(0) for grad in three]
    grid, sizes = _grid(out)
    _sum[grid](*three, mean, out, *strides, L // N, V, L, C, COUNT=len(grads), **sizes)
    return out


@statistics.register_fake
def _(xs: list[Tensor], eps: float) -> Tensor:
    return xs[0].new_empty(3, sum(x.shape[1] for x in xs), dtype=torch.float32)


@relu_of_norms.register_fake
def _(xs: list[Tensor], norm: list[Tensor], residual: Tensor | None, residual_norm: list[Tensor]) -> Tensor:
    return xs[0].new_empty(xs[0].shape[0], sum(x.shape[1] for x in xs), dtype=_result(xs, residual))


@masked_gradient.register_fake
def _(
    grad: Tensor, y: Tensor, xs: list[Tensor], norm: Tensor, residual: Tensor | None, residual_norm: Tensor | None
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(y), y.new_empty(2 + (residual is not None), y.shape[1], dtype=torch.float32)


@norm_gradient.register_fake
def _(grad: Tensor, xs: list[Tensor], norm: Tensor, weight: Tensor, total: Tensor, product: Tensor) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in xs]


@sum_of_gradients.register_fake
def _(grads: list[Tensor], mean: Tensor) -> Tensor:
    return grads[0].new_empty(grads[0].shape, dtype=mean.dtype)


def _columns(widths: list[int], *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The parts of all tensors for each matrix of these widths, which lie next to each other on the last axis."""
    return list(zip(*(x.split(widths, dim=-1) for x in tensors), strict=True))


def _result(xs: list[Tensor], residual: Tensor | None) -> torch.dtype:
    return xs[0].dtype if residual is None else torch.promote_types(xs[0].dtype, residual.dtype)


def _tile(x: Tensor) -> dict[str, int]:
    """Tile sizes for a matrix."""
    BC = min(CHANNELS, triton.next_power_of_2(x.shape[1]))
    return {"BL": min(TILE // BC, ROWS), "BC": BC}


def _grid(x: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """One program per tile."""
    sizes = _tile(x)
    return (triton.cdiv(x.shape[0], sizes["BL"]), triton.cdiv(x.shape[1], sizes["BC"])), sizes


@triton.jit
def _positions(first, L, C, BL: tl.constexpr, BC: tl.constexpr):
    """BL rows from `first` and the columns of this program: indices, and a mask of those that exist."""
    row, c = first + tl.arange(0, BL), tl.program_id(1) * BC + tl.arange(0, BC)
    return row.to(tl.int64)[:, None], c[None, :], (row < L)[:, None] & (c < C)[None, :]


@triton.jit
def _vector(start, c, C):
    """Values of columns c, 0 for those that do not exist."""
    return tl.load(start + c, mask=c < C, other=0.0).to(tl.float32)


@triton.jit
def _matrix(start, row, stride, c, inside):
    """Values of a tile, 0 for those that do not exist."""
    return tl.load(start + row * stride + c, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _normalized(x, statistics, row, stride, c, inside, C_total, C):
    """A tile of x minus its mean, divided by its standard deviation; 0 for elements that do not exist."""
    mean, inverse = _vector(statistics, c, C), _vector(statistics + C_total, c, C)
    return tl.where(inside, (_matrix(x, row, stride, c, inside) - mean) * inverse, 0.0)


@triton.jit
def _moments(x, stride, out, C_total, P, L, C, ROWS: tl.constexpr, BL: tl.constexpr, BC: tl.constexpr):
    """Mean, and sum of the squared differences from it, of ROWS rows: merged from tiles (Chan et al. 1979)."""
    p, mean, squares = tl.program_id(0), tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    for start in range(0, ROWS, BL):
        row, c, inside = _positions(p * ROWS + start, L, C, BL, BC)
        value = _matrix(x, row, stride, c, inside)
        before = tl.minimum(L - p * ROWS, start).to(tl.float32)
        count = tl.minimum(tl.maximum(L - p * ROWS - start, 0), BL).to(tl.float32)
        tile_mean = tl.sum(value, 0) / tl.maximum(count, 1.0)
        difference = tl.where(inside, value - tile_mean[None, :], 0.0)
        shift, share = tile_mean - mean, count / (before + count)
        squares += tl.sum(difference * difference, 0) + shift * shift * before * share
        mean += shift * share
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    tl.store(out + p * C_total + c, mean, mask=c < C)
    tl.store(out + (P + p) * C_total + c, squares, mask=c < C)


@triton.jit
def _combine(parts, out, eps, P, L, C, ROWS: tl.constexpr, BL: tl.constexpr, BC: tl.constexpr):
    """Statistics of all rows from the moments of every ROWS rows."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    mean, squares = tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    for first in range(0, P, BL):
        p = first + tl.arange(0, BL)
        count = tl.minimum(tl.maximum(L - p * ROWS, 0), ROWS).to(tl.float32)
        inside = (p < P)[:, None] & (c < C)[None, :]
        mean += tl.sum(count[:, None] / L * _matrix(parts, p[:, None], C, c[None, :], inside), 0)
    for first in range(0, P, BL):
        p = first + tl.arange(0, BL)
        count = tl.minimum(tl.maximum(L - p * ROWS, 0), ROWS).to(tl.float32)
        inside = (p < P)[:, None] & (c < C)[None, :]
        shift = _matrix(parts, p[:, None], C, c[None, :], inside) - mean[None, :]
        squares += tl.sum(_matrix(parts + P * C, p[:, None], C, c[None, :], inside) + count[:, None] * shift * shift, 0)
    tl.store(out + c, mean, mask=c < C)
    tl.store(out + C + c, 1.0 / tl.sqrt(squares / L + eps), mask=c < C)
    tl.store(out + 2 * C + c, squares / (L - 1), mask=c < C)


@triton.jit
def _relu_of_norms(
    x, r, y, norm, weight, bias, norm_r, weight_r, bias_r, stride_x, stride_r, C_total, L, C,
    HAS_R: tl.constexpr, NORM_R: tl.constexpr, BL: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One tile."""
    row, c, inside = _positions(tl.program_id(0) * BL, L, C, BL, BC)
    value = _normalized(x, norm, row, stride_x, c, inside, C_total, C) * _vector(weight, c, C) + _vector(bias, c, C)
    if NORM_R:
        value += _normalized(r, norm_r, row, stride_r, c, inside, C_total, C) * _vector(weight_r, c, C)
        value += _vector(bias_r, c, C)
    elif HAS_R:
        value += _matrix(r, row, stride_r, c, inside)
    value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + row * C_total + c, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _masked_gradient(
    x, grad, y, r, masked, norm, norm_r, sums, stride_x, stride_g, stride_r, C_total, P, L, C,
    HAS_R: tl.constexpr, ROWS: tl.constexpr, BL: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """The gradient before the ReLU of ROWS rows, and its sums."""
    p, total, product = tl.program_id(0), tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    product_r = tl.zeros((BC,), tl.float32)
    for start in range(0, ROWS, BL):
        row, c, inside = _positions(p * ROWS + start, L, C, BL, BC)
        g = tl.where(_matrix(y, row, C_total, c, inside) <= 0.0, 0.0, _matrix(grad, row, stride_g, c, inside))
        tl.store(masked + row * C_total + c, g.to(masked.dtype.element_ty), mask=inside)
        total += tl.sum(g, 0)
        product += tl.sum(g * _normalized(x, norm, row, stride_x, c, inside, C_total, C), 0)
        if HAS_R:
            product_r += tl.sum(g * _normalized(r, norm_r, row, stride_r, c, inside, C_total, C), 0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    tl.store(sums + p * C_total + c, total, mask=c < C)
    tl.store(sums + (P + p) * C_total + c, product, mask=c < C)
    if HAS_R:
        tl.store(sums + (2 * P + p) * C_total + c, product_r, mask=c < C)


@triton.jit
def _norm_gradient(
    grad, x, out, norm, weight, total, product, stride_g, stride_x, C_total, L, C,
    BL: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One tile of weight / sqrt(variance + eps) (g - mean(g) - x' mean(g x'))."""
    row, c, inside = _positions(tl.program_id(0) * BL, L, C, BL, BC)
    value = _normalized(x, norm, row, stride_x, c, inside, C_total, C) * (_vector(product, c, C) / L)
    value = _matrix(grad, row, stride_g, c, inside) - _vector(total, c, C) / L - value
    value *= _vector(weight, c, C) * _vector(norm + C_total, c, C)
    tl.store(out + row * C + c, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _sum(
    x, y, z, mean, out, stride_x, stride_y, stride_z, positions, V, L, C,
    COUNT: tl.constexpr, BL: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One tile of the sum of COUNT matrices and of the mean of every joint; positions: rows of one n, T V."""
    row, c, inside = _positions(tl.program_id(0) * BL, L, C, BL, BC)
    short = row.to(tl.int32)  # divisions of 64 bits are slow
    joint = short // positions * V + short % V
    value = _matrix(mean, joint, C, c, inside) / (positions // V) + _matrix(x, row, stride_x, c, inside)
    if COUNT > 1:
        value += _matrix(y, row, stride_y, c, inside)
    if COUNT > 2:
        value += _matrix(z, row, stride_z, c, inside)
    tl.store(out + row * C + c, value.to(out.dtype.element_ty), mask=inside)
