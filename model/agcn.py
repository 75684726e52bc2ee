"""2s-AGCN: Two-Stream Adaptive Graph Convolutional Networks for Skeleton-Based Action Recognition.

Lei Shi, Yifan Zhang, Jian Cheng, Hanqing Lu. CVPR 2019, arXiv 1805.07694.

Equivalent to the published code, except that the first block uses `in_channels`, which is fixed to 3 there. The two
streams, joints and bones, are two runs of this network whose scores are added. The gradient of the biases of conv_a is
zero, because they are constant along the softmax axis. `channels` and `kernel_size` select smaller versions of the
network.

Shapes, 300 frames of NTU RGB+D:
(N, 3, 300, 25, 2) -> (2N, 64, 300, 25) -> (2N, 128, 150, 25) -> (2N, 256, 75, 25) -> (N, 60)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, network, norms, ops
from model.fuse_norms import fuse_norms

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3
NO_GRADIENT = ("*.conv_a.*.bias",)


class GraphConv(nn.Module):
    """Adaptive graph convolution: (N, C_in, T, V) -> (N, C_out, T, V).

    ReLU(BN(f) + down(x)) with f = sum_k W_k x (A_k + B_k + C_k) over the subsets k, the paper's equation 3:
        A_k    the skeleton
        B_k    learned, `PA` in the published weights
        C_k    softmax(theta_k(x)^T phi_k(x)), the affinity of the joints in this clip
    """

    norm_after = {"conv_d": "bn"}
    topologies = ("PA",)

    def __init__(self, in_channels: int, out_channels: int, A: Tensor):
        super().__init__()
        K, width = A.shape[0], out_channels // 4
        self.register_buffer("A", A, persistent=False)
        self.PA = nn.Parameter(torch.full_like(A, 1e-6))
        self.conv_a = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(K))
        self.conv_b = nn.ModuleList(nn.Conv2d(in_channels, width, 1) for _ in range(K))
        self.conv_d = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(K))
        self.down = blocks.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        blocks.init_graph_conv(self)

    def forward(self, x: Tensor) -> Tensor:
        A, B = self.A, self.PA
        C = ops.affinity(x, self.conv_a, self.conv_b).softmax(dim=-2)
        y = norms.aggregate_norm(x, A + B + C, self.conv_d, self.bn)  # BN(f)
        return F.relu(y + self.down(x), inplace=True)


class Model(network.BlockNetwork):
    """One stream of 2s-AGCN. (N, C, T, V, M) -> (N, num_class).

    channels: widths of the blocks, ten from 64 to 256 if None; the stride is 2 where the width grows.
    kernel_size: frames of the temporal convolutions.

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
        channels: Sequence[int] | None = None,
        kernel_size: int = 9,
    ):
        A = network.load_graph(graph, graph_args, num_point)
        layers = []
        for C_in, C_out, stride in blocks.block_table(WIDTHS if channels is None else channels, in_channels):
            tcn = blocks.TemporalConv(C_out, C_out, kernel_size, stride, 1)
            layers.append(blocks.Block(GraphConv(C_in, C_out, A), tcn, C_in, C_out, stride, first=not layers))
        super().__init__(layers, C_out, num_class, num_point, num_person, in_channels, drop_out=0)
