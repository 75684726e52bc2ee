"""Building blocks that several papers share: temporal convolutions, residual blocks, initialization.

Axes: N batch rows (clips times persons), C channels, T frames, V joints.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import norms, ops


def block_table(channels: Sequence[int], in_channels: int) -> Iterator[tuple[int, int, int]]:
    """(C_in, C_out, stride) of every block; the stride is 2 if the block increases the width, except in the first
    block.

    Raises:
        ValueError: no width, a width below 8, or decreasing widths.
    """
    widths = list(channels)
    if not widths or any(not isinstance(w, int) or w < 8 for w in widths) or widths != sorted(widths):
        raise ValueError(f"channels: expected non-decreasing integer widths >= 8, one for each block, got {widths}")
    for i, (C_in, C_out) in enumerate(zip([in_channels, *widths], widths, strict=False)):
        yield C_in, C_out, 2 if i > 0 and C_out > C_in else 1


class StridedConv(nn.Conv2d):
    """A 1x1 convolution of every `stride`-th frame: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V).

    With fewer than 16 channels, it selects the frames first in training. Otherwise, oneDNN's gradient of the weights
    writes outside of its memory on processors with AVX-512 (PyTorch 2.13).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__(in_channels, out_channels, 1, (stride, 1))

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.training and self.in_channels < 16:
            return F.conv2d(x[:, :, :: self.stride[0]], weight, bias)
        return super()._conv_forward(x, weight, bias)


