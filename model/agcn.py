"""2s-AGCN: Two-Stream Adaptive Graph Convolutional Networks for Skeleton-Based Action Recognition.

Lei Shi, Yifan Zhang, Jian Cheng, Hanqing Lu. CVPR 2019, arXiv 1805.07694.

Equals the published code, except that the first unit obeys `in_channels`. The two streams, joints and bones, are two runs of this network
whose scores are added. Dead: the biases of conv_a, constant along the axis of the softmax.

Shapes, 300 frames of NTU RGB+D: (N, 3, 300, 25, 2) -> (2N, 64, 300, 25) -> (2N, 128, 150, 25) -> (2N, 256, 75, 25) -> (N, 60)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, products
from model.fold import fold

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3


class GraphConv(nn.Module):
    """Adaptive graph convolution: (N, C_in, T, V) -> (N, C_out, T, V).

    The topology of every subset is the skeleton A, a learned part PA, and the affinity of the joints in this very clip.
    """

    norm_after = {"conv_d": "bn"}  # folded into it by `model.fold`

    def __init__(self, in_channels: int, out_channels: int, A: Tensor):
        super().__init__()
        K, width = len(A), out_channels // 4
        self.register_buffer("A", A, persistent=False)
        self.PA = nn.Parameter(torch.full_like(A, 1e-6))
        self.conv_a = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(K))
        self.conv_b = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(K))
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(K))
        self.down = blocks.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        blocks.init_graph_conv(self)

    def forward(self, x: Tensor) -> Tensor:
        S = products.affinity(x, self.conv_a, self.conv_b).softmax(dim=-2) + (self.A + self.PA)
        return F.relu(self.bn(products.aggregate(x, S, self.conv_d)) + self.down(x), inplace=True)


class Model(blocks.UnitNetwork):
    """One stream of 2s-AGCN. (N, C, T, V, M) -> (N, num_class).

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d.Graph")
    >>> model(torch.zeros(1, 3, 16, 25, 2)).shape
    torch.Size([1, 60])
    """

    dead_parameters: tuple[str, ...] = ("*.conv_a.*.bias",)
    for_inference = fold

    def __init__(
        self,
        num_class: int,
        num_point: int,
        num_person: int,
        graph: str,
        graph_args: dict[str, Any] | None = None,
        in_channels: int = 3,
    ):
        A = blocks.load_graph(graph, graph_args, num_point)
        units = []
        for C_in, C_out, stride in blocks.unit_table(WIDTHS, in_channels):
            tcn = blocks.TemporalConv(C_out, C_out, 9, stride, 1)
            units.append(blocks.Unit(GraphConv(C_in, C_out, A), tcn, C_in, C_out, stride, first=not units))
        super().__init__(units, C_out, num_class, num_point, num_person, in_channels, drop_out=0)
