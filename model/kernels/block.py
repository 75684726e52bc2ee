"""A block of CTR-GCN in training, computed with the Triton kernels of `products` and `norms`.

Equivalent to the block's own forward pass. Maps (N, C, T, V) have the channels last in memory: a matrix with one row
(n, t, v) for each position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model import blocks, ops
from model.kernels import norms, products
from model.norms import without_gradient


@dataclass
class Normed:
    """A map (N, C, T, V) and the batch norm to apply. bias: (C,), omitted by the convolution that computed the map."""

    x: Tensor
    norm: nn.BatchNorm2d
    bias: Tensor | None = None


def forward(block: blocks.Block, x: Tensor) -> Tensor:
    """ReLU(TCN(GCN(x)) + residual(x)): (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""
    mean, *inputs = _Inputs.apply(x)
    h = graph_conv(block.gcn1, inputs[0], inputs[1], mean)
    if type(block.tcn1) is not blocks.MultiScaleTemporalConv:
        return blocks.add_residual(block.tcn1(h), block.residual, inputs[2])
    return relu_of_sum(branches(block.tcn1.branches, h), shortcut(block.residual, inputs[2]))


def graph_conv(gcn: nn.Module, x: Tensor, x_residual: Tensor, mean: Tensor) -> Tensor:
    """`ctrgcn.GraphConv`: (N, C_in, T, V) -> (N, C_out, T, V). x_residual: x, mean: of its frames, (N, C_in, V)."""
    psi, phi = (y.squeeze(3) for y in gcn.embed(mean))
    weight = ops.refinement_weight(gcn.alpha, [s.conv4 for s in gcn.convs])
    bias = torch.stack([s.conv3.bias for s in gcn.convs])  # (K, C_out)
    T = F.conv2d(x, torch.cat([s.conv3.weight for s in gcn.convs])).permute(0, 2, 3, 1).unflatten(3, bias.shape)
    weight, psi, phi, A, bias = (given.to(T.dtype) for given in (weight, psi, phi, gcn.PA, bias))
    Z = products.refined_products(weight, psi, phi, A, T, bias)
    return relu_of_sum([Normed(Z.permute(0, 3, 1, 2), gcn.bn)], shortcut(gcn.down, x_residual))


def branches(chains: Sequence[nn.Sequential], x: Tensor) -> list[Normed]:
    """The branches of `blocks.MultiScaleTemporalConv` before their last norms."""
    entries = [chain[0] for chain in chains if chain[0].stride == (1, 1)]
    y = F.conv2d(x, torch.cat([conv.weight for conv in entries]))
    y = without_gradient(y, [conv.bias for conv in entries])
    parts = iter(y.split([conv.out_channels for conv in entries], dim=1))
    found = []
    for conv, norm, *rest in chains:
        entry = Normed(next(parts), norm, conv.bias) if conv.stride == (1, 1) else convolved(x, conv, norm)
        if not rest:
            found.append(entry)
            continue
        z, (_, layer, *last) = relu_of_sum([entry]), rest
        found.append(Normed(layer(z), *last) if last else convolved(z, layer.conv, layer.bn))
    return found


def shortcut(path: nn.Module | None, x: Tensor) -> Tensor | Normed | None:
    """The residual path of a graph convolution or a block, before its norm."""
    if path is None:
        return None
    if isinstance(path, nn.Identity):
        return x
    conv, norm = (path.conv, path.bn) if isinstance(path, blocks.TemporalConv) else path
    return convolved(x, conv, norm)


def convolved(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Normed:
    """conv(x) without its bias, to be normalized by `norm`."""
    return Normed(without_gradient(conv._conv_forward(x, conv.weight, None), [conv.bias]), norm, conv.bias)


def relu_of_sum(parts: Sequence[Normed], residual: Tensor | Normed | None = None) -> Tensor:
    """ReLU(torch.cat([norm(x) for each part], 1) + residual), (N, C_i, T, V) each -> (N, sum of C_i, T, V).

    The norms are in training mode; their running statistics are updated.
    """
    other = [residual] if isinstance(residual, Normed) else []
    y, *statistics = _ReluOfSum.apply(
        parts[0].norm.eps,
        torch.cat([part.norm.weight for part in parts]),
        torch.cat([part.norm.bias for part in parts]),
        other[0].x if other else residual,
        *((other[0].norm.weight, other[0].norm.bias) if other else (None, None)),
        *(part.x for part in parts),
    )
    for normed, values in zip((parts, other), statistics, strict=False):
        track(normed, values)
    return y


@torch.no_grad()
def track(parts: Sequence[Normed], statistics: Tensor) -> None:
    """Update the running statistics with those of the batch, see `norms`."""
    batch_norms, sizes = [part.norm for part in parts], [part.norm.num_features for part in parts]
    mean, _, var = (values.to(batch_norms[0].running_mean.dtype).split(sizes) for values in statistics)
    mean = [m if part.bias is None else m + part.bias for m, part in zip(mean, parts, strict=True)]
    running = [norm.running_mean for norm in batch_norms] + [norm.running_var for norm in batch_norms]
    torch._foreach_lerp_(running, [*mean, *var], batch_norms[0].momentum)
    torch._foreach_add_([norm.num_batches_tracked for norm in batch_norms], 1)


class _Inputs(torch.autograd.Function):
    """The mean of x over the frames, (N, C, V), and x three times: the gradients are added in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return x.mean(2), x.view_as(x), x.view_as(x), x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean: Tensor, *grads: Tensor | None) -> Tensor:
        given = [grad for grad in grads if grad is not None]
        rows = norms.sum_of_gradients([_rows(grad) for grad in given], grad_mean.transpose(1, 2).contiguous())
        return _map(rows, given[0].shape)


class _ReluOfSum(torch.autograd.Function):
    """y, the statistics of the maps, and those of the residual if it has a norm."""

    @staticmethod
    def forward(
        ctx: Any,
        eps: float,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        residual_weight: Tensor | None,
        residual_bias: Tensor | None,
        *maps: Tensor,
    ) -> tuple[Tensor, ...]:
        xs, r = [_rows(x) for x in maps], None if residual is None else _rows(residual)
        statistics = [norms.statistics(xs, eps)]
        residual_norm = []
        if residual_weight is not None:
            statistics.append(norms.statistics([r], eps))
            residual_norm = [statistics[1], residual_weight, residual_bias]
        y = norms.relu_of_norms(xs, [statistics[0], weight, bias], r, residual_norm)
        ctx.shapes, ctx.has_residual, ctx.has_norm = [x.shape for x in maps], residual is not None, len(statistics) == 2
        saved = [r, statistics[1], residual_weight] if ctx.has_norm else [None] * 3
        ctx.save_for_backward(y, statistics[0], weight, *saved, *xs)
        ctx.mark_non_differentiable(*statistics)
        return _map(y, maps[0].shape), *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        y, statistics, weight, r, residual_statistics, residual_weight, *xs = ctx.saved_tensors
        masked, sums = norms.masked_gradient(_rows(grad), y, xs, statistics, r, residual_statistics)
        total, product, *residual_product = sums.unbind()
        grads = norms.norm_gradient(masked, xs, statistics, weight, total, product)
        residual = _map(masked, ctx.shapes[0]) if ctx.has_residual else None
        if ctx.has_norm:
            terms = residual_statistics, residual_weight, total, residual_product[0]
            residual = _map(norms.norm_gradient(masked, [r], *terms)[0], ctx.shapes[0])
        of_residual = (residual, *residual_product, total) if ctx.has_norm else (residual, None, None)
        maps = (_map(g, shape) for g, shape in zip(grads, ctx.shapes, strict=True))
        return None, product, total, *of_residual, *maps


def _rows(x: Tensor) -> Tensor:
    """(N, C, T, V) -> (N T V, C), a view if the channels are the last axis in memory."""
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _map(rows: Tensor, shape: torch.Size) -> Tensor:
    """(N T V, C) -> (N, C, T, V), a view; shape: of any map with these N, T and V."""
    N, _, T, V = shape
    return rows.view(N, T, V, -1).permute(0, 3, 1, 2)
