"""`ops.sum_of_products` as Triton kernels for training on a GPU. The topologies are never written to GPU memory.

The backward pass recomputes them. Each output element is written by exactly one program, so the results are
deterministic. Both passes are operators of PyTorch (`torch.library`): torch.compile calls them, and
`benchmarks.traffic` counts them.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS, FRAMES, TARGETS = 8, 64, 8  # maximum tile sizes of a program; chosen to fit a Hopper GPU, not tuned


@torch.library.custom_op(
    "skeleton::sum_of_products", mutates_args=(), schema="(Tensor weight, Tensor basis, Tensor T) -> Tensor"
)
def sum_of_products(weight: Tensor, basis: Tensor, T: Tensor) -> Tensor:
    """Z_c = sum_k R_kc^T T_kc with R_k = W_k B_k: W (K, C, R), B (N, K, R, V * V), T (N, C, K, V, T) -> (N, C, V, T).

    All tensors have the same data type. Sums are computed in float32. The factors of matrix products are rounded to
    TF32 if this data type has 16 bits, or with `tf32: true`. The reference is `ops.sum_of_products`.
    """
    N, C, _, V, frames = T.shape
    Z, sizes = T.new_empty(N, C, V, frames), constants(weight, T)
    grid = N, triton.cdiv(C, CHANNELS), triton.cdiv(frames, sizes["BT"])
    inputs = weight.contiguous(), basis.contiguous(), T.contiguous()
    _products[grid](*inputs, Z, C, frames, BC=CHANNELS, num_warps=8, **sizes)
    return Z


@torch.library.custom_op(
    "skeleton::sum_of_products_backward",
    mutates_args=(),
    schema="(Tensor weight, Tensor basis, Tensor T, Tensor grad) -> (Tensor, Tensor, Tensor)",
)
def gradients(weight: Tensor, basis: Tensor, T: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the three inputs of `sum_of_products` from the gradient of Z."""
    weight, basis, T, grad = weight.contiguous(), basis.contiguous(), T.contiguous(), grad.contiguous()
    (N, C, K, V, frames), sizes = T.shape, constants(weight, T)
    grad_T, grad_basis = torch.empty_like(T), torch.empty_like(basis)
    grid = N, triton.cdiv(C, CHANNELS), triton.cdiv(frames, sizes["BT"])
    _grad_T[grid](weight, basis, grad, grad_T, C, frames, BC=CHANNELS, num_warps=8, **sizes)
    tiles, padded = triton.cdiv(V, TARGETS), max(16, triton.next_power_of_2(weight.shape[2]))
    grad_weight = torch.empty(N, tiles, *weight.shape, dtype=torch.float32, device=T.device)
    tensors = weight, basis, T, grad, grad_weight, grad_basis
    _grad_terms[N, K, tiles](*tensors, C, frames, BC=16, BI=TARGETS, RP=padded, num_warps=8, **(sizes | {"BT": 16}))
    return grad_weight.sum((0, 1)).to(weight.dtype), grad_basis, grad_T


def _save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


@sum_of_products.register_fake
def _(weight: Tensor, basis: Tensor, T: Tensor) -> Tensor:
    return T.new_empty(T.shape[:2] + T.shape[3:])


