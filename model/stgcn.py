"""ST-GCN: Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition.

Sijie Yan, Yuanjun Xiong, Dahua Lin. AAAI 2018, arXiv 1801.07455.

Equivalent to the published code. Its strategy `spatial` is the labeling mode `stgcn_spatial` here. Edge importance has
no gradient where the adjacency is 0.

Shapes, 300 frames of NTU RGB+D:
(N, 3, 300, 25, 2) -> (2N, 64, 300, 25) -> (2N, 128, 150, 25) -> (2N, 256, 75, 25) -> (N, 60)
"""

from typing import Any

import torch
from torch import Tensor, nn

from model import blocks, network, ops
from model.fuse_norms import fuse_norms

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3
EXAMPLE = {"graph_args": {"labeling_mode": "stgcn_spatial"}}  # the published partition


class GraphConv(nn.Module):
    """f = sum_k W_k x A_k over the subsets k, equation 10: (N, C_in, T, V), A (K, V, V) -> (N, C_out, T, V)."""

    def __init__(self, in_channels: int, out_channels: int, num_subsets: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_subsets * out_channels, 1)

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        return ops.conv_then_aggregate(x, self.conv, A)


class Block(nn.Module):
    """ReLU(TCN(GCN(x)) + residual(x)), the TCN over 9 frames: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    def __init__(self, in_channels: int, out_channels: int, num_subsets: int, stride: int, dropout: float, first: bool):
        super().__init__()
        self.gcn = GraphConv(in_channels, out_channels, num_subsets)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(0 if first else dropout),
        )
        self.residual = None
        if not first and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif not first:
            conv = blocks.StridedConv(in_channels, out_channels, stride)
            self.residual = blocks.ConvNorm(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        return blocks.add_residual(self.tcn(self.gcn(x, A)), self.residual, x)


class Model(network.Network):
    """ST-GCN. (N, C, T, V, M) -> (N, num_class); all persons share the statistics of `data_bn`.

    edge_importance_weighting: multiply A by a learned mask M in every block (A o M in the paper).

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d.Graph", {"labeling_mode": "stgcn_spatial"})
    >>> model(torch.zeros(1, 3, 16, 25, 2)).shape
    torch.Size([1, 60])
    """

    for_inference = fuse_norms
    graph_safe = True
    topologies = ("A", "edge_importance")

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
    ):
        super().__init__()
        A = network.load_graph(graph, graph_args, num_point)
        self.num_person = num_person
        self.register_buffer("A", A)
        self.data_bn = network.DataNorm(in_channels, num_point, num_person, per_person=False)
        self.st_gcn_networks = nn.ModuleList(
            Block(C_in, C_out, A.shape[0], stride, dropout, first=i == 0)
            for i, (C_in, C_out, stride) in enumerate(blocks.block_table(WIDTHS, in_channels))
        )
        self.edge_importance = None
        if edge_importance_weighting:
            self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones_like(A)) for _ in WIDTHS)
        self.fcn = nn.Conv2d(WIDTHS[-1], num_class, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.02)
                nn.init.zeros_(module.bias)
        blocks.init_norms(self, std=0.02)

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, C, T, V, M) -> (N, 256, ceil(T / 4), V, M)."""
        x = self.data_bn(data)
        for i, block in enumerate(self.st_gcn_networks):
            x = block(x, self.A if self.edge_importance is None else self.A * self.edge_importance[i])
        return network.split_persons(x, self.num_person)

    def classify(self, pooled: Tensor) -> Tensor:
        return self.fcn(pooled[:, :, None, None]).flatten(1)


class TwoStream(network.Network):
    """The sum of two ST-GCNs, of the joints and of their motion. (N, C, T, V, M) -> (N, num_class).

    Arguments as those of `Model`; the published configuration trains it on NTU RGB+D with dropout 0.5.

    >>> model = TwoStream(60, 25, 2, "graph.ntu_rgb_d.Graph", {"labeling_mode": "stgcn_spatial"})
    >>> model(torch.zeros(1, 3, 16, 25, 2)).shape
    torch.Size([1, 60])
    """

    for_inference = fuse_norms
    graph_safe = True

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
    ):
        super().__init__()
        args = (num_class, num_point, num_person, graph, graph_args, in_channels, edge_importance_weighting, dropout)
        self.origin_stream = Model(*args)
        self.motion_stream = Model(*args)

    def features(self, data: Tensor) -> Tensor:
        """The last blocks of both streams: (N, C, T, V, M) -> (N, 512, ceil(T / 4), V, M)."""
        return torch.cat([self.origin_stream.features(data), self.motion_stream.features(motion(data))], 1)

    def classify(self, pooled: Tensor) -> Tensor:
        origin, motion = pooled.chunk(2, 1)
        return self.origin_stream.classify(origin) + self.motion_stream.classify(motion)


def motion(x: Tensor) -> Tensor:
    """x_t - (x_t-1 + x_t+1) / 2, half the negative acceleration; 0 in the first and last frame.

    (N, C, T, V, M) -> same.
    """
    m = torch.zeros_like(x)
    m[:, :, 1:-1] = x[:, :, 1:-1] - 0.5 * x[:, :, 2:] - 0.5 * x[:, :, :-2]
    return m
