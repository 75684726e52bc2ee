"""CTR-GCN's baseline: learned topologies shared by all channels and clips.

Yuxin Chen, Ziqi Zhang, Chunfeng Yuan, Bing Li, Ying Deng, Weiming Hu. ICCV 2021, arXiv 2107.12213, Table 1.

Equivalent to the published code, except that the first block uses `in_channels`, which is fixed to 3 there. The
topologies are initialized as identity matrices; only the number of joints of `graph` is used.

Shapes, 64 frames of NTU RGB+D:
(N, 3, 64, 25, 2) -> (2N, 64, 64, 25) -> (2N, 128, 32, 25) -> (2N, 256, 16, 25) -> (N, 60)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, network, norms
from model.fuse_norms import fuse_norms

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3


class GraphConv(nn.Module):
    """Graph convolution with learned topologies: (N, C_in, T, V) -> (N, C_out, T, V).

    ReLU(BN(sum_k W_k x A_k) + down(x)) over the subsets k; A_k is `PA` with every column divided by its norm + 1e-4.
    """

    norm_after = {"conv_d": "bn"}
    topologies = ("PA",)

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

    def topology(self) -> Tensor:
        """The normalized columns of `PA`, (K, V, V); without `adaptive`, the identity."""
        return self.PA / (self.PA.norm(dim=1, keepdim=True) + 1e-4) if self.adaptive else self.PA

    def forward(self, x: Tensor) -> Tensor:
        y = norms.aggregate_norm(x, self.topology().unsqueeze(0), self.conv_d, self.bn)
        return F.relu(y + self.down(x), inplace=True)


class Model(network.BlockNetwork):
    """CTR-GCN's baseline. (N, C, T, V, M) -> (N, num_class).

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
        adaptive: bool = True,
        num_set: int = 3,
    ):
        network.load_graph(graph, graph_args, num_point)
        layers = []
        for C_in, C_out, stride in blocks.block_table(WIDTHS, in_channels):
            gcn = GraphConv(C_in, C_out, num_point, num_set, adaptive)
            tcn = blocks.TemporalConv(C_out, C_out, 5, stride, 1)
            layers.append(blocks.Block(gcn, tcn, C_in, C_out, stride, first=not layers))
        super().__init__(layers, C_out, num_class, num_point, num_person, in_channels, drop_out)
