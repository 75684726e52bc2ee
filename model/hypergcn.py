"""Hyper-GCN: Adaptive Hyper-Graph Convolution Network for Skeleton-Based Human Action Recognition with Virtual
Connections.

Youwei Zhou, Tianyang Xu, Cong Wu, Xiaojun Wu, Josef Kittler. ICCV 2025, arXiv 2411.14796.

Equivalent to the published code, whose forward pass also returns the virtual joints; here, `penalty` is the divergence
of the virtual joints, 0 for fewer than two. `PA` is a buffer, because it is never trained. Virtual joints are the same
for all clips and frames, so their convolutions are computed once; their unused outputs are omitted.

Shapes, 64 frames of NTU RGB+D:
(N, 3, 64, 25, 2) -> (2N, 128, 64, 25) -> (2N, 256, 32, 25) -> (2N, 256, 16, 25) -> (N, 60)
"""

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, network, ops
from model.fuse_norms import fuse_norms

EXAMPLE = {"graph_args": {"labeling_mode": "binary"}, "hyper_joints": 3}
NO_GRADIENT = ("*.to_V.bias",)  # a shift changes no distance
WIDTH, HEADS, NEAREST, EPS = 128, 8, 9, 1e-8
LAYERS = {  # C_in, C_out, stride of every block
    "base": [(128, 128, 1)] * 3 + [(128, 256, 2)] + [(256, 256, 1)] * 2 + [(256, 256, 2)] + [(256, 256, 1)] * 2,
    "large": [(128, 128, 1)] * 3 + [(128, 256, 2)] + [(256, 256, 1)] * 2 + [(256, 512, 2)] + [(512, 512, 1)] * 2,
}
STAGES = ((1, 2, 3), (4, 5, 6), (7, 8, 9))  # blocks with the same number of frames


class GraphConv(nn.Module):
    """Hyper-graph convolution over V joints and R virtual ones: (N, C_in, T, V) -> (N, C_out, T, V).

    ReLU(BN(Z) + down(x)), where for each of 8 heads, groups of channels, and x~ = [x; virtual joints]
        Z = (A_0 + ReLU(alpha) G) W x~       only the rows of the V joints
        A_0: the skeleton, every edge weighted, every row divided by the sum of its magnitudes
        G   = norm(H w) w D^-1 H^T           topology of the hyper-edges, one around each joint, of each clip
        H_ue = softmax(-|f_u - f_e|)         over the 9 joints e nearest to u; f: embedded joints, mean over the frames
        w_e: weight of a hyper-edge; D_e = sum_u H_ue; norm: every row divided by the sum of its magnitudes
    """

    topologies = ("PA", "edge_importance")

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, virtual: Tensor):
        super().__init__()
        width = in_channels // 4
        self.hyper_joint = nn.Parameter(virtual)
        self.alpha = nn.Parameter(torch.ones(1))
        self.register_buffer("PA", A.repeat(HEADS, 1, 1))
        self.edge_importance = nn.Parameter(torch.ones_like(self.PA))
        self.to_V = nn.Conv1d(in_channels, width, 1, groups=HEADS)
        to_W = nn.Conv1d(in_channels, width, 1, groups=HEADS), nn.LeakyReLU(0.01), nn.Conv1d(width, HEADS, 1)
        self.to_W = nn.Sequential(*to_W)
        self.conv_d = nn.Conv2d(in_channels, out_channels, 1, groups=HEADS)
        self.down = blocks.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        blocks.init_fan_out(self)
        for conv in (self.to_V, self.to_W[0], self.to_W[2]):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")
            nn.init.zeros_(conv.bias)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        V = x.shape[3]
        virtual = self.hyper_joint.t().unsqueeze(0)  # (1, C_in, R)
        mean = torch.cat([x.mean(2), virtual.expand(x.shape[0], -1, -1)], dim=2)  # of x~, (N, C_in, W)
        A = self.topology(mean)[:, :, :V]  # (N, H, V, W)
        weight, bias = self.conv_d.weight, self.conv_d.bias.unflatten(0, (HEADS, 1, -1))  # (H, 1, C_out / H)
        z_virtual = ops.conv_heads(virtual.unsqueeze(2), weight, HEADS)[:, 0, 0]  # (H, R, C_out / H)
        constant = (
            A[..., V:] @ z_virtual + A.sum(3, keepdim=True) * bias
        )  # the same in all frames, (N, H, V, C_out / H)
        Z = ops.mix_heads(ops.conv_heads(x, weight, HEADS), A[..., None, :V])
        Z = Z + constant.transpose(2, 3).flatten(1, 2).unsqueeze(2)
        return F.relu(self.bn(Z) + self.down(x), inplace=True)

    def topology(self, mean: Tensor) -> Tensor:
        """A_0 + ReLU(alpha) G for joints (N, C_in, W), row target: (N, H, W, W)."""
        f = self.to_V(mean).unflatten(1, (HEADS, -1)).transpose(2, 3)  # (N, H, W, C_in / 32)
        distance = ops.distances(f)
        near, edge = distance.topk(NEAREST, largest=False)
        H = torch.zeros_like(distance).scatter(3, edge, (-near).softmax(3))  # row joint, column hyper-edge
        w = torch.tanh(self.to_W(mean)).unsqueeze(2)  # (N, H, 1, W)
        G = unit_rows(H * w) @ (H * (w / (H.sum(2, keepdim=True) + EPS))).transpose(2, 3)
        return unit_rows(self.PA * self.edge_importance) + F.relu(self.alpha) * G


