"""MS-G3D: Disentangling and Unifying Graph Convolutions for Skeleton-Based Action Recognition.

Ziyu Liu, Hongwen Zhang, Zhenghao Chen, Zhiyong Wang, Wanli Ouyang. CVPR 2020, arXiv 2003.14111.

Equivalent to the published code, except that the first layers use `in_channels`, which is fixed to 3 there, and that
the adjacency is normalized in float64 instead of float32 (a difference of at most 3e-8).

Shapes, 300 frames of NTU RGB+D:
(N, 3, 300, 25, 2) -> (2N, 96, 300, 25) -> (2N, 192, 150, 25) -> (2N, 384, 75, 25) -> (N, 60)
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph import adjacency
from model import blocks, network, ops
from model.fuse_norms import fuse_norms

WIDTHS = (96, 192, 384)
WINDOWS = (3, 5)
# Published for NTU RGB+D.
EXAMPLE = {"graph_args": {"labeling_mode": "binary"}, "num_gcn_scales": 13, "num_g3d_scales": 6}


class Windows(nn.Module):
    """The joints of W frames around every frame, or around every second one with stride 2, as nodes of one graph.

    (N, C, T, V) -> (N, C, T', W * V).
    """

    def __init__(self, window: int, stride: int):
        super().__init__()
        self.window, self.stride = window, stride

    def forward(self, x: Tensor) -> Tensor:
        half = self.window // 2
        frames = F.pad(x, (0, 0, half, half)).permute(0, 2, 3, 1)  # (N, T, V, C)
        windows = frames.unfold(1, self.window, self.stride).permute(0, 1, 4, 2, 3).flatten(2, 3)  # (N, T', W * V, C)
        return windows.permute(0, 3, 1, 2)  # (N, C, T', W * V)


class GraphConv(nn.Module):
    """MS-GCN, disentangled multi-scale aggregation: (N, C_in, T, V) -> (N, C_out, T, V).

    ReLU(BN(sum_k W_k (A_k + A_res_k) x)) over the distances k, where A_k is the normalized adjacency of the joints at
    distance k and A_res_k is learned.

    nodes: symmetric adjacency of the joints, (V, V), or (W * V, W * V) for windows.
    """

    topologies = ("A_res",)

    def __init__(self, in_channels: int, out_channels: int, nodes: np.ndarray, num_scales: int):
        super().__init__()
        A = torch.from_numpy(adjacency.disentangled(nodes, num_scales)).float().flatten(0, 1)
        self.num_scales = num_scales
        self.register_buffer("A", A, persistent=False)
        self.A_res = nn.Parameter(torch.empty_like(A).uniform_(-1e-6, 1e-6))
        conv = nn.Conv2d(num_scales * in_channels, out_channels, 1)
        layers = blocks.ConvNorm(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
        self.mlp = nn.ModuleDict({"layers": layers})

    def forward(self, x: Tensor) -> Tensor:
        A = (self.A + self.A_res).unflatten(0, (self.num_scales, -1))  # (K, V, V), row target
        return self.mlp["layers"](ops.aggregate(x, A.transpose(1, 2).unsqueeze(0)))


class TemporalConv(blocks.MultiScaleTemporalConv):
    """MS-TCN: six branches over time plus a residual, then ReLU unless `last`.

    (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, last: bool):
        super().__init__(in_channels, out_channels, 3, stride, dilations=(1, 2, 3, 4))
        self.residual = blocks.residual_path(in_channels, out_channels, stride, first=False)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x) + self.residual(x)
        return y if self.last else F.relu(y, inplace=True)


