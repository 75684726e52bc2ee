"""AAGCN: Skeleton-Based Action Recognition with Multi-Stream Adaptive Graph Convolutional Networks.

Lei Shi, Yifan Zhang, Jian Cheng, Hanqing Lu. IEEE Transactions on Image Processing 2020, arXiv 1912.06971.

Equals the published code, with two differences: the first unit obeys `in_channels`, and `adaptive=False`, which fails there, is the fixed
skeleton here. `channels` shortens the stack (DKE-GCN's student S8: eight units without attention).

Shapes, 300 frames of NTU RGB+D: (N, 3, 300, 25, 2) -> (2N, 64, 300, 25) -> (2N, 128, 150, 25) -> (2N, 256, 75, 25) -> (N, 60)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, products
from model.fold import fold

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3


class GraphConv(nn.Module):
    """Adaptive graph convolution: (N, C_in, T, V) -> (N, C_out, T, V).

    The topology of every subset is the learned PA, which starts as the skeleton, and alpha times the affinity of the joints.
    """

    norm_after = {"conv_d": "bn"}  # folded into it by `model.fold`

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, adaptive: bool, attention: bool):
        super().__init__()
        K, width = len(A), out_channels // 4
        self.adaptive = adaptive
        if adaptive:
            self.PA = nn.Parameter(A.clone())
            self.alpha = nn.Parameter(torch.zeros(1))
            self.conv_a = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(K))
            self.conv_b = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(K))
        else:
            self.register_buffer("PA", A.clone(), persistent=False)
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(K))
        self.down = blocks.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        blocks.init_graph_conv(self)
        self.attention = attention
        if attention:
            self.build_gates(out_channels, num_point=A.shape[-1])

    def build_gates(self, channels: int, num_point: int) -> None:
        kernel = num_point - 1 + num_point % 2
        self.conv_sa = nn.Conv1d(channels, 1, kernel, padding=kernel // 2)
        self.conv_ta = nn.Conv1d(channels, 1, 9, padding=4)
        self.fc1c = nn.Linear(channels, channels // 2)
        self.fc2c = nn.Linear(channels // 2, channels)
        nn.init.xavier_normal_(self.conv_sa.weight)
        nn.init.kaiming_normal_(self.fc1c.weight)
        for zero in (self.conv_ta.weight, self.fc2c.weight, self.conv_sa.bias, self.conv_ta.bias, self.fc1c.bias, self.fc2c.bias):
            nn.init.zeros_(zero)

    def gate(self, z: Tensor) -> Tensor:
        """Spatial, temporal and channel attention, one after the other, each times 1 + sigmoid: (N, C, T, V) -> (N, C, T, V).

        Each looks at what the gates before it let through, but only at means, so the map itself is gated once at the end.
        """
        joint = 1 + torch.sigmoid(self.conv_sa(z.mean(2)))  # (N, 1, V)
        pose = products.mix_joints(z, joint.unsqueeze(1) / z.shape[3]).squeeze(3)  # (N, C, T)
        frame = 1 + torch.sigmoid(self.conv_ta(pose))  # (N, 1, T)
        channel = 1 + torch.sigmoid(self.fc2c(F.relu(self.fc1c((frame * pose).mean(2)))))  # (N, C)
        return z * (frame.unsqueeze(3) * joint.unsqueeze(2)) * channel[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        S = self.PA.unsqueeze(0)
        if self.adaptive:
            S = S + self.alpha * torch.tanh(products.affinity(x, self.conv_a, self.conv_b))
        z = F.relu(self.bn(products.aggregate(x, S, self.conv_d)) + self.down(x), inplace=True)
        return self.gate(z) if self.attention else z


class Model(blocks.UnitNetwork):
    """One stream of MS-AAGCN. (N, C, T, V, M) -> (N, num_class).

    channels: widths of the units, ten from 64 to 256 if None; the stride is 2 where the width grows.

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
        attention: bool = True,
        channels: Sequence[int] | None = None,
    ):
        A = blocks.load_graph(graph, graph_args, num_point)
        units = []
        for C_in, C_out, stride in blocks.unit_table(WIDTHS if channels is None else channels, in_channels):
            tcn = blocks.TemporalConv(C_out, C_out, 9, stride, 1)
            units.append(blocks.Unit(GraphConv(C_in, C_out, A, adaptive, attention), tcn, C_in, C_out, stride, first=not units))
        super().__init__(units, C_out, num_class, num_point, num_person, in_channels, drop_out)
