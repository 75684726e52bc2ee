"""Graph convolution kernels: the equations that the papers share, computed in the memory layout that runs fast.

Each docstring gives the equation first, then how it is computed. A feature map is (N * M, C, T, V), with the channels
last in memory: convolutions, norms and pooling are fastest in this layout, and products over joints move all channels
of a joint as one row. Where every channel has its own topology, a map becomes one V x T matrix per channel
(`to_matrices`).
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pointwise(x: Tensor, convs: Iterable[nn.Conv2d]) -> Tensor:
    """torch.cat([conv(x) for conv in convs], 1) for 1x1 convolutions: (N, C, T, V) -> (N, sum of their channels, T, V).

    Computed as one convolution.
    """
    convs = list(convs)
    return F.conv2d(x, torch.cat([conv.weight for conv in convs]), torch.cat([conv.bias for conv in convs]))


def embed(x: Tensor, theta: Iterable[nn.Conv2d], phi: Iterable[nn.Conv2d]) -> tuple[Tensor, Tensor]:
    """theta_k(x) and phi_k(x), 1x1 convolutions, for every subset k: (N, C, T, V) -> two tensors (N, K, R, T, V).

    Computed as one convolution.
    """
    convs = [*theta, *phi]
    return pointwise(x, convs).unflatten(1, (2, len(convs) // 2, -1)).unbind(1)


def affinity(x: Tensor, theta: Iterable[nn.Conv2d], phi: Iterable[nn.Conv2d]) -> Tensor:
    """E_k = theta_k(x)^T phi_k(x) / (R T), the affinity of two joints in subset k: (N, C, T, V) -> (N, K, V, V).

    The division comes before the product: in float16 the sum over R T terms would overflow.
    """
    theta, phi = (half.permute(0, 1, 4, 3, 2).flatten(3) for half in embed(x, theta, phi))  # (N, K, V, T * R)
    return theta / theta.shape[3] @ phi.transpose(2, 3)


def mix_joints(x: Tensor, A: Tensor) -> Tensor:
    """y[w] = sum_v A[w, v] x[v] (row target, column source): (N, C, T, V), A (W, V) or (N, 1, W, V) -> (N, C, T, W)."""
    y = A.expand(x.shape[0], x.shape[2], -1, -1) @ x.permute(0, 2, 3, 1)  # (N, T, W, C)
    return y.permute(0, 3, 1, 2)  # (N, C, T, W)


def aggregate(x: Tensor, A: Tensor) -> Tensor:
    """y_k[w] = sum_v x[v] A_k[v, w] for every subset k (row source, column target): (N, C, T, V) -> (N, K * C, T, W).

    A is (N, K, V, W), or (1, K, V, W) for all clips. Computed as one product with all subsets side by side.
    """
    N, _, T, _ = x.shape
    K, W = A.shape[1], A.shape[3]
    y = mix_joints(x, A.permute(0, 3, 1, 2).reshape(-1, 1, W * K, A.shape[2]))  # (N, C, T, W * K)
    return y.permute(0, 2, 3, 1).reshape(N, T, W, -1).permute(0, 3, 1, 2)  # (N, K * C, T, W)


def aggregate_then_conv(x: Tensor, A: Tensor, convs: Iterable[nn.Conv2d]) -> Tensor:
    """y = sum_k W_k(x A_k) with 1x1 convolutions W_k: (N, C_in, T, V), A as in `aggregate` -> (N, C_out, T, V).

    Computed as one convolution of all aggregated subsets.
    """
    convs = list(convs)
    weight, bias = torch.cat([conv.weight for conv in convs], dim=1), torch.stack([conv.bias for conv in convs]).sum(0)
    return F.conv2d(aggregate(x, A), weight, bias)


def conv_then_aggregate(x: Tensor, conv: nn.Conv2d, A: Tensor) -> Tensor:
    """y = sum_k W_k(x) A_k: (N, C_in, T, V), A (K, V, V) -> (N, C_out, T, V).

    conv is a 1x1 convolution with the K * C_out channels of all W_k. Computed as sum_k W_k(x A_k), the same by
    linearity, because aggregating C_in channels is cheaper than K * C_out. The bias of joint w is then
    sum_k b_k sum_v A_k[v, w].
    """
    K = A.shape[0]
    weight = conv.weight.unflatten(0, (K, -1)).transpose(0, 1).flatten(1, 2)  # (C_out, K * C_in, 1, 1)
    bias = conv.bias.view(K, -1).t() @ A.sum(1)  # (C_out, V)
    return F.conv2d(aggregate(x, A.unsqueeze(0)), weight) + bias.unsqueeze(1)


def conv_heads(x: Tensor, weight: Tensor, num_heads: int) -> Tensor:
    """W_h x_h, a 1x1 convolution in groups without bias: (N, C, T, V), (C_out, C / H, 1, 1) -> (H, N, T, V, C_out / H).

    Computed as matrix products: with few channels in a group they are faster than convolutions.
    """
    N, C, T, V = x.shape
    weight = weight.flatten(1).unflatten(0, (num_heads, -1)).transpose(1, 2)  # (H, C / H, C_out / H)
    rows = channels_last_gradient(x).permute(0, 2, 3, 1).reshape(N * T * V, num_heads, C // num_heads)
    return (rows.transpose(0, 1) @ weight).unflatten(1, (N, T, V))


def mix_heads(z: Tensor, A: Tensor) -> Tensor:
    """y_h[u] = sum_k sum_v A_h[u, k, v] z_hk[v] (row target): (G, N, T, V, C / G) -> (N, C / K, T, U).

    The channels of z, C / G in each of G groups, are those of H heads with K subsets in this order. A is (N, H, U, K,
    V), or (1, H, U, K, V) for all clips; then all frames of all clips are one product.
    """
    G, N, T, V, _ = z.shape
    B, H, U, K, _ = A.shape
    z = z.view(G, B, N * T // B, V, H // G, K, -1).permute(1, 0, 4, 5, 3, 2, 6)  # (B, G, H / G, K, V, frames, c)
    c = z.shape[6]
    y = A.flatten(3) @ z.reshape(B, H, K * V, -1)  # (B, H, U, frames * c)
    y = y.unflatten(3, (-1, c)).permute(0, 3, 2, 1, 4).reshape(N, T, U, H * c)
    return y.permute(0, 3, 1, 2)


def refine(A: Tensor, alpha: Tensor, xi: nn.Conv2d, M: Tensor) -> Tensor:
    """R = A + alpha xi(M), one topology for every channel: A (V, V), alpha (1,), M (N, R, V, V) -> (N, C, V, V).

    With xi(M) = W M + b computed as one product, `R = [alpha W, alpha b, 1] [M; 1; A]`, without a pass for each sum.
    """
    one = torch.ones_like(xi.bias)[:, None]
    weight = torch.cat([alpha * xi.weight.flatten(1), alpha * xi.bias[:, None], one], dim=1)  # (C, R + 2)
    A = A.flatten()
    shared = torch.stack([torch.ones_like(A), A]).expand(M.shape[0], -1, -1)  # (N, 2, V * V)
    R = weight.expand(M.shape[0], -1, -1) @ torch.cat([M.flatten(2), shared], dim=1)  # (N, C, V * V)
    return R.unflatten(2, M.shape[2:])


def sum_of_products(R: Iterable[Tensor], x: Iterable[Tensor]) -> Tensor:
    """Z = sum_k R_k x_k, matrix products for every channel: K times (N, C, V, V), (N, C, V, T) -> (N, C, V, T).

    Accumulated in one tensor. From generators each R_k is freed before the next one in evaluation.
    """
    Z = None
    for R_k, x_k in zip(R, x, strict=True):
        shape, R_k, x_k = x_k.shape, R_k.flatten(0, 1), x_k.flatten(0, 1)
        Z = torch.bmm(R_k, x_k) if Z is None else Z.baddbmm_(R_k, x_k)  # (N * C, V, T)
    return Z.view(shape)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, dropout: float) -> Tensor:
    """softmax(scale q k^T + bias) v, dropout after the softmax: (W, H, R, d) each, bias (H, R, R) -> (W, H, R, d).

    One fused kernel, except in training on a CPU, where it takes neither dropout nor a bias with a gradient. There the
    kept weights are scaled up by dividing v, and chosen by uniform numbers, which PyTorch makes faster than its dropout
    makes masks.
    """
    if q.device.type != "cpu" or not (dropout or torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], dropout_p=dropout, scale=scale)
    weight = (scale * q @ k.transpose(2, 3)).add_(bias).softmax(3)
    if dropout:
        weight, v = weight * (torch.rand(weight.shape) < 1 - dropout), v / (1 - dropout)
    return weight @ v


def distances(x: Tensor) -> Tensor:
    """|x_i - x_j| of all rows of a matrix: (..., P, C) -> (..., P, P).

    One fused kernel; exported and compiled networks get the formula, because exporters have no such operator.
    """
    if torch.compiler.is_compiling():
        return torch.linalg.vector_norm(x.unsqueeze(-2) - x.unsqueeze(-3), dim=-1)
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def to_matrices(x: Tensor) -> Tensor:
    """(N, C, T, V) -> (N, C, V, T), one V x T matrix per channel in memory."""
    return _ToMatrices.apply(x)


def from_matrices(y: Tensor) -> Tensor:
    """(N, C, V, T) -> (N, C, T, V) with the channels last in memory."""
    return y.transpose(2, 3).contiguous(memory_format=torch.channels_last)


class _ToMatrices(torch.autograd.Function):
    """Plain autograd would return the gradient in the layout of the matrices; this one has the channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.transpose(2, 3).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return from_matrices(grad)


