"""Graph convolution kernels: equations that several papers share, computed in a fast memory layout.

Each docstring gives the equation first, then how it is computed. A feature map is (N * M, C, T, V) in channels-last
memory format: convolutions, norms and pooling are fastest in this layout, and products over joints process all channels
of a joint as one row. If every channel has its own topology, a map is converted to one V x T matrix per channel
(`to_matrices`).
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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

    The division comes before the product, because the sum over R T terms would overflow in float16.
    """
    theta, phi = (half.permute(0, 1, 4, 3, 2).flatten(3) for half in embed(x, theta, phi))  # (N, K, V, T * R)
    return theta / theta.shape[3] @ phi.transpose(2, 3)


def mix_joints(x: Tensor, A: Tensor) -> Tensor:
    """y[w] = sum_v A[w, v] x[v] (row target, column source): (N, C, T, V), A (W, V) or (N, 1, W, V) -> (N, C, T, W)."""
    y = A.expand(x.shape[0], x.shape[2], -1, -1) @ x.permute(0, 2, 3, 1)  # (N, T, W, C)
    return y.permute(0, 3, 1, 2)  # (N, C, T, W)


def aggregate(x: Tensor, A: Tensor) -> Tensor:
    """y_k[w] = sum_v x[v] A_k[v, w] for every subset k (row source, column target): (N, C, T, V) -> (N, K * C, T, W).

    A is (N, K, V, W), or (1, K, V, W) for all clips. Computed as one product with all subsets concatenated.
    """
    N, _, T, _ = x.shape
    K, W = A.shape[1], A.shape[3]
    y = mix_joints(x, A.permute(0, 3, 1, 2).reshape(-1, 1, W * K, A.shape[2]))  # (N, C, T, W * K)
    return y.permute(0, 2, 3, 1).reshape(N, T, W, -1).permute(0, 3, 1, 2)  # (N, K * C, T, W)


def aggregate_then_conv(x: Tensor, A: Tensor, convs: Iterable[nn.Conv2d], bias: bool = True) -> Tensor:
    """y = sum_k W_k(x A_k) with 1x1 convolutions W_k: (N, C_in, T, V), A as in `aggregate` -> (N, C_out, T, V).

    Computed as one convolution of all aggregated subsets; without their biases unless `bias`.
    """
    convs = list(convs)
    weight = torch.cat([conv.weight for conv in convs], dim=1)
    return F.conv2d(aggregate(x, A), weight, torch.stack([conv.bias for conv in convs]).sum(0) if bias else None)


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


def conv_subsets(x: Tensor, convs: Iterable[nn.Conv2d]) -> Tensor:
    """T_k(x), 1x1 convolutions with bias, for every subset k: x of `matrices_and_mean` -> (N, C_out, K, V, T).

    Computed as one convolution W' [x; 1] with W' = [W, b]: a channel of ones adds the bias without a pass of its own.
    """
    convs = list(convs)
    weight = torch.stack([conv.weight for conv in convs], dim=1).flatten(0, 1)  # (C_out K, C_in, 1, 1)
    bias = torch.stack([conv.bias for conv in convs], dim=1).flatten()
    if ones := x.shape[1] - weight.shape[1]:
        unused = weight.new_zeros(weight.shape[0], ones - 1, 1, 1)
        weight, bias = torch.cat([weight, bias[:, None, None, None], unused], dim=1), None
    return F.conv2d(x, weight, bias).unflatten(1, (-1, len(convs)))


def refined_products(A: Tensor, alpha: Tensor, xi: Iterable[nn.Conv2d], M: Tensor, T: Tensor) -> Tensor:
    """Z = sum_k R_k T_k with R_k = A_k + alpha xi_k(M_k), one topology for every channel: -> (N, C, V, T).

    A (K, V, V) with row target, M (N, K, R, V, V) with row source, alpha (1,), xi_k 1x1 convolutions, T (N, C, K, V,
    T). With xi_k(M) = W M + b, `R_k = [alpha W, alpha b, 1] [M; 1; A]` is one product. The topologies of all subsets
    are contiguous in memory, so the sum over them is also part of one product.
    """
    weight = refinement_weight(alpha, xi)
    A = A.transpose(1, 2).unsqueeze(1).to(M.dtype).expand(M.shape[0], -1, -1, -1, -1)  # (N, K, 1, V, V), row source
    basis = torch.cat([M, torch.ones_like(A), A], dim=2).flatten(3)  # (N, K, R + 2, V * V)
    return sum_of_products(weight.to(T.dtype), basis.to(T.dtype), T)


def refinement_weight(alpha: Tensor, xi: Iterable[nn.Conv2d]) -> Tensor:
    """[alpha W, alpha b, 1] of the 1x1 convolutions xi_k(M) = W M + b of all subsets: (K, C, R + 2)."""
    weight = torch.stack([torch.cat([conv.weight.flatten(1), conv.bias[:, None]], dim=1) for conv in xi])
    return F.pad(alpha * weight, (0, 1), value=1.0)


