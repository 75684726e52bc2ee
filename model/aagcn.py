"""AAGCN: Skeleton-Based Action Recognition with Multi-Stream Adaptive Graph Convolutional Networks.

Lei Shi, Yifan Zhang, Jian Cheng, Hanqing Lu. IEEE Transactions on Image Processing 2020, arXiv 1912.06971.

Equivalent to the published code with two differences: the first block uses `in_channels`, which is fixed to 3 in the
published code, and `adaptive=False`, which raises an error there, uses the fixed skeleton. `channels` selects the
number and widths of the blocks (DKE-GCN's student S8 has eight blocks without attention), and `kernel_size` sets the
size of the temporal convolutions.

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


class GraphConv(nn.Module):
    """Adaptive graph convolution with attention: (N, C_in, T, V) -> (N, C_out, T, V).

    z = ReLU(BN(f) + down(x)) with f = sum_k W_k x (B_k + alpha C_k) over the subsets k; then z <- z (1 + g) three
    times:
        B_k      learned, initialized with the skeleton, `PA` in the published weights
        C_k      tanh(theta_k(x)^T phi_k(x)), the affinity of the joints in this clip
        g        over joints, frames and channels, one after the other
    """

    norm_after = {"conv_d": "bn"}
    topologies = ("PA",)

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, adaptive: bool, attention: bool):
        super().__init__()
        K, width = A.shape[0], out_channels // 4
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
            self.build_attention(out_channels, num_point=A.shape[-1])

    def build_attention(self, channels: int, num_point: int) -> None:
        kernel = num_point - 1 + num_point % 2
        self.conv_sa = nn.Conv1d(channels, 1, kernel, padding=kernel // 2)
        self.conv_ta = nn.Conv1d(channels, 1, 9, padding=4)
        self.fc1c = nn.Linear(channels, channels // 2)
        self.fc2c = nn.Linear(channels // 2, channels)
        nn.init.xavier_normal_(self.conv_sa.weight)
        nn.init.kaiming_normal_(self.fc1c.weight)
        for layer in (self.conv_sa, self.conv_ta, self.fc1c, self.fc2c):
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.conv_ta.weight)
        nn.init.zeros_(self.fc2c.weight)

    def forward(self, x: Tensor) -> Tensor:
        S = self.PA.unsqueeze(0)  # B
        if self.adaptive:
            S = S + self.alpha * torch.tanh(ops.affinity(x, self.conv_a, self.conv_b))  # B + alpha C
        y = norms.aggregate_norm(x, S, self.conv_d, self.bn)  # BN(f)
        z = F.relu(y + self.down(x), inplace=True)
        return self.attend(z) if self.attention else z

    def attend(self, z: Tensor) -> Tensor:
        """z (1 + g_s) (1 + g_t) (1 + g_c), each factor computed from the product so far; same shape.

            g_s = sigmoid(conv_sa(mean of z over frames))
            g_t = sigmoid(conv_ta(mean of z (1 + g_s) over joints))
            g_c = sigmoid(fc2c(ReLU(fc1c(mean of z (1 + g_s) (1 + g_t) over frames and joints))))

        Only means of z are needed, in which the factors are weights; so z itself is multiplied only once, at the end.
        """
        joint = 1 + torch.sigmoid(self.conv_sa(z.mean(2)))  # (N, 1, V)
        pose = ops.mix_joints(z, joint.unsqueeze(1) / z.shape[3]).squeeze(3)  # weighted mean over joints, (N, C, T)
        frame = 1 + torch.sigmoid(self.conv_ta(pose))  # (N, 1, T)
        channel = 1 + torch.sigmoid(self.fc2c(F.relu(self.fc1c((frame * pose).mean(2)))))  # (N, C)
        return z * (frame.unsqueeze(3) * joint.unsqueeze(2)) * channel[:, :, None, None]


class Model(network.BlockNetwork):
    """One stream of MS-AAGCN. (N, C, T, V, M) -> (N, num_class).

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
        drop_out: float = 0,
        adaptive: bool = True,
        attention: bool = True,
        channels: Sequence[int] | None = None,
        kernel_size: int = 9,
    ):
        A = network.load_graph(graph, graph_args, num_point)
        layers = []
        for C_in, C_out, stride in blocks.block_table(WIDTHS if channels is None else channels, in_channels):
            tcn = blocks.TemporalConv(C_out, C_out, kernel_size, stride, 1)
            gcn = GraphConv(C_in, C_out, A, adaptive, attention)
            layers.append(blocks.Block(gcn, tcn, C_in, C_out, stride, first=not layers))
        super().__init__(layers, C_out, num_class, num_point, num_person, in_channels, drop_out)
