"""Convolutions followed by batch norms, computed together.

In training, a batch norm subtracts the mean over the batch and thereby the bias b of the preceding convolution:
BN(W x + b) = BN(W x). The bias is therefore not added, and its gradient, which is zero, is not computed. It only shifts
the running mean: running_mean += momentum b. In evaluation, the bias is added.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from model import ops


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """norm(conv(x)): (N, C_in, T, V) -> (N, C_out, T', V). In training computed without the bias."""
    if not removes_bias(norm) or conv.bias is None:
        return norm(conv(x))
    y = norm(without_gradient(conv._conv_forward(x, conv.weight, None), [conv.bias]))
    shift_means([norm], [conv.bias])
    return y


def pointwise_norm(x: Tensor, convs: Iterable[nn.Conv2d], norms: Sequence[nn.Module]) -> Tensor:
    """torch.cat([norm(conv(x)) for all pairs], 1), 1x1 convolutions: (N, C, T, V) -> (N, sum of their channels, T, V).

    Computed as one convolution and one norm, in training without the biases.
    """
    convs = list(convs)
    if not all(removes_bias(norm) for norm in norms):
        return norm_each(ops.pointwise(x, convs), norms)
    biases = [conv.bias for conv in convs]
    y = norm_each(without_gradient(F.conv2d(x, torch.cat([conv.weight for conv in convs])), biases), norms)
    shift_means(norms, biases)
    return y


def aggregate_norm(x: Tensor, A: Tensor, convs: Iterable[nn.Conv2d], norm: nn.Module) -> Tensor:
    """norm(sum_k W_k(x A_k)) as in `ops.aggregate_then_conv`: (N, C_in, T, V) -> (N, C_out, T, V).

    In training computed without the biases.
    """
    convs = list(convs)
    if not removes_bias(norm):
        return norm(ops.aggregate_then_conv(x, A, convs))
    biases = [conv.bias for conv in convs]
    y = norm(without_gradient(ops.aggregate_then_conv(x, A, convs, bias=False), biases))
    shift_means([norm], [torch.stack(biases).sum(0)])
    return y


def norm_each(x: Tensor, norms: Sequence[nn.Module]) -> Tensor:
    """torch.cat([norm(part) for each norm and its channels of x], 1): (N, C, T, V) -> same.

    Computed as one batch norm, or separately if the norms share their statistics between GPUs. Norms that were fused
    into the preceding convolutions do not change x.
    """
    if all(isinstance(norm, nn.Identity) for norm in norms):
        return x
    if any(type(norm) is not nn.BatchNorm2d for norm in norms):
        parts = x.split([norm.num_features for norm in norms], dim=1)
        parts = [
            norm(part.contiguous(memory_format=torch.channels_last)) for norm, part in zip(norms, parts, strict=True)
        ]
        return torch.cat(parts, dim=1)
    first, sizes = norms[0], [norm.num_features for norm in norms]
    statistics = [norm.running_mean for norm in norms] + [norm.running_var for norm in norms]
    mean, var = torch.cat(statistics).chunk(2)
    weight, bias = torch.cat([norm.weight for norm in norms] + [norm.bias for norm in norms]).chunk(2)
    y = F.batch_norm(x, mean, var, weight, bias, first.training, first.momentum, first.eps)
    if first.training:
        with torch.no_grad():
            torch._foreach_copy_(statistics, [*mean.split(sizes), *var.split(sizes)])
            torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
    return y


def removes_bias(norm: nn.Module) -> bool:
    """Whether the norm subtracts the mean over the batch."""
    return isinstance(norm, _BatchNorm) and norm.training


@torch.no_grad()
def shift_means(norms: Sequence[nn.Module], biases: Sequence[Tensor]) -> None:
    """running_mean += momentum b, for maps that were normalized without their bias b.

    Batch norm saves running_mean for the backward pass, which does not read it in training. `data` hides the change
    from autograd.
    """
    torch._foreach_add_([norm.running_mean.data for norm in norms], list(biases), alpha=norms[0].momentum)


def without_gradient(y: Tensor, biases: Sequence[Tensor]) -> Tensor:
    """y itself; the gradient of each bias is zero rather than missing, so that optimizers still decay it."""
    return _WithoutGradient.apply(y, *biases)


class _WithoutGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, *biases: Tensor) -> Tensor:
        ctx.sizes, ctx.options = [b.numel() for b in biases], {"dtype": biases[0].dtype, "device": biases[0].device}
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *torch.zeros(sum(ctx.sizes), **ctx.options).split(ctx.sizes)