def sum_of_products(weight: Tensor, basis: Tensor, T: Tensor) -> Tensor:
    """Z_c = sum_k R_kc^T T_kc with R_k = W_k B_k: W (K, C, R), B (N, K, R, V * V), T (N, C, K, V, T) -> (N, C, V, T).

    Exported and compiled networks use the formula; others use an equivalent without a copy of the topologies.
    """
    if torch.compiler.is_compiling():
        R = torch.stack([W_k @ B_k for W_k, B_k in zip(weight, basis.unbind(1), strict=True)], dim=2)
        return R.unflatten(3, (T.shape[3], -1)).flatten(2, 3).transpose(2, 3) @ T.flatten(2, 3)
    return _SumOfProducts.apply(weight, basis, T)


class _SumOfProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, basis: Tensor, T: Tensor) -> Tensor:
        N, C, K, V, _ = T.shape
        R = T.new_empty(N, C, K, V * V)
        for k, W in enumerate(weight):
            torch.bmm(W.expand(N, -1, -1), basis[:, k], out=R[:, :, k])
        ctx.save_for_backward(weight, basis, T, R)
        return torch.bmm(R.view(N * C, K * V, V).transpose(1, 2), T.reshape(N * C, K * V, -1)).view(N, C, V, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, basis, T, R = ctx.saved_tensors
        N, C, K, V, _ = T.shape
        grad = grad.reshape(N * C, V, -1)
        grad_T = torch.bmm(R.view(N * C, K * V, V), grad)
        grad_R = torch.bmm(T.reshape(N * C, K * V, -1), grad.transpose(1, 2)).view(N, C, K, V * V)
        grad_weight, grad_basis = weight.new_empty(K, N, *weight.shape[1:]), torch.empty_like(basis)
        for k, W in enumerate(weight):
            torch.bmm(grad_R[:, :, k], basis[:, k].transpose(1, 2), out=grad_weight[k])
            torch.bmm(W.t().expand(N, -1, -1), grad_R[:, :, k], out=grad_basis[:, k])
        return grad_weight.sum(1), grad_basis, grad_T.view_as(T)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, dropout: float) -> Tensor:
    """softmax(scale q k^T + bias) v, dropout after the softmax: (W, H, R, d) each, bias (H, R, R) -> (W, H, R, d).

    Computed as one fused kernel, except in training on a CPU, where this kernel supports neither dropout nor a bias
    with a gradient. In that case, v is divided by the keep rate instead of scaling the kept weights, and the mask is
    made from uniform random numbers, which is faster than PyTorch's dropout.
    """
    if q.device.type == "cuda":
        return padded_attention(q, k, v, bias, scale, dropout)
    if q.device.type != "cpu" or not (dropout or torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], dropout_p=dropout, scale=scale)
    weight = (scale * q @ k.transpose(2, 3)).add_(bias).softmax(3)
    if dropout:
        weight, v = weight * (torch.rand(weight.shape) < 1 - dropout), v / (1 - dropout)
    return weight @ v


def padded_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, dropout: float) -> Tensor:
    """`attention` with rows that are padded with zeros to a multiple of 8 numbers.

    On GPUs, the fused kernels that support a bias require this. For other widths, PyTorch stores all weights.
    """
    width = q.shape[-1]
    q, k, v = (F.pad(x, (0, -width % 8)) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], dropout_p=dropout, scale=scale)[..., :width]


def distances(x: Tensor) -> Tensor:
    """|x_i - x_j| of all rows of a matrix: (..., P, C) -> (..., P, P).

    Computed as one fused kernel; exported and compiled networks use the formula, because exporters do not support the
    operator.
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


def matrices_and_mean(x: Tensor) -> tuple[Tensor, Tensor]:
    """`to_matrices` of x, followed by 1 to 8 channels of ones up to a multiple of 8, and the mean over the frames.

    (N, C, T, V) -> (N, C + ones, V, T), (N, C, V). There are no ones if a convolution adds its bias without an
    additional pass: in compiled and exported networks, and in evaluation on a CPU.
    """
    if torch.compiler.is_compiling() or not (x.is_cuda or torch.is_grad_enabled()):
        y = to_matrices(x)
        return y, y.mean(3)
    return _MatricesAndMean.apply(x)


class _MatricesAndMean(torch.autograd.Function):
    """Plain autograd would write the gradient of the mean for all frames, and then add it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        N, C, T, V = x.shape
        y = x.new_empty(N, C + 8 - C % 8, V, T)
        y[:, :C] = x.transpose(2, 3)
        y[:, C:] = 1
        ctx.shape = x.shape
        return y, y[:, :C].mean(3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_mean: Tensor) -> Tensor:
        N, C, T, V = ctx.shape
        out = grad.new_empty(N, T, V, C)
        matrices, mean = grad[:, :C].permute(0, 3, 2, 1), grad_mean.transpose(1, 2).unsqueeze(1)
        return torch.add(matrices, mean, alpha=1 / T, out=out).permute(0, 3, 1, 2)


def transposed(y: Tensor) -> Tensor:
    """(N, C, V, T) -> (N, C, T, V), a view; its gradient has one V x T matrix per channel in memory."""
    return _Transposed.apply(y)


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.transpose(2, 3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.transpose(2, 3).contiguous()


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
