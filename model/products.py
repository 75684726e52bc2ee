"""Products of feature maps with weights and graphs: what the papers write as sums, in the layout that runs fast.

A feature map is (N * M, C, T, V), in memory with the channels last: convolutions, norms and pooling run fastest on it, and the channels of
a joint are one row, which products over joints move as a whole. Where every channel has a topology of its own, a map becomes a matrix for
each channel instead (`TimeLast`).
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pointwise(x: Tensor, convs: Iterable[nn.Conv2d]) -> Tensor:
    """Several 1x1 convolutions of one input as one: (N, C, T, V) -> (N, sum of their channels, T, V), in their order."""
    convs = list(convs)
    return F.conv2d(x, torch.cat([conv.weight for conv in convs]), torch.cat([conv.bias for conv in convs]))


def run_branches(x: Tensor, branches: Iterable[nn.Module]) -> Tensor:
    """Branches side by side, as `torch.cat([branch(x) for branch in branches], 1)`; their first 1x1 convolutions run as one.

    (N, C_in, T, V) -> (N, sum of the branches' channels, T', V). A strided first convolution runs by itself.
    """
    chains = [list(branch) if isinstance(branch, nn.Sequential) else [branch] for branch in branches]
    shared = [chain[0] for chain in chains if chain[0].stride == (1, 1)]
    entered = iter(pointwise(x, shared).split([conv.out_channels for conv in shared], dim=1))
    outputs = []
    for conv, *rest in chains:
        y = next(entered).contiguous(memory_format=torch.channels_last) if conv.stride == (1, 1) else conv(x)
        for layer in rest:
            y = layer(y)
        outputs.append(y)
    return SideBySide.apply(*outputs)


class SideBySide(torch.autograd.Function):
    """Concatenation of the channels of several maps (N, C, T, V); each gets a gradient of its own, with the channels last."""

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.widths = [x.shape[1] for x in maps]
        return torch.cat(maps, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in grad.split(ctx.widths, dim=1))


def mix_joints(x: Tensor, A: Tensor) -> Tensor:
    """One matrix over the joints of every frame, row target, column source: (N, C, T, V), A (W, V) or (N, 1, W, V) -> (N, C, T, W)."""
    y = A.expand(*x.shape[::2], -1, -1) @ x.permute(0, 2, 3, 1)  # (N, T, W, C)
    return y.permute(0, 3, 1, 2)  # (N, C, T, W)


def gather(x: Tensor, A: Tensor) -> Tensor:
    """Every joint gathers in each subset, row source, column target: (N, C, T, V) -> (N, K * C, T, V).

    A is (N, K, V, V), or (1, K, V, V) for all rows.
    """
    N, _, T, _ = x.shape
    K, W = A.shape[1], A.shape[3]
    y = mix_joints(x, A.permute(0, 3, 1, 2).reshape(-1, 1, W * K, A.shape[2]))  # (N, C, T, W * K)
    return y.permute(0, 2, 3, 1).reshape(N, T, W, -1).permute(0, 3, 1, 2)  # (N, K * C, T, W)


def spread(x: Tensor, A: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 1x1 convolution to all subsets, each part spread over its subset, summed: (N, C_in, T, V), A (K, V, V) -> (N, C_out, T, V).

    The joints are gathered before it, where channels are fewer; its bias then differs from joint to joint.
    """
    weight = conv.weight.unflatten(0, (len(A), -1)).transpose(0, 1).flatten(1, 2)  # (C_out, K * C_in, 1, 1)
    bias = conv.bias.view(len(A), -1).t() @ A.sum(1)  # (C_out, V)
    return F.conv2d(gather(x, A.unsqueeze(0)), weight) + bias.unsqueeze(1)


def aggregate(x: Tensor, A: Tensor, convs: Iterable[nn.Conv2d]) -> Tensor:
    """Joints gathered, then a 1x1 convolution for each subset, summed: (N, C_in, T, V) -> (N, C_out, T, V).

    The convolutions run as one over the subsets side by side.
    """
    convs = list(convs)
    return F.conv2d(gather(x, A), torch.cat([conv.weight for conv in convs], dim=1), torch.stack([conv.bias for conv in convs]).sum(0))


def affinity(x: Tensor, conv_a: Iterable[nn.Conv2d], conv_b: Iterable[nn.Conv2d]) -> Tensor:
    """How alike two joints move in each subset, a mean over embedded channels and frames: (N, C, T, V) -> (N, K, V, V)."""
    convs = [*conv_a, *conv_b]
    halves = [half.unflatten(1, (len(convs) // 2, -1)) for half in pointwise(x, convs).chunk(2, dim=1)]  # (N, K, R, T, V)
    theta, phi = (half.permute(0, 1, 4, 3, 2).flatten(3) for half in halves)  # (N, K, V, T * R)
    return theta @ phi.transpose(2, 3) / theta.shape[3]


class TimeLast(torch.autograd.Function):
    """(N, C, T, V) -> (N * C, V, T), a matrix for every channel; gradients come back with the channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return x.transpose(2, 3).reshape(-1, x.shape[3], x.shape[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return from_time_last(grad, ctx.rows)


def from_time_last(y: Tensor, rows: int) -> Tensor:
    """(N * C, V, T) -> (N, C, T, V) with the channels last."""
    return y.unflatten(0, (rows, -1)).transpose(2, 3).contiguous(memory_format=torch.channels_last)