def channels_last_gradient(x: Tensor) -> Tensor:
    """x itself; its gradient has the channels last in memory."""
    return _ChannelsLastGradient.apply(x)


class _ChannelsLastGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous(memory_format=torch.channels_last)


def run_branches(x: Tensor, branches: Iterable[nn.Module]) -> Tensor:
    """torch.cat([branch(x) for branch in branches], 1): (N, C_in, T, V) -> (N, sum of the branches' channels, T', V).

    Every branch starts with a 1x1 convolution. Those without a stride run as one.
    """
    chains = [list(branch) if isinstance(branch, nn.Sequential) else [branch] for branch in branches]
    merged = [chain[0] for chain in chains if chain[0].stride == (1, 1)]
    parts = iter(pointwise(x, merged).split([conv.out_channels for conv in merged], dim=1))
    outputs = []
    for conv, *rest in chains:
        y = next(parts).contiguous(memory_format=torch.channels_last) if conv.stride == (1, 1) else conv(x)
        for layer in rest:
            y = layer(y)
        outputs.append(y)
    return concat_channels(*outputs)


def concat_channels(*maps: Tensor) -> Tensor:
    """torch.cat(maps, 1) for maps (N, C, T, V)."""
    return _ConcatChannels.apply(*maps)


class _ConcatChannels(torch.autograd.Function):
    """Plain autograd would return slices of one gradient; this one makes a tensor for each map."""

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.widths = [x.shape[1] for x in maps]
        return torch.cat(maps, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in grad.split(ctx.widths, dim=1))