class TemporalConv(nn.Module):
    """BN(conv(x)) over time: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V).

    padding_mode: padding before the first and after the last frame: `zeros` or copies of these frames (`replicate`).

    Raises:
        ValueError: an even kernel size, which has no middle frame.
    """

    norm_after = {"conv": "bn"}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        dilation: int,
        padding_mode: str = "zeros",
    ):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number of frames, got {kernel_size}")
        size, padding = (kernel_size, 1), ((kernel_size - 1) * dilation // 2, 0)
        options = {"stride": (stride, 1), "padding": padding, "dilation": (dilation, 1), "padding_mode": padding_mode}
        self.conv = (
            StridedConv(in_channels, out_channels, stride)
            if kernel_size == 1
            else nn.Conv2d(in_channels, out_channels, size, **options)
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return norms.conv_norm(x, self.conv, self.bn)


class ConvNorm(nn.Sequential):
    """A convolution, a batch norm and further modules: (N, C_in, T, V) -> (N, C_out, T', V)."""

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, *rest = self
        x = norms.conv_norm(x, conv, norm)
        for layer in rest:
            x = layer(x)
        return x


class MultiScaleTemporalConv(nn.Module):
    """Concatenated branches of equal width: one for each dilation, a max pooling, a 1x1 convolution.

    (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V). MS-G3D (CVPR 2020), CTR-GCN (ICCV 2021).

    temporal: the class of the dilated convolutions, with the arguments of `TemporalConv`.

    Raises:
        ValueError: C_out is not a multiple of the number of branches.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        dilations: Sequence[int],
        temporal: Callable[..., nn.Module] = TemporalConv,
    ):
        super().__init__()
        num_branches = len(dilations) + 2
        if out_channels % num_branches:
            raise ValueError(f"channels: expected multiples of {num_branches} (temporal branches), got {out_channels}")
        width = out_channels // num_branches

        def entry() -> list[nn.Module]:
            return [nn.Conv2d(in_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]

        self.branches = nn.ModuleList()
        for d in dilations:
            self.branches.append(nn.Sequential(*entry(), temporal(width, width, kernel_size, stride, d)))
        self.branches.append(nn.Sequential(*entry(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(width)))
        self.branches.append(nn.Sequential(StridedConv(in_channels, width, stride), nn.BatchNorm2d(width)))

    def forward(self, x: Tensor) -> Tensor:
        return run_branches(x, self.branches)


class MultiBranchTemporalConv(nn.Module):
    """Six concatenated branches, fused by batch norm, ReLU, 1x1 convolution, batch norm.

    (N, C, T, V) -> (N, C, ceil(T / stride), V). Branches: kernel 3 with dilations 1 to 4, a max pooling, a 1x1
    convolution; each has C // 6 channels; the first branch has the remaining channels.
    ST-GCN++ (ACM MM 2022), DG-STGCN (2022).
    """

    norm_after = {"transform.2": "bn"}

    def __init__(self, channels: int, stride: int):
        super().__init__()
        width = channels // 6
        first = channels - 5 * width

        def branch(width: int, last: nn.Module) -> nn.Module:
            return nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True), last)

        def dilated(width: int, d: int) -> nn.Module:
            return nn.Sequential(OrderedDict(conv=nn.Conv2d(width, width, (3, 1), (stride, 1), (d, 0), (d, 1))))

        self.branches = nn.ModuleList(branch(w, dilated(w, d)) for d, w in enumerate((first, *[width] * 3), start=1))
        self.branches.append(branch(width, nn.MaxPool2d((3, 1), (stride, 1), (1, 0))))
        self.branches.append(StridedConv(channels, width, stride))
        layers = nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1)
        self.transform = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(channels)

    def scales(self, x: Tensor) -> Tensor:
        """The concatenated branches: (N, C, T, V) -> (N, C, ceil(T / stride), V)."""
        return run_branches(x, self.branches)

    def fuse(self, z: Tensor) -> Tensor:
        """BN(conv(ReLU(BN(z)))); same shape."""
        norm, relu, conv = self.transform
        return norms.conv_norm(relu(norm(z)), conv, self.bn)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(self.scales(x))


def run_branches(x: Tensor, branches: Iterable[nn.Module]) -> Tensor:
    """torch.cat([branch(x) for branch in branches], 1): (N, C_in, T, V) -> (N, sum of the branches' channels, T', V).

    Every branch starts with a 1x1 convolution, followed by a norm except in the last branch. The initial layers without
    a stride are computed as one convolution and one norm.
    """
    chains = [list(branch) if isinstance(branch, nn.Sequential) else [branch] for branch in branches]
    parts = iter(enter(x, [chain[:2] for chain in chains if chain[0].stride == (1, 1)]))
    outputs = []
    for conv, *rest in chains:
        if conv.stride == (1, 1):
            y, rest = next(parts), rest[1:]
        elif rest:
            y, rest = norms.conv_norm(x, conv, rest[0]), rest[1:]
        else:
            y = conv(x)
        for layer in rest:
            y = F.relu(y) if isinstance(layer, nn.ReLU) else layer(y)  # not in place: y may be a part of a map
        outputs.append(y)
    return ops.concat_channels(*outputs)


def enter(x: Tensor, pairs: Iterable[list[nn.Module]]) -> Sequence[Tensor]:
    """norm(conv(x)) of every pair [conv, norm], then conv(x) of the last one if it has no norm: parts of one map."""
    convs, norm = [pair[0] for pair in pairs], [pair[1] for pair in pairs if len(pair) == 2]
    sizes = [conv.out_channels for conv in convs]
    if all(isinstance(module, nn.Identity) for module in norm):  # fused into the convolutions
        return ops.pointwise(x, convs).split(sizes, dim=1)
    if len(norm) == len(convs):
        return norms.pointwise_norm(x, convs, norm).split(sizes, dim=1)
    y, last = ops.pointwise(x, convs).split([sum(sizes[:-1]), sizes[-1]], dim=1)
    y = norms.norm_each(y.contiguous(memory_format=torch.channels_last), norm)
    return [*y.split(sizes[:-1], dim=1), last]


class DropPath(nn.Module):
    """Stochastic depth: in training every row of the batch is dropped with probability `rate`, the others are scaled
    up."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * (torch.rand(x.shape[0], 1, 1, 1, device=x.device) < keep).to(x.dtype) / keep


def shortcut(in_channels: int, out_channels: int) -> nn.Module:
    """The residual path `down` of a graph convolution: identity if the width is the same, else 1x1 convolution and
    norm."""
    if in_channels == out_channels:
        return nn.Identity()
    return ConvNorm(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))


def residual_path(in_channels: int, out_channels: int, stride: int, first: bool) -> nn.Module | None:
    """None in the first block, identity if the shape is the same, else a strided 1x1 convolution with batch norm."""
    if first:
        return None
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return TemporalConv(in_channels, out_channels, 1, stride, 1)


def add_residual(y: Tensor, residual: nn.Module | None, x: Tensor) -> Tensor:
    """ReLU(y + residual(x)): y and the result (N, C_out, T', V), x (N, C_in, T, V)."""
    return F.relu(y if residual is None else y + residual(x), inplace=True)


class Block(nn.Module):
    """ReLU(TCN(GCN(x)) + residual(x)): (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V). 2s-AGCN (CVPR 2019)."""

    def __init__(self, gcn1: nn.Module, tcn1: nn.Module, in_channels: int, out_channels: int, stride: int, first: bool):
        super().__init__()
        self.gcn1, self.tcn1 = gcn1, tcn1
        self.residual = residual_path(in_channels, out_channels, stride, first)
        init_fan_out(tcn1, self.residual)

    def forward(self, x: Tensor) -> Tensor:
        return add_residual(self.tcn1(self.gcn1(x)), self.residual, x)


class PysklBlock(nn.Module):
    """`Block` with PYSKL's key names and initialization: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    def __init__(self, gcn: nn.Module, tcn: nn.Module, in_channels: int, out_channels: int, stride: int, first: bool):
        super().__init__()
        self.gcn, self.tcn = gcn, tcn
        self.residual = residual_path(in_channels, out_channels, stride, first)

    def forward(self, x: Tensor) -> Tensor:
        return add_residual(self.tcn(self.gcn(x)), self.residual, x)


def init_fan_out(*parts: nn.Module | None) -> None:
    """Convolutions inside: weight Normal(0, sqrt(2 / (C_out * kernel))), bias 0."""
    for part in filter(None, parts):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def init_graph_conv(gcn: nn.Module) -> None:
    """2s-AGCN's graph convolution: fan-out, `conv_d` smaller, `bn` near 0, so that `down` dominates at first."""
    init_fan_out(gcn)
    for conv in gcn.conv_d:
        nn.init.normal_(conv.weight, 0, (2 / (conv.out_channels * conv.in_channels * len(gcn.conv_d))) ** 0.5)
    nn.init.constant_(gcn.bn.weight, 1e-6)


def init_norms(part: nn.Module, std: float) -> None:
    """Batch norms inside: weight Normal(1, std), bias 0."""
    for module in part.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, std)
            nn.init.zeros_(module.bias)