class WindowConv(nn.Module):
    """G3D, one graph convolution over space and time: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V).

    BN(collapse(MS-GCN(windows of x))).
    """

    norm_after = {"out_conv": "out_bn"}

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        nodes: np.ndarray,
        num_scales: int,
        window: int,
        stride: int,
    ):
        super().__init__()
        self.window = window
        gcn = GraphConv(in_channels, hidden, adjacency.windowed(nodes, window), num_scales)
        self.gcn3d = nn.Sequential(Windows(window, stride), gcn)
        self.out_conv = nn.Conv3d(hidden, out_channels, (1, window, 1))
        self.out_bn = nn.BatchNorm2d(out_channels)

    def collapse(self, windows: Tensor) -> Tensor:
        """out_conv over the W frames of every window, a 3D convolution: (N, C, T', W * V) -> (N, C_out, T', V).

        Computed as a 2D convolution of stride W over the frames of all windows in a row.
        """
        windows = windows.permute(0, 2, 3, 1).unflatten(2, (self.window, -1))  # (N, T', W, V, C)
        frames = windows.flatten(1, 2).permute(0, 3, 1, 2)  # (N, C, T' * W, V)
        return F.conv2d(frames, self.out_conv.weight.squeeze(2), self.out_conv.bias, (self.window, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.out_bn(self.collapse(self.gcn3d(x)))


class MultiWindow(nn.Module):
    """MS-G3D, the sum over windows of 3 and of 5 frames: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        nodes: np.ndarray,
        num_scales: int,
        stride: int,
    ):
        super().__init__()
        sizes = in_channels, hidden, out_channels
        self.gcn3d = nn.ModuleList(WindowConv(*sizes, nodes, num_scales, window, stride) for window in WINDOWS)

    def forward(self, x: Tensor) -> Tensor:
        return sum(scale(x) for scale in self.gcn3d)


class Model(network.Network):
    """MS-G3D. (N, C, T, V, M) -> (N, num_class).

    num_gcn_scales, num_g3d_scales: distances in the factorized and in the windowed pathway; published are 13, 6 for NTU
    RGB+D and 8, 8 for Kinetics.

    >>> model = Model(60, 25, 2, 13, 6, "graph.ntu_rgb_d.Graph", {"labeling_mode": "binary"})
    >>> model(torch.zeros(1, 3, 8, 25, 2)).shape
    torch.Size([1, 60])
    """

    for_inference = fuse_norms
    graph_safe = True

    def __init__(
        self,
        num_class: int,
        num_point: int,
        num_person: int,
        num_gcn_scales: int,
        num_g3d_scales: int,
        graph: str,
        graph_args: dict[str, Any] | None = None,
        in_channels: int = 3,
    ):
        super().__init__()
        A = network.load_graph(graph, graph_args, num_point)
        if A.shape[0] != 1 or A[0].trace() != 0:
            raise ValueError(f"graph_args: expected the binary graph, got {graph_args}; set labeling_mode to binary")
        nodes = A[0].double().numpy()
        self.num_person = num_person
        self.data_bn = network.DataNorm(in_channels, num_point, num_person, per_person=True)
        C_in = in_channels
        for i, C_out in enumerate(WIDTHS, start=1):
            hidden, stride = (C_out, 1) if i == 1 else (C_in, 2)
            factorized = nn.Sequential(
                GraphConv(C_in, hidden, nodes, num_gcn_scales),
                TemporalConv(hidden, C_out, stride, last=False),
                TemporalConv(C_out, C_out, 1, last=True),
            )
            self.add_module(f"gcn3d{i}", MultiWindow(C_in, hidden, C_out, nodes, num_g3d_scales, stride))
            self.add_module(f"sgcn{i}", factorized)
            self.add_module(f"tcn{i}", TemporalConv(C_out, C_out, 1, last=False))
            C_in = C_out
        self.fc = nn.Linear(C_in, num_class)

    def features(self, data: Tensor) -> Tensor:
        """Output of the last stage: (N, C, T, V, M) -> (N, 384, ceil(T / 4), V, M)."""
        x = self.data_bn(data)
        x = self.tcn1(F.relu(self.sgcn1(x) + self.gcn3d1(x), inplace=True))
        x = self.tcn2(F.relu(self.sgcn2(x) + self.gcn3d2(x), inplace=True))
        x = self.tcn3(F.relu(self.sgcn3(x) + self.gcn3d3(x), inplace=True))
        return network.split_persons(x, self.num_person)

    def classify(self, pooled: Tensor) -> Tensor:
        return self.fc(pooled)
