"""CTR-GCN: Channel-wise Topology Refinement Graph Convolution for Skeleton-Based Action Recognition.

Yuxin Chen, Ziqi Zhang, Chunfeng Yuan, Bing Li, Ying Deng, Weiming Hu. ICCV 2021, arXiv 2107.12213.

Equals the published code. `channels` shortens or widens the stack (DKE-GCN's students: nine units, or seven of them). Frames are averaged
before the 1x1 convolutions of the topology, which is the same and saves nearly all of their work.
The adjacency is used with row target, column source: inward, a joint receives the sum of its children.

Shapes, 64 frames of NTU RGB+D: (N, 3, 64, 25, 2) -> (2N, 64, 64, 25) -> (2N, 128, 32, 25) -> (2N, 256, 16, 25) -> (N, 60)
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, products
from model.fold import fold

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3


class Subset(nn.Module):
    """The four 1x1 convolutions of one subset: 1 and 2 embed joints, 4 makes topologies of them, 3 transforms the features."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        width = max(8, in_channels // 8)
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.conv2 = nn.Conv2d(in_channels, width, 1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv4 = nn.Conv2d(width, out_channels, 1)


class GraphConv(nn.Module):
    """Channel-wise topology refinement: (N, C_in, T, V) -> (N, C_out, T, V).

    Every channel of every clip has its own topology: the shared one, `PA`, and alpha times what the differences of joints say.
    """

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, adaptive: bool):
        super().__init__()
        self.convs = nn.ModuleList(Subset(in_channels, out_channels) for _ in A)
        if adaptive:
            self.PA = nn.Parameter(A.clone())
        else:
            self.register_buffer("PA", A.clone(), persistent=False)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.down = blocks.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        blocks.init_fan_out(self)
        nn.init.constant_(self.bn.weight, 1e-6)

    def topologies(self, features: Tensor) -> Iterator[Tensor]:
        """One for each subset: features (N, C_in, V, T) -> (N * C_out, V, V), row target, column source.

        A topology is PA + alpha (W tanh(differences) + b): one matrix product, in which PA and b are two more rows.
        """
        K = len(self.convs)
        mean = features.mean(3, keepdim=True).transpose(2, 3)  # (N, C, 1, V)
        embedded = products.pointwise(mean, [s.conv1 for s in self.convs] + [s.conv2 for s in self.convs])
        target, source = embedded.squeeze(2).unflatten(1, (2, K, -1)).permute(1, 2, 0, 3, 4)  # (K, N, R, V)
        differences = torch.tanh(target.unsqueeze(-1) - source.unsqueeze(-2)).flatten(3)  # (K, N, R, V * V)
        for conv, rows, PA in zip((s.conv4 for s in self.convs), differences, self.PA.flatten(1), strict=True):
            one = torch.ones_like(conv.bias)[:, None]
            weight = torch.cat([self.alpha * conv.weight.flatten(1), self.alpha * conv.bias[:, None], one], dim=1)
            shared = torch.stack([torch.ones_like(PA), PA]).expand(len(features), -1, -1)
            M = weight.expand(len(features), -1, -1) @ torch.cat([rows, shared], dim=1)  # (N, C_out, V * V)
            yield M.view(-1, *self.PA.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        N, C, T, V = x.shape
        features = products.TimeLast.apply(x).view(N, C, V, T)
        y = None
        for s, M in zip(self.convs, self.topologies(features), strict=True):
            z = s.conv3(features).view(-1, V, T)
            y = torch.bmm(M, z) if y is None else y.baddbmm_(M, z)  # (N * C_out, V, T)
        return F.relu(self.bn(products.from_time_last(y, N)).add_(self.down(x)), inplace=True)


class Model(blocks.UnitNetwork):
    """CTR-GCN. (N, C, T, V, M) or, for one person, (N, T, V * C) -> (N, num_class).

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
        channels: Sequence[int] | None = None,
    ):
        A = blocks.load_graph(graph, graph_args, num_point)
        units = []
        for C_in, C_out, stride in blocks.unit_table(WIDTHS if channels is None else channels, in_channels):
            gcn = GraphConv(C_in, C_out, A, adaptive)
            tcn = blocks.MultiScaleTemporalConv(C_out, C_out, 5, stride, dilations=(1, 2))
            units.append(blocks.Unit(gcn, tcn, C_in, C_out, stride, first=not units))
            blocks.init_norms(tcn, std=0.02)
        super().__init__(units, C_out, num_class, num_point, num_person, in_channels, drop_out)
        self.num_point = num_point

    def features(self, data: Tensor) -> Tensor:
        """Output of the last unit: (N, C, T, V, M) -> (N, 256, ceil(T / 4), V, M)."""
        return super().features(blocks.unroll_joints(data, self.num_point) if data.dim() == 3 else data)
