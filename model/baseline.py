"""The baseline of CTR-GCN: learned topologies shared by all channels and clips.

Yuxin Chen, Ziqi Zhang, Chunfeng Yuan, Bing Li, Ying Deng, Weiming Hu. ICCV 2021, arXiv 2107.12213, Table 1.

Equals the published code, except that the first unit obeys `in_channels`. The topologies start as identities: of the graph only the number
of joints counts.

Shapes, 64 frames of NTU RGB+D: (N, 3, 64, 25, 2) -> (2N, 64, 64, 25) -> (2N, 128, 32, 25) -> (2N, 256, 16, 25) -> (N, 60)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, products
from model.fold import fold

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3


class GraphConv(nn.Module):
    """Graph convolution with learned topologies of unit columns: (N, C_in, T, V) -> (N, C_out, T, V)."""

    norm_after = {"conv_d": "bn"}  # folded into it by `model.fold`

    def __init__(self, in_channels: int, out_channels: int, num_point: int, num_set: int, adaptive: bool):
        super().__init__()
        self.adaptive = adaptive
        identity = torch.eye(num_point).repeat(num_set, 1, 1)
        if adaptive:
            self.PA = nn.Parameter(identity)
        else:
            self.register_buffer("PA", identity, persistent=False)
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(num_set))
        self.down = blocks.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        blocks.init_graph_conv(self)

    def forward(self, x: Tensor) -> Tensor:
        A = self.PA / (self.PA.norm(dim=1, keepdim=True) + 1e-4) if self.adaptive else self.PA
        return F.relu(self.bn(products.aggregate(x, A.unsqueeze(0), self.conv_d)) + self.down(x), inplace=True)


class Model(blocks.UnitNetwork):
    """CTR-GCN's baseline. (N, C, T, V, M) -> (N, num_class).

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d.Graph")
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
        drop_out: float = 0,
        adaptive: bool = True,
        num_set: int = 3,
    ):
        blocks.load_graph(graph, graph_args, num_point)
        units = []
        for C_in, C_out, stride in blocks.unit_table(WIDTHS, in_channels):
            gcn = GraphConv(C_in, C_out, num_point, num_set, adaptive)
            tcn = blocks.TemporalConv(C_out, C_out, 5, stride, 1)
            units.append(blocks.Unit(gcn, tcn, C_in, C_out, stride, first=not units))
        super().__init__(units, C_out, num_class, num_point, num_person, in_channels, drop_out)