def unit_rows(A: Tensor) -> Tensor:
    """Rows divided by the sum of their magnitudes: (..., W, W) -> same."""
    return A / (A.abs().sum(-1, keepdim=True) + EPS)


def divergence(h: Tensor) -> Tensor:
    """Mean of the positive cosines between two different rows: (R, C) -> (); 0 for fewer than two rows."""
    R, length = h.shape[0], h.norm(dim=1)
    if R < 2:
        return h.sum() * 0
    cosine = h @ h.t() / (length[:, None] * length + EPS)
    return (F.relu(cosine).sum() - R) / (R * (R - 1))


def with_virtual(A: Tensor, hyper_joints: int) -> Tensor:
    """Joints and virtual joints, each connected to itself, virtual ones to all joints: (V, V) 0/1 -> (W, W)."""
    A = F.pad(A, (0, hyper_joints, 0, hyper_joints), value=1.0)
    V = A.shape[0] - hyper_joints
    A[V:, V:] = 0
    return A.fill_diagonal_(1)


class Model(network.EmbeddedNetwork):
    """Hyper-GCN. (N, C, T, V, M) -> (N, num_class).

    size: base or large. hyper_joints: number of virtual joints of each block. distinct: initialize the
    virtual joints with different random vectors; in the published code, they have the same initial values and become
    different only by rounding errors.

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d_tips.Graph", {"labeling_mode": "binary"}, hyper_joints=3)
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
        hyper_joints: int = 0,
        size: Literal["base", "large"] = "base",
        distinct: bool = False,
    ):
        A = network.load_graph(graph, graph_args, num_point)
        if A.shape[0] != 1 or A.diagonal(dim1=1, dim2=2).any():
            raise ValueError("graph_args: expected the binary graph; set labeling_mode to binary")
        if hyper_joints < 0 or num_point + hyper_joints < NEAREST:
            raise ValueError(
                f"hyper_joints: expected 0 or more, and with the {num_point} joints of the body {NEAREST} or more, "
                f"got {hyper_joints}"
            )
        if size not in LAYERS:
            raise ValueError(f"size: expected {' or '.join(LAYERS)}, got {size!r}")
        A = with_virtual(A[0], hyper_joints)
        temporal = partial(blocks.TemporalConv, padding_mode="replicate")
        layers = []
        for C_in, C_out, stride in LAYERS[size]:
            rows = torch.randn(hyper_joints if distinct else 1, C_in)
            gcn = GraphConv(C_in, C_out, A, rows if distinct else rows.repeat(hyper_joints, 1))
            tcn = blocks.MultiScaleTemporalConv(C_out, C_out, 5, stride, (1, 2), temporal)
            layers.append(blocks.Block(gcn, tcn, C_in, C_out, stride, first=False))
            blocks.init_norms(tcn, std=0.02)
        super().__init__(layers, C_out, num_class, num_point, num_person, in_channels, drop_out, WIDTH, in_channels)

    def embed(self, joints: Tensor) -> Tensor:
        return torch.tanh(super().embed(joints))

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, C, T, V, M) -> (N, C_out, ceil(T / 4), V, M)."""
        x = self.data_bn(data, self.embed)
        for first, second, third in STAGES:
            x = self.get_submodule(f"l{first}")(x)
            x = x + self.get_submodule(f"l{second}")(x)
            x = self.get_submodule(f"l{third}")(x)
        return network.split_persons(x, self.num_person)

    def penalty(self) -> Tensor:
        """Divergence of the virtual joints, the mean of the positive cosines between two of a block, from 0 to 1."""
        found = [divergence(self.get_submodule(f"l{i}").gcn1.hyper_joint) for i in range(1, self.num_blocks + 1)]
        return torch.stack(found).mean()
