"""DG-STGCN: Dynamic Spatial-Temporal Modeling for Skeleton-Based Action Recognition.

Haodong Duan, Jiaqi Wang, Kai Chen, Dahua Lin. arXiv 2210.05895, 2022.

Equivalent to the published configurations in PYSKL. `channels` and `joint_embedding` select the networks of ProtoGCN,
ACLNet and SkeletonAgent, which are DG-STGCN with width 96 and other training objectives. The topologies are initialized
randomly, with the same values in every block; only the number of joints of `graph` is used. Entries of `alpha` and
`beta` after the first, and of `add_coeff` after the last joint, have no effect.

Shapes, 100 frames of NTU RGB+D:
(N, 3, 100, 25, 2) -> (2N, 64, 100, 25) -> (2N, 128, 50, 25) -> (2N, 256, 25, 25) -> (N, 60)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, network, norms, ops
from model.fuse_norms import fuse_norms

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3
PUBLISHED_JOINTS = 25  # length of add_coeff in all published weights, also for smaller bodies


class GraphConv(nn.Module):
    """DG-GCN, K groups of channels, each with its own topology: (N, C_in, T, V) -> (N, C_out, T, V).

    ReLU(BN(post(pre(x) G)) + down(x)), with s = conv1(x), d = conv2(x) averaged over the frames and joints u, w
        G_uw = A_uw + alpha D_uw + beta S_uw
        D_uw = tanh(s_u - d_w)                  for every channel
        S_uw = softmax over u of s_u . d_w      for every group
    """

    norm_after = {"post": "bn"}
    joint_axes = {"A": (1, 2)}

    def __init__(self, in_channels: int, out_channels: int, A: Tensor):
        super().__init__()
        K = A.shape[0]
        width = K * (out_channels // K)
        self.A = nn.Parameter(A.clone())
        self.alpha = nn.Parameter(torch.zeros(K))
        self.beta = nn.Parameter(torch.zeros(K))
        self.pre = blocks.ConvNorm(nn.Conv2d(in_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.conv2 = nn.Conv2d(in_channels, width, 1)
        self.post = nn.Conv2d(width, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.down = blocks.shortcut(in_channels, out_channels)

    def topology(self, x: Tensor) -> Tensor:
        """G: (N, C_in, T, V) -> (N, K, C_out / K, V, V), the last two axes source and target."""
        D, S = self.dynamic_terms(x)
        return torch.addcmul((self.A + self.beta[0] * S).unsqueeze(2), self.alpha[0], D)

    def refinement(self, x: Tensor) -> Tensor:
        """G - A, the part that depends on the clip: (N, C_in, T, V) -> (N, K, C_out / K, V, V)."""
        D, S = self.dynamic_terms(x)
        return self.alpha[0] * D + (self.beta[0] * S).unsqueeze(2)

    def dynamic_terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """D (N, K, C_out / K, V, V) and S (N, K, V, V)."""
        joints = ops.pointwise(x.mean(2, keepdim=True), (self.conv1, self.conv2)).squeeze(2)
        s, d = joints.unflatten(1, (2, self.A.shape[0], -1)).unbind(1)  # (N, K, C, V)
        D = torch.tanh(s.unsqueeze(-1) - d.unsqueeze(-2))  # (N, K, C, V, V)
        return D, (s.transpose(2, 3) @ d).softmax(dim=-2)

    def forward(self, x: Tensor) -> Tensor:
        G = self.topology(x).flatten(1, 2).transpose(2, 3)  # (N, C, V, V), row target
        y = ops.from_matrices(G @ ops.to_matrices(self.pre(x)))  # (N, C, T, V)
        return F.relu(norms.conv_norm(y, self.post, self.bn) + self.down(x), inplace=True)


class TemporalConv(blocks.MultiBranchTemporalConv):
    """DG-TCN: (N, C, T, V) -> (N, C, ceil(T / stride), V).

    The branches also process the mean over the joints; add_coeff_v times the result is added to joint v.
    """

    joint_axes = {"add_coeff": (0,)}

    def __init__(self, channels: int, stride: int, num_point: int):
        super().__init__(channels, stride)
        self.add_coeff = nn.Parameter(torch.zeros(max(num_point, PUBLISHED_JOINTS)))

    def forward(self, x: Tensor) -> Tensor:
        V = x.shape[-1]
        mean = ops.mix_joints(x, x.new_full((1, V), 1 / V))
        joints, mean = self.scales(torch.cat([x, mean], dim=-1)).split([V, 1], dim=-1)  # V and 1 joints, (N, C, T', .)
        return self.fuse(torch.addcmul(joints, self.add_coeff[:V], mean))


class Model(network.PysklNetwork):
    """DG-STGCN. (N, C, T, V, M) -> (N, num_class); all persons share the statistics of `data_bn`.

    num_filter: groups of channels K. init_off, init_std: mean and standard deviation of the initial topologies.
    channels: widths of the blocks, ten from 64 to 256 if None; the stride is 2 where the width grows.
    joint_embedding: embed the joints in channels[0] dimensions before `data_bn`, which then has statistics for every
    person; this replaces a first block without residual connection.

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d.Graph")
    >>> model(torch.zeros(1, 3, 16, 25, 2)).shape
    torch.Size([1, 60])
    """

    for_inference = fuse_norms
    graph_safe = True
    joint_axes = {"backbone.pos_embedding": (1,)}

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
        channels: Sequence[int] | None = None,
        joint_embedding: bool = False,
    ):
        network.load_graph(graph, graph_args, num_point)
        widths = WIDTHS if channels is None else channels
        C_first = widths[0] if joint_embedding and widths else in_channels
        table = list(blocks.block_table(widths, C_first))
        if not 1 <= num_filter <= widths[0]:
            raise ValueError(f"num_filter: expected 1 to {widths[0]}, the first width, got {num_filter}")
        A = init_off + init_std * torch.randn(num_filter, num_point, num_point)
        layers = []
        for C_in, C_out, stride in table:
            gcn, tcn = GraphConv(C_in, C_out, A), TemporalConv(C_out, stride, num_point)
            first = not layers and not joint_embedding
            layers.append(blocks.PysklBlock(gcn, tcn, C_in, C_out, stride, first))
        super().__init__(layers, C_out, num_class, num_point, num_person, C_first, drop_out, joint_embedding)
        self.expected = {"C": in_channels, "V": num_point, "M": num_person}
        self.embeds = joint_embedding
        if joint_embedding:
            self.backbone["to_joint_embedding"] = nn.Linear(in_channels, C_first)
            self.backbone.register_parameter("pos_embedding", nn.Parameter(torch.randn(1, num_point, C_first)))

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, C, T, V, M) -> (N, C_out, ceil(T / 4), V, M)."""
        return super().features(self.embed(data) if self.embeds else data)

    def embed(self, data: Tensor) -> Tensor:
        """W x_v + b + P_v for every joint v: (N, C, T, V, M) -> (N, C_0, T, V, M)."""
        network.check_axes(data, self.expected)
        x = self.backbone["to_joint_embedding"](data.permute(0, 4, 2, 3, 1)) + self.backbone.pos_embedding
        return x.permute(0, 4, 2, 3, 1)
