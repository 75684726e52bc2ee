"""Vocabulary that the papers share to the letter.

Axes: N batch, M persons, C channels, T frames, V joints, K adjacency subsets. Inside a network the persons are batch rows, index
n * M + m, and a feature map is (N * M, C, T, V), in memory with the channels last (`model.products` says why).
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph.skeleton import BodyGraph, build_graph
from model import products


def load_graph(graph: str | BodyGraph, graph_args: dict[str, Any] | None, num_point: int) -> Tensor:
    """The adjacency of the named graph in the precision of the published weights, (K, V, V) float32.

    Raises ValueError if the graph has another number of joints than `num_point`.
    """
    body = build_graph(graph, graph_args)
    if body.num_node != num_point:
        raise ValueError(
            f"num_point: found {num_point}; the graph {body.skeleton.name} has {body.num_node} joints, so only {body.num_node} is allowed; "
            f"set num_point to {body.num_node} or name the graph of your body"
        )
    return torch.from_numpy(body.A.astype(np.float32))


class DataNorm(nn.BatchNorm1d):
    """Batch norm of every joint and channel over time, with statistics for each person or shared by them; then persons become rows.

    (N, C, T, V, M) -> (N * M, C, T, V). Checks the input: raises ValueError for other axes than the network was built for.
    """

    def __init__(self, in_channels: int, num_point: int, num_person: int, per_person: bool, min_frames: int):
        super().__init__((num_person if per_person else 1) * num_point * in_channels)
        self.allowed = {"C": in_channels, "V": num_point, "M": num_person}
        self.min_frames = min_frames

    def forward(self, data: Tensor) -> Tensor:
        self.check(data)
        N, C, T, V, M = data.shape
        x = data.permute(0, 4, 3, 1, 2).reshape(-1, self.num_features, T)  # (N, M * V * C, T) or (N * M, V * C, T)
        return super().forward(x).view(N * M, V, C, T).permute(0, 2, 3, 1).contiguous(memory_format=torch.channels_last)  # (N * M, C, T, V)

    def check(self, data: Tensor) -> None:
        if data.dim() != 5:
            raise ValueError(f"data: found {data.dim()} axes {tuple(data.shape)}; allowed are (N, C, T, V, M); reshape the batch")
        size = dict(zip("NCTVM", data.shape, strict=True))
        for axis, key in (("C", "in_channels"), ("V", "num_point"), ("M", "num_person")):
            if size[axis] != self.allowed[axis]:
                raise ValueError(
                    f"data: found {axis} = {size[axis]} in {tuple(data.shape)} (N, C, T, V, M); this model was built for {axis} = "
                    f"{self.allowed[axis]}; set {key} (and the graph) to the data, or feed the data that the model is for"
                )
        if size["T"] < self.min_frames:
            raise ValueError(f"data: found {size['T']} frames; allowed are {self.min_frames} or more; use a longer window")


def unroll_joints(data: Tensor, num_point: int) -> Tensor:
    """One person whose joints and channels lie side by side, joint-major: (N, T, V * C) -> (N, C, T, V, 1)."""
    features = data.shape[2]
    if features % num_point:
        raise ValueError(
            f"data: found {features} features in {tuple(data.shape)} (N, T, V * C); allowed are multiples of {num_point}; reshape it"
        )
    return data.unflatten(2, (num_point, -1)).permute(0, 3, 1, 2).unsqueeze(-1)  # (N, C, T, V, 1)


def split_persons(x: Tensor, num_person: int) -> Tensor:
    """(N * M, C, T, V) -> (N, C, T, V, M), a view."""
    return x.unflatten(0, (-1, num_person)).movedim(1, -1)  # (N, C, T, V, M)


def pool(features: Tensor) -> Tensor:
    """Mean over frames, joints and persons, absent persons included: (N, C, T, V, M) -> (N, C)."""
    return features.mean((2, 3, 4))


class TemporalConv(nn.Module):
    """Convolution over time and batch norm: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    norm_after = {"conv": "bn"}  # folded into it by `model.fold`

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, dilation: int):
        super().__init__()
        padding = (kernel_size - 1) * dilation // 2
        self.conv = nn.Conv2d(in_channels, out_channels, (kernel_size, 1), (stride, 1), (padding, 0), (dilation, 1))
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class MultiScaleTemporalConv(nn.Module):
    """Branches over time of equal width: one for each dilation, a max pool, a 1x1 convolution; concatenated in this order.

    (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V). MS-G3D (CVPR 2020), CTR-GCN (ICCV 2021).
    Raises ValueError if the branches cannot share C_out evenly.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, dilations: Sequence[int]):
        super().__init__()
        num_branches = len(dilations) + 2
        if out_channels % num_branches:
            raise ValueError(
                f"channels: found {out_channels}; allowed are multiples of {num_branches}, the number of branches; change the width"
            )
        width = out_channels // num_branches

        def enter() -> list[nn.Module]:
            return [nn.Conv2d(in_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]

        self.branches = nn.ModuleList(nn.Sequential(*enter(), TemporalConv(width, width, kernel_size, stride, d)) for d in dilations)
        self.branches.append(nn.Sequential(*enter(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(width)))
        self.branches.append(nn.Sequential(nn.Conv2d(in_channels, width, 1, (stride, 1)), nn.BatchNorm2d(width)))

    def forward(self, x: Tensor) -> Tensor:
        return products.run_branches(x, self.branches)


def unit_table(channels: Sequence[int], in_channels: int) -> Iterator[tuple[int, int, int]]:
    """(C_in, C_out, stride) of every unit; the stride is 2 where the width grows, but not in the first unit.

    Raises ValueError for widths that shrink, that are too small for the branches, or none at all.
    """
    widths = list(channels)
    if not widths or any(not isinstance(w, int) or w < 8 for w in widths) or widths != sorted(widths):
        raise ValueError(f"channels: found {widths}; allowed are the widths of the units, from 8 on and never shrinking; correct the list")
    for i, (C_in, C_out) in enumerate(zip([in_channels, *widths], widths, strict=False)):
        yield C_in, C_out, 2 if i > 0 and C_out > C_in else 1


def residual_path(in_channels: int, out_channels: int, stride: int, first: bool) -> nn.Module | None:
    """None in the first unit of a network, the input where the shape stays, else a strided 1x1 convolution with batch norm."""
    if first:
        return None
    return nn.Identity() if in_channels == out_channels and stride == 1 else TemporalConv(in_channels, out_channels, 1, stride, 1)


def add_residual(y: Tensor, residual: nn.Module | None, x: Tensor) -> Tensor:
    """ReLU(y + residual(x)), all (N, C, T, V) but x, which the residual path brings to the shape of y."""
    return F.relu(y if residual is None else y + residual(x), inplace=True)


class Unit(nn.Module):
    """ReLU(TCN(GCN(x)) + residual(x)): (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V). 2s-AGCN (CVPR 2019)."""

    def __init__(self, gcn1: nn.Module, tcn1: nn.Module, in_channels: int, out_channels: int, stride: int, first: bool):
        super().__init__()
        self.gcn1, self.tcn1 = gcn1, tcn1
        self.residual = residual_path(in_channels, out_channels, stride, first)
        init_fan_out(tcn1, self.residual)

    def forward(self, x: Tensor) -> Tensor:
        return add_residual(self.tcn1(self.gcn1(x)), self.residual, x)


class UnitNetwork(nn.Module):
    """`data_bn`, the units `l1`, `l2`, ..., mean over frames, joints and persons, dropout, `fc`: the trunk of 2s-AGCN (CVPR 2019).

    (N, C, T, V, M) -> (N, num_class).
    """

    def __init__(
        self, units: Sequence[nn.Module], width: int, num_class: int, num_point: int, num_person: int, in_channels: int, drop_out: float
    ):
        super().__init__()
        self.num_person = num_person
        self.data_bn = DataNorm(in_channels, num_point, num_person, per_person=True, min_frames=1)
        self.num_units = len(units)
        for i, unit in enumerate(units, start=1):
            self.add_module(f"l{i}", unit)
        self.drop_out = nn.Dropout(drop_out)
        self.fc = nn.Linear(width, num_class)
        nn.init.normal_(self.fc.weight, 0, (2 / num_class) ** 0.5)

    def features(self, data: Tensor) -> Tensor:
        """Output of the last unit: (N, C, T, V, M) -> (N, C_out, T', V, M)."""
        x = self.data_bn(data)
        for i in range(1, self.num_units + 1):
            x = self.get_submodule(f"l{i}")(x)
        return split_persons(x, self.num_person)

    def forward(self, data: Tensor) -> Tensor:
        return self.fc(self.drop_out(pool(self.features(data))))


class MultiScaleTemporalUnit(nn.Module):
    """Six branches over time, joined by batch norm, ReLU and a 1x1 convolution: (N, C, T, V) -> (N, C, ceil(T / stride), V).

    Kernel 3 with dilations 1 to 4, a max pool, a 1x1 convolution; a branch has C // 6 channels, the first what is left.
    ST-GCN++ (ACM MM 2022), DG-STGCN (2022).
    """

    norm_after = {"transform.2": "bn"}  # folded into it by `model.fold`

    def __init__(self, channels: int, stride: int):
        super().__init__()
        width = channels // 6
        first = channels - 5 * width

        def branch(width: int, last: nn.Module) -> nn.Module:
            return nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True), last)

        def dilated(width: int, d: int) -> nn.Module:
            return nn.Sequential(OrderedDict(conv=nn.Conv2d(width, width, (3, 1), (stride, 1), (d, 0), (d, 1))))

        self.branches = nn.ModuleList(branch(w, dilated(w, d)) for w, d in ((first, 1), (width, 2), (width, 3), (width, 4)))
        self.branches.append(branch(width, nn.MaxPool2d((3, 1), (stride, 1), (1, 0))))
        self.branches.append(nn.Conv2d(channels, width, 1, (stride, 1)))
        self.transform = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1))
        self.bn = nn.BatchNorm2d(channels)

    def scales(self, x: Tensor) -> Tensor:
        return products.run_branches(x, self.branches)

    def join(self, z: Tensor) -> Tensor:
        return self.bn(self.transform(z))

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.scales(x))


