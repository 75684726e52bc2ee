"""MS-G3D: Disentangling and Unifying Graph Convolutions for Skeleton-Based Action Recognition.

Ziyu Liu, Hongwen Zhang, Zhenghao Chen, Zhiyong Wang, Wanli Ouyang. CVPR 2020, arXiv 2003.14111.

Equals the published code, except that the first layers obey `in_channels` and that the adjacency is normalised in float64, not in float32
(which moves it by 3e-8 at most).

Shapes, 300 frames of NTU RGB+D: (N, 3, 300, 25, 2) -> (2N, 96, 300, 25) -> (2N, 192, 150, 25) -> (2N, 384, 75, 25) -> (N, 60)
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph import adjacency
from model import blocks, products
from model.fold import fold

WIDTHS = (96, 192, 384)
WINDOWS = (3, 5)


class Windows(nn.Module):
    """The joints of W frames around every frame (stride 1) or every second, side by side: (N, C, T, V) -> (N, C, T', W * V)."""

    def __init__(self, window: int, stride: int):
        super().__init__()
        self.window, self.stride = window, stride

    def forward(self, x: Tensor) -> Tensor:
        half = self.window // 2
        frames = F.pad(x, (0, 0, half, half)).permute(0, 2, 3, 1)  # (N, T, V, C)
        windows = frames.unfold(1, self.window, self.stride).permute(0, 1, 4, 2, 3).flatten(2, 3)  # (N, T', W * V, C)
        return windows.permute(0, 3, 1, 2)  # (N, C, T', W * V)


class GraphConv(nn.Module):
    """Gathers joints at each of K distances, 1x1 convolution, batch norm, ReLU: (N, C_in, T, V) -> (N, C_out, T, V).

    nodes: which joints touch, symmetric, (V, V), or (W * V, W * V) for windows. A_res is a learned mask added to the normalised adjacency.
    """

    def __init__(self, in_channels: int, out_channels: int, nodes: np.ndarray, num_scales: int):
        super().__init__()
        A = torch.from_numpy(adjacency.disentangled(nodes, num_scales)).float().flatten(0, 1)
        self.num_scales = num_scales
        self.register_buffer("A", A, persistent=False)
        self.A_res = nn.Parameter(torch.empty_like(A).uniform_(-1e-6, 1e-6))
        layers = nn.Sequential(nn.Conv2d(num_scales * in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
        self.mlp = nn.ModuleDict({"layers": layers})

    def forward(self, x: Tensor) -> Tensor:
        A = (self.A + self.A_res).unflatten(0, (self.num_scales, -1)).transpose(1, 2)  # (K, V, V)
        return self.mlp["layers"](products.gather(x, A.unsqueeze(0)))


class TemporalConv(blocks.MultiScaleTemporalConv):
    """MS-TCN: six branches over time with a residual: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V). `last` leaves out the ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, last: bool):
        super().__init__(in_channels, out_channels, 3, stride, dilations=(1, 2, 3, 4))
        self.residual = blocks.residual_path(in_channels, out_channels, stride, first=False)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x) + self.residual(x)
        return y if self.last else F.relu(y, inplace=True)


class WindowConv(nn.Module):
    """G3D: graph convolution over windows, each collapsed to one frame: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    norm_after = {"out_conv": "out_bn"}  # folded into it by `model.fold`

    def __init__(self, in_channels: int, hidden: int, out_channels: int, nodes: np.ndarray, num_scales: int, window: int, stride: int):
        super().__init__()
        self.window = window
        self.gcn3d = nn.Sequential(Windows(window, stride), GraphConv(in_channels, hidden, adjacency.windowed(nodes, window), num_scales))
        self.out_conv = nn.Conv3d(hidden, out_channels, (1, window, 1))
        self.out_bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.gcn3d(x).permute(0, 2, 3, 1)  # (N, T', W * V, C)
        frames = windows.reshape(len(x), -1, x.shape[3], windows.shape[3]).permute(0, 3, 1, 2)  # (N, C, T' * W, V)
        return self.out_bn(F.conv2d(frames, self.out_conv.weight.squeeze(2), self.out_conv.bias, (self.window, 1)))


class MultiWindow(nn.Module):
    """MS-G3D: the sum over windows of 3 and of 5 frames: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, nodes: np.ndarray, num_scales: int, stride: int):
        super().__init__()
        self.gcn3d = nn.ModuleList(WindowConv(in_channels, hidden, out_channels, nodes, num_scales, w, stride) for w in WINDOWS)

    def forward(self, x: Tensor) -> Tensor:
        return sum(scale(x) for scale in self.gcn3d)


class Model(nn.Module):
    """MS-G3D. (N, C, T, V, M) -> (N, num_class).

    num_gcn_scales, num_g3d_scales: distances in the factorised and in the windowed pathway; published are 13, 6 (NTU) and 8, 8 (Kinetics).

    >>> model = Model(60, 25, 2, 13, 6, "graph.ntu_rgb_d.Graph", {"labeling_mode": "binary"})
    >>> model(torch.zeros(1, 3, 8, 25, 2)).shape
    torch.Size([1, 60])
    """

    dead_parameters: tuple[str, ...] = ()
    for_inference = fold

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
        A = blocks.load_graph(graph, graph_args, num_point)
        if len(A) != 1 or A[0].trace() != 0:
            raise ValueError(f"graph_args: found {graph_args}; allowed is the binary graph; set labeling_mode to binary")
        nodes = A[0].double().numpy()
        self.num_person = num_person
        self.data_bn = blocks.DataNorm(in_channels, num_point, num_person, per_person=True, min_frames=1)
        C_in = in_channels
        for i, C_out in enumerate(WIDTHS, start=1):
            hidden, stride = (C_out, 1) if i == 1 else (C_in, 2)
            factorised = nn.Sequential(
                GraphConv(C_in, hidden, nodes, num_gcn_scales),
                TemporalConv(hidden, C_out, stride, last=False),
                TemporalConv(C_out, C_out, 1, last=True),
            )
            self.add_module(f"gcn3d{i}", MultiWindow(C_in, hidden, C_out, nodes, num_g3d_scales, stride))
            self.add_module(f"sgcn{i}", factorised)
            self.add_module(f"tcn{i}", TemporalConv(C_out, C_out, 1, last=False))
            C_in = C_out
        self.fc = nn.Linear(C_in, num_class)

    def features(self, data: Tensor) -> Tensor:
        """Output of the last stage: (N, C, T, V, M) -> (N, 384, ceil(T / 4), V, M)."""
        x = self.data_bn(data)
        x = self.tcn1(F.relu(self.sgcn1(x) + self.gcn3d1(x), inplace=True))
        x = self.tcn2(F.relu(self.sgcn2(x) + self.gcn3d2(x), inplace=True))
        x = self.tcn3(F.relu(self.sgcn3(x) + self.gcn3d3(x), inplace=True))
        return blocks.split_persons(x, self.num_person)

    def forward(self, data: Tensor) -> Tensor:
        return self.fc(blocks.pool(self.features(data)))
