"""Multi-Branch ST-GCN: ST-GCN with noise on the topology, channel attention and temporal branches.

A fork of the published code of ST-GCN (Yan et al., AAAI 2018, arXiv 1801.07455), for Kinetics-Skeleton and poses of
animals.

Equivalent to the code of the fork. `variant` selects one of its five networks. Every block contains channel attention
and norms for all three widths but uses only those of its own width. The final network also contains ST-GCN's temporal
convolution, which is unused, so `dropout` has no effect on it. The unused parameters are kept so that checkpoints can
be loaded; they are not trained.

Shapes, 300 frames of NTU RGB+D:
(N, 3, 300, 25, 2) -> (2N, 64, 300, 25) -> (2N, 128, 150, 25) -> (2N, 256, 75, 25) -> (N, 60)
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from model import blocks, network, norms, ops
from model.fuse_norms import fuse_norms

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3
REDUCTION = 16  # of the channel attention
Variant = Literal["st_gcn", "mix", "se", "gaosi", "4branch"]  # the names of its files
NOISE = {"st_gcn": 0.05, "mix": 0.03, "gaosi": 0.03, "4branch": 0.03}  # mean; the standard deviation is 0.2
ATTENTION, NORM = ("st_gcn", "mix", "se", "4branch"), ("st_gcn", "mix", "4branch")
EXAMPLE = {"graph_args": {"labeling_mode": "stgcn_spatial"}}


class GraphConv(nn.Module):
    """f = sum_k W_k x A_k over the subsets k: (N, C_in, T, V), A (K, V, V) -> (N, C_out, T, V)."""

    def __init__(self, in_channels: int, out_channels: int, num_subsets: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_subsets * out_channels, 1)

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        return ops.conv_then_aggregate(x, self.conv, A)


class ChannelAttention(nn.Module):
    """x sigmoid(W_2 ReLU(W_1 mean of x over frames and joints)), squeeze and excitation: (N, C, T, V) -> same."""

    def __init__(self, channels: int):
        super().__init__()
        squeeze = nn.Linear(channels, channels // REDUCTION, bias=False)
        excite = nn.Linear(channels // REDUCTION, channels, bias=False)
        self.fc = nn.Sequential(squeeze, nn.ReLU(inplace=True), excite, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class MultiBranchTemporalConv(nn.Module):
    """The six branches of ST-GCN++ with a norm after every dilated convolution.

    (N, C, T, V) -> (N, C, ceil(T / stride), V).
    """

    norm_after = {"transform.2": "bn"}

    def __init__(self, channels: int, stride: int):
        super().__init__()
        width = channels // 6
        self.branches = nn.ModuleList()
        for d, w in enumerate((channels - 5 * width, width, width, width), start=1):
            self.branches.append(self.branch(channels, w, blocks.TemporalConv(w, w, 3, stride, d)))
        self.branches.append(self.branch(channels, width, nn.MaxPool2d((3, 1), (stride, 1), (1, 0))))
        self.branches.append(blocks.StridedConv(channels, width, stride))
        layers = nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1)
        self.transform = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(channels)

    @staticmethod
    def branch(channels: int, width: int, last: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True), last)

    def forward(self, x: Tensor) -> Tensor:
        norm, relu, conv = self.transform
        z = blocks.run_branches(x, self.branches)
        return norms.conv_norm(relu(norm(z)), conv, self.bn)


def temporal_conv(channels: int, stride: int, dropout: float) -> nn.Module:
    """ST-GCN's temporal convolution over 9 frames: (N, C, T, V) -> (N, C, ceil(T / stride), V)."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),  # not in place: the four convolutions of a block read the same map
        nn.Conv2d(channels, channels, (9, 1), (stride, 1), (4, 0)),
        nn.BatchNorm2d(channels),
        nn.Dropout(dropout),
    )