@gradients.register_fake
def _(weight: Tensor, basis: Tensor, T: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return weight.new_empty(weight.shape), basis.new_empty(basis.shape), T.new_empty(T.shape)


sum_of_products.register_autograd(lambda ctx, grad: gradients(*ctx.saved_tensors, grad), setup_context=_save_inputs)


def constants(weight: Tensor, T: Tensor) -> dict[str, Any]:
    """The constants that the kernels are compiled for; VP is V padded to a power of two."""
    _, _, K, V, frames = T.shape
    padded = {"VP": max(16, triton.next_power_of_2(V)), "BT": max(16, min(FRAMES, triton.next_power_of_2(frames)))}
    tf32 = T.itemsize < 4 or torch.backends.cuda.matmul.allow_tf32
    return {"K": K, "R": weight.shape[2], "V": V, "PRECISION": "tf32" if tf32 else "ieee", **padded}


@triton.jit
def _offsets(n, c, k, v, t, C, frames, K: tl.constexpr, V: tl.constexpr):
    """Offsets of joints v and frames t of channels c in subset k in a map (N, C, K, V, T), and a mask of those that
    exist."""
    c, v, t = c[:, None, None], v[None, :, None], t[None, None, :]
    return (((n * C + c) * K + k) * V + v) * frames + t, (c < C) & (v < V) & (t < frames)


@triton.jit
def _load(start, n, c, k, v, t, C, frames, K: tl.constexpr, V: tl.constexpr):
    """The values at `_offsets`, 0 where the mask is false: (channels, joints, frames)."""
    offsets, inside = _offsets(n, c, k, v, t, C, frames, K, V)
    return tl.load(start + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _topology(
    weight, basis, n, c, k, C,
    K: tl.constexpr, R: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, BC: tl.constexpr, SOURCE_FIRST: tl.constexpr,
):  # fmt: skip
    """R_kc = sum_r W_kcr B_kr of channels c: (BC, VP, VP)."""
    a, b = tl.arange(0, VP)[:, None], tl.arange(0, VP)[None, :]
    place = a * V + b if SOURCE_FIRST else b * V + a  # the basis has the source first
    inside, total = (a < V) & (b < V), tl.zeros((BC, VP, VP), tl.float32)
    for r in range(R):
        w = tl.load(weight + (k * C + c) * R + r, mask=c < C, other=0.0).to(tl.float32)
        B = tl.load(basis + ((n * K + k) * R + r) * V * V + place, mask=inside, other=0.0).to(tl.float32)
        total += w[:, None, None] * B[None, :, :]
    return total


@triton.jit
def _products(
    weight, basis, T, Z, C, frames,
    K: tl.constexpr, R: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Z of BC channels and BT frames of one row of the batch."""
    n, v = tl.program_id(0).to(tl.int64), tl.arange(0, VP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    t = tl.program_id(2) * BT + tl.arange(0, BT)
    total = tl.zeros((BC, VP, BT), tl.float32)
    for k in range(K):
        topology = _topology(weight, basis, n, c, k, C, K, R, V, VP, BC, False)
        total += tl.dot(topology, _load(T, n, c, k, v, t, C, frames, K, V), input_precision=PRECISION)
    offsets, inside = _offsets(n, c, 0, v, t, C, frames, 1, V)
    tl.store(Z + offsets, total.to(Z.dtype.element_ty), mask=inside)


@triton.jit
def _grad_T(
    weight, basis, grad, grad_T, C, frames,
    K: tl.constexpr, R: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """R_k^T times the gradient of Z, in all subsets, of BC channels and BT frames of one row of the batch."""
    n, v = tl.program_id(0).to(tl.int64), tl.arange(0, VP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    t = tl.program_id(2) * BT + tl.arange(0, BT)
    g = _load(grad, n, c, 0, v, t, C, frames, 1, V)
    for k in range(K):
        transposed = _topology(weight, basis, n, c, k, C, K, R, V, VP, BC, True)
        offsets, inside = _offsets(n, c, k, v, t, C, frames, K, V)
        grad_x = tl.dot(transposed, g, input_precision=PRECISION)
        tl.store(grad_T + offsets, grad_x.to(grad_T.dtype.element_ty), mask=inside)


@triton.jit
def _grad_terms(
    weight, basis, T, grad, grad_weight, grad_basis, C, frames,
    K: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, BC: tl.constexpr,
    BI: tl.constexpr, BT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of the basis, and partial sums of the gradients of the weights, for BI targets of one subset of one row
    of the batch."""
    n, k, tile = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    i, j, r = tile * BI + tl.arange(0, BI), tl.arange(0, VP), tl.arange(0, RP)
    pairs = tl.reshape(j[None, :] * V + i[:, None], (1, BI * VP))
    exist = tl.reshape((i[:, None] < V) & (j[None, :] < V), (1, BI * VP)) & (r[:, None] < R)
    place = ((n * K + k) * R + r[:, None]) * V * V + pairs
    B = tl.load(basis + place, mask=exist, other=0.0).to(tl.float32)  # (RP, BI * VP)
    total = tl.zeros((RP, BI * VP), tl.float32)
    for start in range(0, C, BC):
        c, grad_R = start + tl.arange(0, BC), tl.zeros((BC, BI, VP), tl.float32)
        for first in range(0, frames, BT):
            t = first + tl.arange(0, BT)
            g, x = _load(grad, n, c, 0, i, t, C, frames, 1, V), _load(T, n, c, k, j, t, C, frames, K, V)
            grad_R += tl.dot(g, tl.permute(x, (0, 2, 1)), input_precision=PRECISION)
        rows, terms = tl.reshape(grad_R, (BC, BI * VP)), (c[:, None] < C) & (r[None, :] < R)
        grad_w = tl.dot(rows, tl.trans(B), input_precision=PRECISION)  # (BC, RP)
        part = (n * tl.num_programs(2) + tile) * K + k
        tl.store(grad_weight + (part * C + c[:, None]) * R + r[None, :], grad_w, mask=terms)
        w = tl.load(weight + (k * C + c[:, None]) * R + r[None, :], mask=terms, other=0.0).to(tl.float32)
        total += tl.dot(tl.trans(w), rows, input_precision=PRECISION)
    tl.store(grad_basis + place, total.to(grad_basis.dtype.element_ty), mask=exist)
