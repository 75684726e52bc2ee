"""The products of CTR-GCN with its topologies as Triton kernels for training on a GPU.

The topologies and correlations are never written to GPU memory; the backward pass recomputes them. Maps have the
channels last. Each output element is written by exactly one program, so the results are deterministic. Both passes are
operators of PyTorch (`torch.library`): torch.compile calls them, and `benchmarks.traffic` counts them.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 5):  # no products of fewer than 16 rows
    raise ImportError(f"expected triton 3.5 or later, which is part of PyTorch 2.9, got {triton.__version__}")

CHANNELS, FRAMES, TARGETS = 8, 64, 8  # maximum tile sizes of a program; chosen to fit a Hopper GPU, not tuned
INPUTS = "Tensor weight, Tensor psi, Tensor phi, Tensor A, Tensor T, Tensor bias"


@torch.library.custom_op("skeleton::refined_products", mutates_args=(), schema=f"({INPUTS}) -> Tensor")
def refined_products(weight: Tensor, psi: Tensor, phi: Tensor, A: Tensor, T: Tensor, bias: Tensor) -> Tensor:
    """Z_c = sum_k R_kc (T_kc + b_kc) with R_kc[i, j] = sum_r W_kcr M_kr[i, j], the sum over r < R + 2.

    M_kr[i, j] = tanh(psi_kr[i] - phi_kr[j]) for r < R, 1 for r = R, and A_k[i, j] for r = R + 1. W_kcr must be 1 for
    r = R + 1. W (K, C, R + 2), psi and phi (N, K, R, V), A (K, V, V), T (N, T, V, K, C), b (K, C) -> (N, T, V, C).

    All tensors have the same data type. Sums are computed in float32. The factors of matrix products are truncated to
    TF32 if this data type has 16 bits, or with `tf32: true`. The reference is `ops.refined_products`.
    """
    N, frames, V, _, C = T.shape
    Z, sizes = T.new_empty(N, frames, V, C), constants(psi, T)
    grid = N, triton.cdiv(C, CHANNELS), triton.cdiv(frames, sizes["BT"])
    inputs = (x.contiguous() for x in (weight, psi, phi, A, T, bias))
    _products[grid](*inputs, Z, C, frames, BC=CHANNELS, num_warps=8, **sizes)
    return Z


@torch.library.custom_op(
    "skeleton::refined_products_backward",
    mutates_args=(),
    schema=f"({INPUTS}, Tensor grad) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def gradients(
    weight: Tensor, psi: Tensor, phi: Tensor, A: Tensor, T: Tensor, bias: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of the inputs of `refined_products` from the gradient of Z; that of W is 0 for r = R + 1."""
    weight, psi, phi, A, T, bias, grad = (x.contiguous() for x in (weight, psi, phi, A, T, bias, grad))
    (N, frames, V, K, C), R, sizes = T.shape, psi.shape[2], constants(psi, T)
    grid = N, triton.cdiv(C, CHANNELS), triton.cdiv(frames, sizes["BT"])
    tiles, padded = triton.cdiv(V, TARGETS), max(16, triton.next_power_of_2(R + 2))

    def partial(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=T.device)

    grad_T, grad_bias = torch.empty_like(T), partial(N, grid[2], K, C)
    _grad_T[grid](weight, psi, phi, A, grad, grad_T, grad_bias, C, frames, BC=CHANNELS, num_warps=8, **sizes)
    grad_weight, grad_A = partial(N, tiles, K, C, R + 2), partial(N, K, V, V)
    grad_psi, grad_phi = torch.empty_like(psi), partial(N, tiles, K, R, V)
    tensors = weight, psi, phi, A, T, bias, grad, grad_weight, grad_psi, grad_phi, grad_A
    _grad_terms[N, K, tiles](*tensors, C, frames, BC=16, BI=TARGETS, RP=padded, num_warps=8, **(sizes | {"BT": 16}))
    sums = grad_weight.sum((0, 1)), grad_psi, grad_phi.sum(1), grad_A.sum(0), grad_T, grad_bias.sum((0, 1))
    return tuple(x.to(T.dtype) for x in sums)


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


@refined_products.register_fake
def _(weight: Tensor, psi: Tensor, phi: Tensor, A: Tensor, T: Tensor, bias: Tensor) -> Tensor:
    return T.new_empty(T.shape[:3] + T.shape[4:])


