"""PoseConv3D: Revisiting Skeleton-based Action Recognition.

Haodong Duan, Yue Zhao, Kai Chen, Dahua Lin, Bo Dai. CVPR 2022, arXiv 2104.13586.

Equivalent to the published code. The input is a heatmap of all persons for each joint or limb, one per channel, so the
cost does not depend on the number of persons. `network` selects one of the three published networks: SlowOnly
(ResNet-50 without its last stage), C3D-light or X3D-shallow. Height, width and number of frames are arbitrary.

Shapes, 48 frames of NTU RGB+D:
(N, 17, 48, 56, 56) -> (N, 128, 48, 28, 28) -> (N, 256, 48, 14, 14) -> (N, 512, 24, 7, 7) -> (N, 60)
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from model import network as frame
from model.fuse_norms import fuse_norms

NO_GRADIENT = ("backbone.layer*.conv2.bn.bias",)  # of X3D-shallow: the norm after the next convolution removes it
Size = tuple[int, int, int]  # of a kernel or stride: time, height, width
BLOCKS, STRIDES, WIDTH = (4, 6, 3), (1, 1, 2), 32  # of SlowOnly; the width also of C3D-light
X3D_STAGES = ((2, 24, 54), (5, 48, 108), (3, 96, 216))  # blocks, width, width inside of a block


class ConvNorm(nn.Module):
    """A convolution that keeps the size up to its stride, batch norm, ReLU: (N, C_in, T, H, W) -> (N, C_out, ...)."""

    norm_after = {"conv": "bn"}

    def __init__(
        self, C_in: int, C_out: int, kernel: Size, stride: Size = (1, 1, 1), groups: int = 1, relu: bool = True
    ):
        super().__init__()
        padding = tuple(size // 2 for size in kernel)
        self.conv = nn.Conv3d(C_in, C_out, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm3d(C_out)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """ReLU(conv3(conv2(conv1(x))) + shortcut(x)), the stride in conv2.

    time: frames of the kernel of conv1. depthwise: conv2 is a depthwise 3 x 3 x 3 convolution without an activation
    (X3D) instead of a convolution over height and width (ResNet).
    """

    def __init__(self, C_in: int, inner: int, C_out: int, stride: Size, time: int, depthwise: bool, downsample: bool):
        super().__init__()
        self.conv1 = ConvNorm(C_in, inner, (time, 1, 1))
        kernel, groups = ((3, 3, 3), inner) if depthwise else ((1, 3, 3), 1)
        self.conv2 = ConvNorm(inner, inner, kernel, stride, groups, relu=not depthwise)
        self.conv3 = ConvNorm(inner, C_out, (1, 1, 1), relu=False)
        self.downsample = ConvNorm(C_in, C_out, (1, 1, 1), stride, relu=False) if downsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))


class Layers(nn.Module):
    """Layers that are called one after the other; their names are those of a checkpoint."""

    def __init__(self, **layers: nn.Module):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def stage(
    C_in: int, inner: int, C_out: int, blocks: int, stride: Size, time: int = 1, depthwise: bool = False
) -> nn.Sequential:
    """Blocks of which the first one has the stride and a convolution in its shortcut."""
    first = Bottleneck(C_in, inner, C_out, stride, time, depthwise, True)
    others = (Bottleneck(C_out, inner, C_out, (1, 1, 1), time, depthwise, False) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)


def slow_only(K: int, blocks: Sequence[int], temporal_strides: Sequence[int], width: int) -> Layers:
    """The slow pathway of SlowFast with ResNet-50: `width` channels, 16 `width` at the end."""
    layers: dict[str, nn.Module] = {"conv1": ConvNorm(K, width, (1, 7, 7))}
    layers["pool1"] = nn.MaxPool3d((1, 3, 3), 1, (0, 1, 1))
    C_in = width
    for s, (count, time_stride) in enumerate(zip(blocks, temporal_strides, strict=True)):
        inner = width << s
        stride, time = (time_stride, 2, 2), 1 if s == 0 else 3
        layers[f"layer{s + 1}"] = stage(C_in, inner, 4 * inner, count, stride, time)
        C_in = 4 * inner
    return Layers(**layers)


def c3d(K: int, width: int) -> Layers:
    """C3D-light: convolutions over 3 x 3 x 3, means over 2 x 2 pixels between; 8 `width` channels at the end."""
    layers: dict[str, nn.Module] = {}
    for name, (C_in, C_out) in {
        "1a": (K, width),
        "2a": (width, 2 * width),
        "3a": (2 * width, 4 * width),
        "3b": (4 * width, 4 * width),
        "4a": (4 * width, 8 * width),
        "4b": (8 * width, 8 * width),
    }.items():
        if name in ("2a", "3a", "4a"):
            layers[f"pool{name[0]}"] = nn.AvgPool3d((1, 2, 2))
        layers[f"conv{name}"] = ConvNorm(C_in, C_out, (3, 3, 3))
    return Layers(**layers)


def x3d(K: int) -> Layers:
    """X3D-shallow: depthwise convolutions, 216 channels at the end."""
    plain = nn.Conv3d(K, 24, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
    layers: dict[str, nn.Module] = {"conv1_s": Layers(conv=plain)}
    layers["conv1_t"] = ConvNorm(24, 24, (5, 1, 1), groups=24)
    C_in = 24
    for s, (count, width, inner) in enumerate(X3D_STAGES, start=1):
        layers[f"layer{s}"] = stage(C_in, inner, width, count, (1, 2, 2), depthwise=True)
        C_in = width
    return Layers(**layers, conv5=ConvNorm(C_in, X3D_STAGES[-1][2], (1, 1, 1)))


class Model(frame.Network):
    """PoseConv3D. Heatmaps (N, K, T, H, W) of K joints or limbs -> (N, num_class).

    network: `slowonly`, `c3d` or `x3d`. blocks, temporal_strides: of the three stages of SlowOnly; (3, 4, 6) are the
    blocks of the published networks for Kinetics. width: channels of the first layer of SlowOnly and C3D-light, of
    which all others are multiples. graph: only its number of joints is used. num_person: not used.

    >>> model = Model(60, 17, 2, "graph.coco.Graph", network="x3d")
    >>> model(torch.zeros(1, 17, 4, 16, 16)).shape
    torch.Size([1, 60])
    """

    for_inference = fuse_norms
    takes_heatmaps = True
    min_frames = 1
    joint_axes = {f"backbone.{stem}.conv.weight": (1,) for stem in ("conv1", "conv1a", "conv1_s")}

    def __init__(
        self,
        num_class: int,
        num_point: int,
        num_person: int,
        graph: str,
        graph_args: dict[str, Any] | None = None,
        in_channels: int = 17,
        drop_out: float = 0.5,
        network: Literal["slowonly", "c3d", "x3d"] = "slowonly",
        blocks: Sequence[int] = BLOCKS,
        temporal_strides: Sequence[int] = STRIDES,
        width: int = WIDTH,
    ):
        super().__init__()
        frame.load_body(graph, graph_args, num_point)
        check_arguments(network, blocks, temporal_strides, width)
        self.in_channels = in_channels
        if network == "slowonly":
            self.backbone, out = slow_only(in_channels, blocks, temporal_strides, width), 16 * width
        elif network == "c3d":
            self.backbone, out = c3d(in_channels, width), 8 * width
        else:
            self.backbone, out = x3d(in_channels), X3D_STAGES[-1][2]
        self.drop_out = nn.Dropout(drop_out)
        self.cls_head = nn.ModuleDict({"fc_cls": nn.Linear(out, num_class)})
        self.initialize()

    def initialize(self) -> None:
        """He's initialization by the outputs, 0 for the last norm of every block, a small classifier."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                volume = module.kernel_size[0] * module.kernel_size[1] * module.kernel_size[2]
                nn.init.normal_(module.weight, 0, (2 / (module.out_channels * volume)) ** 0.5)
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.conv3.bn.weight)
        nn.init.normal_(self.cls_head["fc_cls"].weight, 0, 0.01)
        nn.init.zeros_(self.cls_head["fc_cls"].bias)

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, K, T, H, W) -> (N, C, T', H', W')."""
        if data.dim() != 5 or data.shape[1] != self.in_channels or 0 in data.shape:
            K = self.in_channels
            raise ValueError(
                f"data: expected heatmaps (N, {K}, T, H, W) with K = {K} (in_channels), got {tuple(data.shape)}; "
                "feeders.feeder_heatmap.Feeder makes them"
            )
        return self.backbone(data)

    def classify(self, pooled: Tensor) -> Tensor:
        return self.cls_head["fc_cls"](self.drop_out(pooled))


def check_arguments(network: str, blocks: Sequence[int], temporal_strides: Sequence[int], width: int) -> None:
    """Raise ValueError for arguments that are invalid or not supported by this network."""
    if network not in ("slowonly", "c3d", "x3d"):
        raise ValueError(f"network: expected slowonly, c3d or x3d, got {network!r}")
    if network != "slowonly" and (tuple(blocks), tuple(temporal_strides)) != (BLOCKS, STRIDES):
        raise ValueError(f"blocks, temporal_strides: expected none for the network {network}, got some")
    if network == "x3d" and width != WIDTH:
        raise ValueError("width: expected none for the network x3d, got some")
    for name, values in (("blocks", blocks), ("temporal_strides", temporal_strides)):
        if len(values) != 3 or min(values) < 1:
            raise ValueError(f"{name}: expected three integers >= 1, one for each stage, got {list(values)}")
    if width < 1:
        raise ValueError(f"width: expected an integer >= 1, got {width}")