class Stage(nn.Module):
    """`Unit` under PYSKL's names: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    def __init__(self, gcn: nn.Module, tcn: nn.Module, in_channels: int, out_channels: int, stride: int, first: bool):
        super().__init__()
        self.gcn, self.tcn = gcn, tcn
        self.residual = residual_path(in_channels, out_channels, stride, first)

    def forward(self, x: Tensor) -> Tensor:
        return add_residual(self.tcn(self.gcn(x)), self.residual, x)


class StageNetwork(nn.Module):
    """`backbone` (norm shared by persons, stages), mean over frames, joints and persons, dropout, `cls_head`: PYSKL's frame (ACM MM 2022).

    (N, C, T, V, M) -> (N, num_class).
    """

    def __init__(
        self, stages: Sequence[nn.Module], width: int, num_class: int, num_point: int, num_person: int, in_channels: int, drop_out: float
    ):
        super().__init__()
        self.num_person = num_person
        norm = DataNorm(in_channels, num_point, num_person, per_person=False, min_frames=1)
        self.backbone = nn.ModuleDict({"data_bn": norm, "gcn": nn.Sequential(*stages)})
        self.drop_out = nn.Dropout(drop_out)
        self.cls_head = nn.ModuleDict({"fc_cls": nn.Linear(width, num_class)})
        nn.init.normal_(self.cls_head["fc_cls"].weight, 0, 0.01)
        nn.init.zeros_(self.cls_head["fc_cls"].bias)

    def features(self, data: Tensor) -> Tensor:
        """Output of the last stage: (N, C, T, V, M) -> (N, C_out, T', V, M)."""
        return split_persons(self.backbone["gcn"](self.backbone["data_bn"](data)), self.num_person)

    def forward(self, data: Tensor) -> Tensor:
        return self.cls_head["fc_cls"](self.drop_out(pool(self.features(data))))


def shortcut(in_channels: int, out_channels: int) -> nn.Module:
    """The input itself where the width stays, else 1x1 convolution and batch norm."""
    if in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))


def init_fan_out(*parts: nn.Module | None) -> None:
    """Convolutions inside: weight Normal(0, sqrt(2 / (C_out * kernel))), bias 0."""
    for part in filter(None, parts):
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                nn.init.zeros_(module.bias)


def init_graph_conv(gcn: nn.Module) -> None:
    """2s-AGCN's graph convolution: fan-out, the subset convolutions `conv_d` smaller, `bn` nearly off, so that `down` leads at first."""
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