@gradients.register_fake
def _(
    weight: Tensor, psi: Tensor, phi: Tensor, A: Tensor, T: Tensor, bias: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return tuple(x.new_empty(x.shape) for x in (weight, psi, phi, A, T, bias))


refined_products.register_autograd(lambda ctx, grad: gradients(*ctx.saved_tensors, grad), setup_context=_save_inputs)


def constants(psi: Tensor, T: Tensor) -> dict[str, Any]:
    """The constants that the kernels are compiled for; VP is V padded to a power of two."""
    _, frames, V, K, _ = T.shape
    padded = {"VP": max(16, triton.next_power_of_2(V)), "BT": max(16, min(FRAMES, triton.next_power_of_2(frames)))}
    tf32 = T.itemsize < 4 or torch.backends.cuda.matmul.allow_tf32
    return {"K": K, "R": psi.shape[2], "V": V, "PRECISION": "tf32" if tf32 else "ieee", **padded}


@triton.jit
def _tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def _offsets(n, c, k, v, t, C, frames, K: tl.constexpr, V: tl.constexpr):
    """Offsets of channels c, joints v and frames t of subset k in a map (N, T, V, K, C), and a mask of those that
    exist."""
    c, v, t = c[:, None, None], v[None, :, None], t[None, None, :]
    return (((n * frames + t) * V + v) * K + k) * C + c, (c < C) & (v < V) & (t < frames)


@triton.jit
def _load(start, n, c, k, v, t, C, frames, K: tl.constexpr, V: tl.constexpr):
    """The values at `_offsets`, 0 where the mask is false: (channels, joints, frames)."""
    offsets, inside = _offsets(n, c, k, v, t, C, frames, K, V)
    return tl.load(start + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _load_T(T, bias, n, c, k, v, t, C, frames, K: tl.constexpr, V: tl.constexpr):
    """T + b. For joints and frames that do not exist, the other factor of each product is 0."""
    b = tl.load(bias + k * C + c, mask=c < C, other=0.0).to(tl.float32)
    return _load(T, n, c, k, v, t, C, frames, K, V) + b[:, None, None]


@triton.jit
def _topology(
    weight, psi, phi, A, n, c, k, C,
    K: tl.constexpr, R: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, BC: tl.constexpr, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """R_kc of channels c, or its transpose: (BC, VP, VP), 0 for joints that do not exist."""
    a, b = tl.arange(0, VP)[:, None], tl.arange(0, VP)[None, :]
    target, source = (b, a) if TRANSPOSED else (a, b)
    inside, weights = (a < V) & (b < V), weight + (k * C + c) * (R + 2)
    total = tl.load(A + (k * V + target) * V + source, mask=inside, other=0.0).to(tl.float32)[None, :, :]
    total = total + tl.load(weights + R, mask=c < C, other=0.0).to(tl.float32)[:, None, None]
    for r in range(R):
        w, row = tl.load(weights + r, mask=c < C, other=0.0).to(tl.float32), ((n * K + k) * R + r) * V
        x = tl.load(psi + row + target, mask=target < V, other=0.0).to(tl.float32)
        y = tl.load(phi + row + source, mask=source < V, other=0.0).to(tl.float32)
        total += w[:, None, None] * _tanh(x - y)[None, :, :]
    return tl.where(inside[None, :, :], total, 0.0)


@triton.jit
def _products(
    weight, psi, phi, A, T, bias, Z, C, frames,
    K: tl.constexpr, R: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Z of BC channels and BT frames of one row of the batch."""
    n, v = tl.program_id(0).to(tl.int64), tl.arange(0, VP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    t = tl.program_id(2) * BT + tl.arange(0, BT)
    total = tl.zeros((BC, VP, BT), tl.float32)
    for k in range(K):
        topology = _topology(weight, psi, phi, A, n, c, k, C, K, R, V, VP, BC, False)
        x = _load_T(T, bias, n, c, k, v, t, C, frames, K, V)
        total += tl.dot(topology, x, input_precision=PRECISION)
    offsets, inside = _offsets(n, c, 0, v, t, C, frames, 1, V)
    tl.store(Z + offsets, total.to(Z.dtype.element_ty), mask=inside)


@triton.jit
def _grad_T(
    weight, psi, phi, A, grad, grad_T, grad_bias, C, frames,
    K: tl.constexpr, R: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """R_k^T times the gradient of Z, in all subsets, of BC channels and BT frames of one row of the batch, and its sums
    over joints and frames."""
    n, v = tl.program_id(0).to(tl.int64), tl.arange(0, VP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    t = tl.program_id(2) * BT + tl.arange(0, BT)
    g = _load(grad, n, c, 0, v, t, C, frames, 1, V)
    for k in range(K):
        transposed = _topology(weight, psi, phi, A, n, c, k, C, K, R, V, VP, BC, True)
        offsets, inside = _offsets(n, c, k, v, t, C, frames, K, V)
        grad_x = tl.dot(transposed, g, input_precision=PRECISION)
        tl.store(grad_T + offsets, grad_x.to(grad_T.dtype.element_ty), mask=inside)
        part = (n * tl.num_programs(2) + tl.program_id(2)) * K + k
        tl.store(grad_bias + part * C + c, tl.sum(tl.sum(grad_x, 2), 1), mask=c < C)


@triton.jit
def _grad_terms(
    weight, psi, phi, A, T, bias, grad, grad_weight, grad_psi, grad_phi, grad_A, C, frames,
    K: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, BC: tl.constexpr,
    BI: tl.constexpr, BT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of psi and A, and partial sums of those of the weights and phi, for BI targets of one subset of one row
    of the batch."""
    n, k, tile = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    i, j, r = tile * BI + tl.arange(0, BI), tl.arange(0, VP), tl.arange(0, RP)
    row = ((n * K + k) * R + r[:, None]) * V
    x = tl.load(psi + row + i[None, :], mask=(r[:, None] < R) & (i[None, :] < V), other=0.0).to(tl.float32)
    y = tl.load(phi + row + j[None, :], mask=(r[:, None] < R) & (j[None, :] < V), other=0.0).to(tl.float32)
    M, terms = _tanh(x[:, :, None] - y[:, None, :]), r[:, None, None]  # (RP, BI, VP); 0 for r >= R
    M = tl.where((i[None, :, None] < V) & (j[None, None, :] < V), tl.where(terms == R, 1.0, M), 0.0)
    flat, total = tl.reshape(M, (RP, BI * VP)), tl.zeros((RP, BI * VP), tl.float32)
    for start in range(0, C, BC):
        c, grad_R = start + tl.arange(0, BC), tl.zeros((BC, BI, VP), tl.float32)
        for first in range(0, frames, BT):
            t = first + tl.arange(0, BT)
            g, z = _load(grad, n, c, 0, i, t, C, frames, 1, V), _load_T(T, bias, n, c, k, j, t, C, frames, K, V)
            grad_R += tl.dot(g, tl.permute(z, (0, 2, 1)), input_precision=PRECISION)
        rows, exist = tl.reshape(grad_R, (BC, BI * VP)), (c[:, None] < C) & (r[None, :] < R + 2)
        grad_w = tl.dot(rows, tl.trans(flat), input_precision=PRECISION)  # (BC, RP)
        part = (n * tl.num_programs(2) + tile) * K + k
        tl.store(grad_weight + (part * C + c[:, None]) * (R + 2) + r[None, :], grad_w, mask=exist)
        w = tl.load(weight + (k * C + c[:, None]) * (R + 2) + r[None, :], mask=exist, other=0.0).to(tl.float32)
        total += tl.dot(tl.trans(w), rows, input_precision=PRECISION)
    grad_M = tl.reshape(total, (RP, BI, VP))
    pairs = (k * V + i[None, :, None]) * V + j[None, None, :]
    joints = (i[None, :, None] < V) & (j[None, None, :] < V)
    tl.store(grad_A + n * K * V * V + pairs + 0 * terms, grad_M, mask=(terms == R + 1) & joints)
    grad_M = tl.where(joints, grad_M * (1.0 - M * M), 0.0)
    place = grad_psi + row + i[None, :]
    tl.store(place, tl.sum(grad_M, 2).to(grad_psi.dtype.element_ty), mask=(r[:, None] < R) & (i[None, :] < V))
    place = grad_phi + (((n * tl.num_programs(2) + tile) * K + k) * R + r[:, None]) * V + j[None, :]
    tl.store(place, -tl.sum(grad_M, 1), mask=(r[:, None] < R) & (j[None, :] < V))
