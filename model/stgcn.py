"""ST-GCN: Spatial Temporal Graph Convolutional Networks for Skeleton-Based Action Recognition.

Sijie Yan, Yuanjun Xiong, Dahua Lin. AAAI 2018, arXiv 1801.07455.

Equals the published code. Its strategy `spatial` is the labeling mode `stgcn_spatial` here. A dead spot: entries of an edge importance
where the adjacency is 0.

Shapes, 300 frames of NTU RGB+D: (N, 3, 300, 25, 2) -> (2N, 64, 300, 25) -> (2N, 128, 150, 25) -> (2N, 256, 75, 25) -> (N, 60)
"""

from typing import Any

import torch
from torch import Tensor, nn

from model import blocks, products
from model.fold import fold

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3


class GraphConv(nn.Module):
    """K 1x1 convolutions, each spread over its subset and summed: (N, C_in, T, V) -> (N, C_out, T, V)."""

    def __init__(self, in_channels: int, out_channels: int, num_subsets: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_subsets * out_channels, 1)

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        return products.spread(x, A, self.conv)


class Block(nn.Module):
    """Graph convolution, temporal convolution over 9 frames, residual: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

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
        if in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif not first:
            self.residual = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        return blocks.add_residual(self.tcn(self.gcn(x, A)), self.residual, x)


class Model(nn.Module):
    """ST-GCN. (N, C, T, V, M) -> (N, num_class); all persons share the statistics of `data_bn`.

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d.Graph", {"labeling_mode": "stgcn_spatial"})
    >>> model(torch.zeros(1, 3, 16, 25, 2)).shape
    torch.Size([1, 60])
    """

    dead_parameters: tuple[str, ...] = ()
    for_inference = fold

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
        A = blocks.load_graph(graph, graph_args, num_point)
        self.num_person = num_person
        self.register_buffer("A", A)
        self.data_bn = blocks.DataNorm(in_channels, num_point, num_person, per_person=False, min_frames=1)
        self.st_gcn_networks = nn.ModuleList(
            Block(C_in, C_out, len(A), stride, dropout, first=i == 0)
            for i, (C_in, C_out, stride) in enumerate(blocks.unit_table(WIDTHS, in_channels))
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
        return blocks.split_persons(x, self.num_person)

    def forward(self, data: Tensor) -> Tensor:
        return self.fcn(blocks.pool(self.features(data))[:, :, None, None]).flatten(1)

    def extract_feature(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of every joint and frame, (N, num_class, T', V, M) and (N, 256, T', V, M); the logits' mean is forward."""
        feature = self.features(data)
        output = self.fcn(feature.flatten(3)).unflatten(3, feature.shape[3:])  # (N, num_class, T', V, M)
        return output, feature
