"""BlockGCN: Redefine Topology Awareness for Skeleton-Based Action Recognition.

Yuxuan Zhou, Xudong Yan, Zhi-Qi Cheng, Yan Yan, Qi Dai, Xian-Sheng Hua. CVPR 2024; arXiv 2305.11468 is an earlier
version with a different network.

Equivalent to the published code with `topology="published"`. In this mode, a row of the batch gets the topology
features of another clip, and distances are divided by the maximum of the batch, so the logits of a clip depend on the
other clips. By default, each clip uses its own features. Persistent homology of dimension 0 is computed in closed form:
its deaths are the edges of a minimum spanning tree.

Shapes, 64 frames of NTU RGB+D:
(N, 3, 64, 25, 2) -> (2N, 128, 64, 25) -> (2N, 256, 32, 25) -> (2N, 256, 16, 25) -> (N, 60)
"""

from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph import adjacency
from model import blocks, network, ops
from model.fuse_norms import fuse_norms

WIDTH, HEADS, FEATURES = 128, 8, 64
LAYERS = [(128, 128, 1)] * 4 + [(128, 256, 2)] + [(256, 256, 1)] * 2 + [(256, 256, 2)] + [(256, 256, 1)] * 2
Sharing = Literal["per_clip", "published"]


class GraphConv(nn.Module):
    """BlockGC: (N, C_in, T, V) -> (N, C_out, T, V).

    ReLU(BN(Z) + down(x)), where for each of 8 heads, groups of channels, and summed over three subsets i
        P_vw = rpe(number of bones between v and w)     relative positional encoding
        Z    = W_i(x (norm(F) + norm(P)))               norm: every column divided by its length; F is `fc1`, W is `fc2`

    By linearity W_i is applied first, and the sum over the subsets is one product over all joints of all subsets.
    """

    norm_after = {"fc2": "bn"}
    topologies = ("fc1",)

    def __init__(self, in_channels: int, out_channels: int, steps: Tensor):
        super().__init__()
        self.fc1 = nn.Parameter(torch.eye(steps.shape[0]).repeat(3, HEADS, 1, 1))
        self.rpe = nn.Parameter(torch.zeros(3, HEADS, int(steps.max()) + 1))
        self.register_buffer("steps", steps, persistent=False)
        self.fc2 = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1, groups=HEADS) for _ in range(3))
        self.down = blocks.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        blocks.init_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        A = unit_columns(self.fc1) + unit_columns(self.rpe[..., self.steps])  # (3, H, V, V), row source
        weight = torch.stack([conv.weight.unflatten(0, (HEADS, -1)) for conv in self.fc2], 1)  # (H, 3, C_out / H, ...)
        x_W = ops.conv_heads(x, weight.flatten(0, 2), HEADS)  # W_i x of all subsets, (H, N, T, V, 3 * C_out / H)
        Z = ops.mix_heads(x_W, A.permute(1, 3, 0, 2).unsqueeze(0)) + sum(conv.bias for conv in self.fc2)[:, None, None]
        return F.relu(self.bn(Z) + self.down(x), inplace=True)


def unit_columns(A: Tensor) -> Tensor:
    """Columns divided by their length: (..., V, V) -> same; columns of zeros stay zero."""
    return A / (torch.linalg.vector_norm(A, dim=-2, keepdim=True) + 1e-4)


class RadialFunctions(nn.Module):
    """64 radial functions of births and deaths; all births are 0."""

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.rand(FEATURES, 2))
        self.sharpness = nn.Parameter(torch.full((FEATURES, 2), 3.0))

    def forward(self, death: Tensor) -> Tensor:
        """exp(-s_0^2 c_0^2 - s_1^2 (c_1 - d)^2) of every death d: (N, V - 1) -> (N, 64, V - 1)."""
        (c_birth, c_death), (s_birth, s_death) = self.centres.unbind(1), self.sharpness.unbind(1)
        near = (s_birth * c_birth).square()[:, None] + (s_death[:, None] * (c_death[:, None] - death[:, None])).square()
        return torch.exp(-near)