class Block(nn.Module):
    """ReLU(TCN(BN(SE(GCN(x)))) + residual(x)): (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    def __init__(
        self, in_channels: int, out_channels: int, num_subsets: int, stride: int, dropout: float, variant: str, i: int
    ):
        super().__init__()
        self.variant, self.width = variant, out_channels
        self.gcn = GraphConv(in_channels, out_channels, num_subsets)
        for width in sorted(set(WIDTHS)):
            if variant in ATTENTION:
                self.add_module(f"se{width}", ChannelAttention(width))
            if variant in NORM:
                self.add_module(f"bn{width}", nn.BatchNorm2d(width))
        dropout = 0 if i == 0 else dropout
        if variant == "4branch":
            quarter = out_channels // 4
            self.split = nn.Conv2d(out_channels, quarter, 1, bias=False)
            for name in ("tcn", "tcn2", "tcn3", "tcn4"):
                self.add_module(name, temporal_conv(quarter, stride, dropout))
            self.conact = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        else:
            self.tcn = temporal_conv(out_channels, stride, dropout)
        if variant == "st_gcn":
            self.mstcn = MultiBranchTemporalConv(out_channels, stride)
        self.residual = None
        if i and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif i:
            conv = blocks.StridedConv(in_channels, out_channels, stride)
            self.residual = blocks.ConvNorm(conv, nn.BatchNorm2d(out_channels))
        for name, part in self.named_children():
            if name in self.unused():
                part.requires_grad_(False)

    def unused(self) -> set[str]:
        """Names of the parts that are in checkpoints only."""
        others = {f"{kind}{width}" for kind in ("se", "bn") for width in WIDTHS if width != self.width}
        return others | ({"tcn"} if self.variant == "st_gcn" else set())

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        g = self.gcn(x, A)
        if self.variant in ATTENTION:
            g = self.get_submodule(f"se{self.width}")(g)
        if self.variant in NORM:
            g = self.get_submodule(f"bn{self.width}")(g)
        return blocks.add_residual(self.over_time(g), self.residual, x)

    def over_time(self, g: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, ceil(T / stride), V)."""
        if self.variant == "st_gcn":
            return self.mstcn(g)
        if self.variant == "4branch":
            s = self.split(g)
            return self.conact(torch.cat([self.tcn(s), self.tcn2(s), self.tcn3(s), self.tcn4(s)], 1))
        return self.tcn(g)


class Model(network.Network):
    """Multi-Branch ST-GCN. (N, C, T, V, M) -> (N, num_class); all persons share the statistics of `data_bn`.

    variant: `st_gcn`, the final network; `se`: ST-GCN with channel attention; `gaosi`: with noise; `mix`: with both and
    a norm; `4branch`: as `mix`, with four parallel temporal convolutions. edge_importance_weighting: multiply A by a
    learned mask in every block. The noise is drawn once and part of the weights: A becomes A + n (A + noise), with a
    learned number n.

    >>> model = Model(400, 18, 2, "graph.kinetics.Graph", {"labeling_mode": "stgcn_spatial"})
    >>> model(torch.zeros(1, 3, 16, 18, 2)).shape
    torch.Size([1, 400])
    """

    for_inference = fuse_norms
    graph_safe = True
    topologies = ("A", "edge_importance")
    joint_axes = {"noise_matrix": (1, 2)}

    def __init__(
        self,
        num_class: int,
        num_point: int,
        num_person: int,
        graph: str,
        graph_args: dict[str, Any] | None = None,
        in_channels: int = 3,
        edge_importance_weighting: bool = True,
        dropout: float = 0,
        variant: Variant = "st_gcn",
    ):
        super().__init__()
        if variant not in (*NOISE, "se"):
            raise ValueError(f"variant: expected {', '.join(NOISE)} or se, got {variant!r}")
        A = network.load_graph(graph, graph_args, num_point)
        self.num_person = num_person
        self.register_buffer("A", A)
        self.study_variable = None
        if variant in NOISE:
            self.register_buffer("noise_matrix", A + torch.normal(NOISE[variant], 0.2, A.shape))
            self.study_variable = nn.ParameterList([nn.Parameter(torch.ones(1))])
        self.data_bn = network.DataNorm(in_channels, num_point, num_person, per_person=False)
        self.st_gcn_networks = nn.ModuleList(
            Block(C_in, C_out, len(A), stride, dropout, variant, i)
            for i, (C_in, C_out, stride) in enumerate(blocks.block_table(WIDTHS, in_channels))
        )
        self.edge_importance = None
        if edge_importance_weighting:
            self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones_like(A)) for _ in WIDTHS)
        self.fcn = nn.Conv2d(WIDTHS[-1], num_class, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        blocks.init_norms(self, std=0.02)

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, C, T, V, M) -> (N, 256, ceil(T / 4), V, M)."""
        x, A = self.data_bn(data), self.A
        if self.study_variable is not None:
            A = A + self.study_variable[0] * self.noise_matrix
        for i, block in enumerate(self.st_gcn_networks):
            x = block(x, A if self.edge_importance is None else A * self.edge_importance[i])
        return network.split_persons(x, self.num_person)

    def classify(self, pooled: Tensor) -> Tensor:
        return self.fcn(pooled[:, :, None, None]).flatten(1)
