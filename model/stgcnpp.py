"""ST-GCN++, from PYSKL: Towards Good Practices for Skeleton Action Recognition.

Haodong Duan, Jiaqi Wang, Kai Chen, Dahua Lin. ACM Multimedia 2022, arXiv 2205.09443.

Equivalent to the published configurations: learned adjacency, residual in the graph convolution, multi-branch temporal
convolution. The graph of NTU RGB+D differs from PYSKL's at the tips of the hands, which only changes the initial value
of the learned adjacency. `channels` sets the number and widths of the blocks.

Shapes, 100 frames of NTU RGB+D:
(N, 3, 100, 25, 2) -> (2N, 64, 100, 25) -> (2N, 128, 50, 25) -> (2N, 256, 25, 25) -> (N, 60)
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, network, ops
from model.fuse_norms import fuse_norms

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3


class GraphConv(nn.Module):
    """ReLU(BN(sum_k W_k x A_k) + down(x)) over the subsets k with learned A_k: (N, C_in, T, V) -> (N, C_out, T, V)."""

    topologies = ("A",)

    def __init__(self, in_channels: int, out_channels: int, A: Tensor):
        super().__init__()
        self.A = nn.Parameter(A.clone())
        self.conv = nn.Conv2d(in_channels, A.shape[0] * out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.down = blocks.shortcut(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = ops.conv_then_aggregate(x, self.conv, self.A)
        return F.relu(self.bn(y) + self.down(x), inplace=True)


class Model(network.PysklNetwork):
    """ST-GCN++. (N, C, T, V, M) -> (N, num_class); all persons share the statistics of `data_bn`.

    channels: widths of the blocks, ten from 64 to 256 if None; the stride is 2 where the width grows.

    >>> import torch
    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d.Graph")
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
        drop_out: float = 0,
        channels: Sequence[int] | None = None,
    ):
        A = network.load_graph(graph, graph_args, num_point)
        layers = []
        for C_in, C_out, stride in blocks.block_table(WIDTHS if channels is None else channels, in_channels):
            tcn = blocks.MultiBranchTemporalConv(C_out, stride)
            layers.append(blocks.PysklBlock(GraphConv(C_in, C_out, A), tcn, C_in, C_out, stride, first=not layers))
        super().__init__(layers, C_out, num_class, num_point, num_person, in_channels, drop_out)