class Topology(nn.Module):
    """Topology features of a clip by persistent homology of its mean pose: (N, C, T, V, M) -> (N, 64).

    The points are the rows of the matrix of joint distances; phi_k = sum over the deaths of radial function k.
    """

    def __init__(self, shared: bool):
        super().__init__()
        self.shared = shared
        self.pl = RadialFunctions()

    def forward(self, joints: Tensor) -> Tensor:
        with torch.no_grad():
            D = pairwise(joints.mean((2, 4)).transpose(1, 2))  # (N, V, V), distances of the joints of the mean pose
            largest = D.max() if self.shared else D.amax((1, 2), keepdim=True)
            D = torch.where(largest > 0, D / largest, 0)
            death = spanning_tree(pairwise(D)).float().to(D.dtype)  # the published library works in float32
        phi = self.pl(death)
        if self.shared:  # the library omits deaths at 0 and pads with ones up to the longest clip
            inside = death > 0
            count = inside.sum(1, keepdim=True)
            return (phi * inside[:, None]).sum(2) + (count.max() - count)
        return phi.sum(2)


def pairwise(points: Tensor) -> Tensor:
    """Distances of points: (N, V, C) -> (N, V, V), in float32 or more."""
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    return ops.distances(points)


def spanning_tree(D: Tensor) -> Tensor:
    """Edge lengths of a minimum spanning tree (Prim): distances (N, V, V) -> (N, V - 1)."""
    N, V, _ = D.shape
    joints = torch.arange(V, device=D.device)
    to_tree, inside = D[:, 0], (joints == 0).expand(N, V)
    edges = []
    for _ in range(V - 1):
        length, joint = to_tree.masked_fill(inside, torch.inf).min(1)
        edges.append(length)
        inside = inside | (joints == joint[:, None])
        to_tree = to_tree.minimum(D.gather(1, joint[:, None, None].expand(-1, 1, V)).squeeze(1))
    return torch.stack(edges, 1) if edges else D.new_zeros(N, 0)


class TopologyEmbedding(nn.Module):
    """tau = ReLU(BN(W phi)), added to every frame and joint: (N, 64) -> (N, C, 1, 1)."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Linear(FEATURES, width)
        self.bn = nn.BatchNorm1d(width)

    def forward(self, phi: Tensor) -> Tensor:
        return F.relu(self.bn(self.mlp(phi.to(self.mlp.weight.dtype))))[..., None, None]  # phi is in float32 or more


class Model(network.EmbeddedNetwork):
    """BlockGCN. (N, C, T, V, M) -> (N, num_class).

    joint_channels: number of channels, at the end, that contain the joints for the topology features (`append_joints`
    of the feeder); 0: the topology features are computed from all channels. topology: `per_clip`, or `published` as in
    the header. The topology features are normalized over the clips of a training pass, so give two clips or more: those
    of a single clip vanish, and for one person such a pass is an error.

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d_tips.Graph")
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
        joint_channels: int = 0,
        topology: Sharing = "per_clip",
    ):
        if not 0 <= joint_channels < in_channels:
            raise ValueError(f"joint_channels: expected 0 to {in_channels - 1} (in_channels - 1), got {joint_channels}")
        if topology not in get_args(Sharing):
            raise ValueError(f"topology: expected {' or '.join(get_args(Sharing))}, got {topology!r}")
        A = network.load_graph(graph, graph_args, num_point).flatten(0, -3).sum(0)
        steps = torch.from_numpy(adjacency.steps((A + A.T).numpy()).astype(np.int64))
        layers = []
        for C_in, C_out, stride in LAYERS:
            tcn = blocks.MultiScaleTemporalConv(C_out, C_out, 5, stride, (1, 2))
            layers.append(blocks.Block(GraphConv(C_in, C_out, steps), tcn, C_in, C_out, stride, first=False))
            blocks.init_norms(tcn, std=0.02)
        super().__init__(
            layers, C_out, num_class, num_point, num_person, in_channels, drop_out, WIDTH, in_channels - joint_channels
        )
        self.joint_channels, self.topology = joint_channels, topology
        for i, (C_in, _, _) in enumerate(LAYERS):
            self.add_module(f"t{i}", TopologyEmbedding(C_in))
        self.topo = Topology(shared=topology == "published")

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, C, T, V, M) -> (N, 256, ceil(T / 4), V, M)."""
        if self.training and len(data) * self.num_person == 1:
            hint = "their topology features are normalized over the clips; raise batch_size or lower update_freq"
            raise ValueError(f"data: expected 2 or more clips in a training pass, got 1; {hint}")
        x = self.data_bn(data, self.embed)
        phi = self.topo(data[:, -self.joint_channels :])  # all channels if joint_channels is 0
        if self.topology == "published":
            phi = phi.repeat(self.num_person, 1)
        else:
            phi = phi.repeat_interleave(self.num_person, 0)
        for i in range(self.num_blocks):
            x = self.get_submodule(f"l{i + 1}")(x + self.get_submodule(f"t{i}")(phi))
        return network.split_persons(x, self.num_person)
