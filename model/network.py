"""Common parts of all networks: graph, input normalization, persons, pooling, classifier.

Axes: N batch, M persons, C channels, T frames, V joints, K adjacency subsets. Inside a network, persons are batch rows
with index n * M + m, and a feature map is (N * M, C, T, V) in channels-last memory format (see `model.ops`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graph.body import BodyGraph
from graph.skeleton import build_graph


def load_body(graph: str | BodyGraph, graph_args: dict[str, Any] | None, num_point: int) -> BodyGraph:
    """The named graph.

    Raises:
        ValueError: the graph has another number of joints than `num_point`.
    """
    body = build_graph(graph, graph_args)
    if body.num_node != num_point:
        raise ValueError(f"num_point: expected {body.num_node} (graph {body.skeleton.name}), got {num_point}")
    return body


def load_graph(graph: str | BodyGraph, graph_args: dict[str, Any] | None, num_point: int) -> Tensor:
    """The adjacency of the named graph in the precision of the published weights, (K, V, V) float32.

    Raises:
        ValueError: the graph has another number of joints than `num_point`.
    """
    return torch.from_numpy(load_body(graph, graph_args, num_point).A.astype(np.float32))


class DataNorm(nn.BatchNorm1d):
    """Batch norm of every joint and channel over time; then persons become batch rows.

    (N, C, T, V, M) -> (N * M, C, T, V).

    per_person: separate statistics for every person slot, or shared ones.

    Raises:
        ValueError: the sizes of the data differ from those of the network, or there are fewer than `min_frames` frames.
    """

    def __init__(self, in_channels: int, num_point: int, num_person: int, per_person: bool, min_frames: int = 1):
        super().__init__((num_person if per_person else 1) * num_point * in_channels)
        self.expected = {"C": in_channels, "V": num_point, "M": num_person}
        self.per_person, self.min_frames = per_person, min_frames

    def forward(self, data: Tensor) -> Tensor:
        check_axes(data, self.expected, self.min_frames)
        N, C, T, V, M = data.shape
        x = data.permute(0, 4, 3, 1, 2).reshape(-1, self.num_features, T)  # (N, M * V * C, T) or (N * M, V * C, T)
        x = super().forward(x).view(N * M, V, C, T).permute(0, 2, 3, 1)  # (N * M, C, T, V)
        return x.contiguous(memory_format=torch.channels_last)


def check_axes(data: Tensor, expected: Mapping[str, int], min_frames: int = 1) -> None:
    """Raise ValueError for data other than (N, C, T, V, M) with these C, V and M, and at least `min_frames` frames."""
    shape = tuple(data.shape)
    if data.dim() != 5:
        raise ValueError(f"data: expected 5 axes (N, C, T, V, M), got {data.dim()} axes {shape}")
    size = dict(zip("NCTVM", shape, strict=True))
    for axis, key in (("C", "in_channels"), ("V", "num_point"), ("M", "num_person")):
        if size[axis] != expected[axis]:
            raise ValueError(f"data: expected {axis} = {expected[axis]} ({key}), got {axis} = {size[axis]} in {shape}")
    if size["T"] < min_frames:
        raise ValueError(f"data: expected at least {min_frames} frames, got {size['T']}; use a longer window")


class EmbeddedNorm(DataNorm):
    """`DataNorm` of data that are embedded before: (N, C, T, V, M) -> (N * M, width, T, V).

    `embed` maps joints to their channels: (N, T, M, V, C) -> (N, T, M, V, width).
    """

    def __init__(self, in_channels: int, width: int, num_point: int, num_person: int):
        super().__init__(width, num_point, num_person, per_person=True)
        self.expected["C"] = in_channels

    def forward(self, data: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
        check_axes(data, self.expected, self.min_frames)
        e = embed(data.permute(0, 2, 4, 3, 1))
        x = super(DataNorm, self).forward(e.reshape(-1, self.num_features)).view(e.shape)
        return x.transpose(1, 2).flatten(0, 1).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def unroll_joints(data: Tensor, num_point: int) -> Tensor:
    """One person with joints and channels on one axis, joint-major: (N, T, V * C) -> (N, C, T, V, 1).

    Raises:
        ValueError: the last axis is not a multiple of `num_point`.
    """
    if data.shape[2] % num_point:
        raise ValueError(f"data: expected (N, T, V * C) with V = {num_point} (num_point), got {tuple(data.shape)}")
    return data.unflatten(2, (num_point, -1)).permute(0, 3, 1, 2).unsqueeze(-1)  # (N, C, T, V, 1)


def split_persons(x: Tensor, num_person: int) -> Tensor:
    """(N * M, C, T, V) -> (N, C, T, V, M), a view."""
    return x.unflatten(0, (-1, num_person)).movedim(1, -1)  # (N, C, T, V, M)


def pool(features: Tensor) -> Tensor:
    """Mean over frames, joints and person slots, empty slots included: (N, C, T, V, M) -> (N, C)."""
    return features.mean((2, 3, 4))


class Network(nn.Module):
    """Features of every joint and frame, their mean, a classifier: (N, C, T, V, M) -> (N, num_class)."""

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, C, T, V, M) -> (N, C_out, T', V, M)."""
        raise NotImplementedError

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits of pooled features: (N, C_out) -> (N, num_class)."""
        raise NotImplementedError

    def forward(self, data: Tensor) -> Tensor:
        return self.classify(pool(self.features(data)))

    def for_inference(self) -> nn.Module:
        """The network for evaluation: itself, or a faster copy with the same logits.

        To provide a copy, a class defines `for_inference = fuse_norms` itself. The engine ignores an inherited
        definition, because a subclass may have a different forward pass, for which the copy would be wrong.
        """
        return self


class BlockNetwork(Network):
    """`data_bn`, the blocks `l1`, `l2`, ..., pooling, dropout, `fc`: layout and key names of 2s-AGCN (CVPR 2019)."""

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        width: int,
        num_class: int,
        num_point: int,
        num_person: int,
        in_channels: int,
        drop_out: float,
    ):
        super().__init__()
        self.num_person = num_person
        self.data_bn = DataNorm(in_channels, num_point, num_person, per_person=True)
        self.num_blocks = len(blocks)
        for i, block in enumerate(blocks, start=1):
            self.add_module(f"l{i}", block)
        self.drop_out = nn.Dropout(drop_out)
        self.fc = nn.Linear(width, num_class)
        nn.init.normal_(self.fc.weight, 0, (2 / num_class) ** 0.5)

    def features(self, data: Tensor) -> Tensor:
        x = self.data_bn(data)
        for i in range(1, self.num_blocks + 1):
            x = self.get_submodule(f"l{i}")(x)
        return split_persons(x, self.num_person)

    def classify(self, pooled: Tensor) -> Tensor:
        return self.fc(self.drop_out(pooled))


class EmbeddedNetwork(BlockNetwork):
    """`BlockNetwork` on joints that are embedded linearly, with a learned vector for each joint (BlockGCN, Hyper-GCN).

    embedding: channels of an embedded joint. embedded_channels: number of input channels, from the first, that are
    embedded.
    """

    joint_axes = {"pos_embedding": (1,)}

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        width: int,
        num_class: int,
        num_point: int,
        num_person: int,
        in_channels: int,
        drop_out: float,
        embedding: int,
        embedded_channels: int,
    ):
        super().__init__(blocks, width, num_class, num_point, num_person, in_channels, drop_out)
        self.pos_embedding = nn.Parameter(torch.randn(1, num_point, embedding))
        self.to_joint_embedding = nn.Linear(embedded_channels, embedding)
        self.data_bn = EmbeddedNorm(in_channels, embedding, num_point, num_person)

    def embed(self, joints: Tensor) -> Tensor:
        """E x + b + p_v of joint v: (N, T, M, V, C) -> (N, T, M, V, width)."""
        return self.to_joint_embedding(joints[..., : self.to_joint_embedding.in_features]) + self.pos_embedding[0]


class PysklNetwork(Network):
    """`backbone` (norm, blocks), pooling, dropout, `cls_head`: layout and key names of PYSKL (ACM MM 2022).

    per_person: as in `DataNorm`.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        width: int,
        num_class: int,
        num_point: int,
        num_person: int,
        in_channels: int,
        drop_out: float,
        per_person: bool = False,
    ):
        super().__init__()
        self.num_person = num_person
        norm = DataNorm(in_channels, num_point, num_person, per_person)
        self.backbone = nn.ModuleDict({"data_bn": norm, "gcn": nn.Sequential(*blocks)})
        self.drop_out = nn.Dropout(drop_out)
        self.cls_head = nn.ModuleDict({"fc_cls": nn.Linear(width, num_class)})
        nn.init.normal_(self.cls_head["fc_cls"].weight, 0, 0.01)
        nn.init.zeros_(self.cls_head["fc_cls"].bias)

    def features(self, data: Tensor) -> Tensor:
        return split_persons(self.backbone["gcn"](self.backbone["data_bn"](data)), self.num_person)

    def classify(self, pooled: Tensor) -> Tensor:
        return self.cls_head["fc_cls"](self.drop_out(pooled))
