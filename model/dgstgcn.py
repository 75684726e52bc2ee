"""DG-STGCN: Dynamic Spatial-Temporal Modeling for Skeleton-Based Action Recognition.

Haodong Duan, Jiaqi Wang, Kai Chen, Dahua Lin. arXiv 2210.05895, 2022.

Equals the published configurations in PYSKL. The graph starts as noise, drawn once and copied into every stage: of the named graph only the
number of joints counts. Dead entries: `alpha` and `beta` beyond the first, `add_coeff` beyond the last joint.

Shapes, 100 frames of NTU RGB+D: (N, 3, 100, 25, 2) -> (2N, 64, 100, 25) -> (2N, 128, 50, 25) -> (2N, 256, 25, 25) -> (N, 60)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, products
from model.fold import fold

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3
PUBLISHED_JOINTS = 25  # length of add_coeff in all published weights, also for smaller bodies


class GraphConv(nn.Module):
    """DG-GCN: K groups of channels, each with its own graph: (N, C_in, T, V) -> (N, C_out, T, V).

    A graph is the learned A, alpha times the differences of joints (for every channel), beta times their affinity (for every group).
    """

    norm_after = {"post": "bn"}  # folded into it by `model.fold`

    def __init__(self, in_channels: int, out_channels: int, A: Tensor):
        super().__init__()
        K = len(A)
        width = K * (out_channels // K)
        self.A = nn.Parameter(A.clone())
        self.alpha = nn.Parameter(torch.zeros(K))
        self.beta = nn.Parameter(torch.zeros(K))
        self.pre = nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.conv2 = nn.Conv2d(in_channels, width, 1)
        self.post = nn.Conv2d(width, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.down = blocks.shortcut(in_channels, out_channels)

    def topology(self, x: Tensor) -> Tensor:
        """(N, C_in, T, V) -> (N, K, C_out / K, V, V), the last two axes source and target."""
        joints = products.pointwise(x.mean(2, keepdim=True), (self.conv1, self.conv2)).squeeze(2)
        source, target = joints.unflatten(1, (2, len(self.A), -1)).unbind(1)  # (N, K, C, V)
        difference = torch.tanh(source.unsqueeze(-1) - target.unsqueeze(-2))  # (N, K, C, V, V)
        affinity = torch.einsum("nkcu,nkcw->nkuw", source, target).softmax(dim=-2)
        return torch.addcmul((self.A + self.beta[0] * affinity).unsqueeze(2), self.alpha[0], difference)

    def forward(self, x: Tensor) -> Tensor:
        y = self.topology(x).flatten(0, 2).transpose(1, 2) @ products.TimeLast.apply(self.pre(x))  # (N * C, V, T)
        return F.relu(self.bn(self.post(products.from_time_last(y, len(x)))) + self.down(x), inplace=True)


class TemporalUnit(blocks.MultiScaleTemporalUnit):
    """DG-TCN: the branches see the mean joint too, and every joint takes its own share: (N, C, T, V) -> (N, C, ceil(T / stride), V)."""

    def __init__(self, channels: int, stride: int, num_point: int):
        super().__init__(channels, stride)
        self.add_coeff = nn.Parameter(torch.zeros(max(num_point, PUBLISHED_JOINTS)))

    def forward(self, x: Tensor) -> Tensor:
        V = x.shape[-1]
        mean = products.mix_joints(x, x.new_full((1, V), 1 / V))
        joints, mean = self.scales(torch.cat([x, mean], dim=-1)).split([V, 1], dim=-1)  # (N, C, T', V) and (N, C, T', 1)
        return self.join(torch.addcmul(joints, self.add_coeff[:V], mean))


class Model(blocks.StageNetwork):
    """DG-STGCN. (N, C, T, V, M) -> (N, num_class); all persons share the statistics of `data_bn`.

    num_filter: groups of channels K. init_off, init_std: mean and spread of the graph's first values.

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
        num_filter: int = 8,
        init_off: float = 0.04,
        init_std: float = 0.02,
    ):
        blocks.load_graph(graph, graph_args, num_point)
        if not 1 <= num_filter <= WIDTHS[0]:
            raise ValueError(f"num_filter: found {num_filter}; allowed are 1 to {WIDTHS[0]}, the first width; change it")
        A = init_off + init_std * torch.randn(num_filter, num_point, num_point)
        stages = []
        for C_in, C_out, stride in blocks.unit_table(WIDTHS, in_channels):
            gcn, tcn = GraphConv(C_in, C_out, A), TemporalUnit(C_out, stride, num_point)
            stages.append(blocks.Stage(gcn, tcn, C_in, C_out, stride, first=not stages))
        super().__init__(stages, C_out, num_class, num_point, num_person, in_channels, drop_out)
