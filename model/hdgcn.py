"""HD-GCN: Hierarchically Decomposed Graph Convolutional Networks for Skeleton-Based Action Recognition.

Jungho Lee, Minhyeok Lee, Dogyoon Lee, Sangyoun Lee. ICCV 2023, arXiv 2208.10741.

Equivalent to the published code, except that the first block uses `in_channels`, which is fixed to 3 there. The levels
of the hierarchy contain the joints at the same distance from a center, which may be any joint of any body layout, or
they are given explicitly (`graph_args`). All layers are computed together in one convolution or one norm. In the
checkpoint, the convolutions of the last layer have a second name, `conv_d`, which is loaded last.

Shapes, 64 frames of NTU RGB+D:
(N, 3, 64, 25, 2) -> (2N, 64, 64, 25) -> (2N, 128, 32, 25) -> (2N, 256, 16, 25) -> (N, 60)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, network, norms, ops
from model.fuse_norms import fuse_norms

EXAMPLE = {"graph_args": {"labeling_mode": "hierarchy"}}
WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3
NEAREST_JOINTS, NEAREST_LAYERS = 5, 3  # neighbors of an EdgeConv, the point itself included


class TemporalConv(nn.Module):
    """`blocks.TemporalConv` with the bias as another parameter: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    norm_after = {"": "bn"}

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, dilation: int):
        super().__init__()
        padding = (kernel_size - 1) * dilation // 2, 0
        size, steps = (kernel_size, 1), {"stride": (stride, 1), "padding": padding, "dilation": (dilation, 1)}
        self.conv = nn.Conv2d(in_channels, out_channels, size, bias=False, **steps)
        self.bias = nn.Parameter(torch.zeros(1, out_channels, 1, 1))
        self.bn = nn.BatchNorm2d(out_channels)

    @property
    def weight(self) -> Tensor:
        return self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        return self.bn(F.conv2d(x, conv.weight, self.bias.flatten(), conv.stride, conv.padding, conv.dilation))


class EdgeConv(nn.Module):
    """The weights of one EdgeConv (Wang et al., TOG 2019); see `edge_convs`."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(2 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels))


def edge_convs(f: Tensor, layers: Sequence[EdgeConv], k: int) -> Tensor:
    """EdgeConv of P points in each of L layers: f (N, L, C, P) -> (N, L, C, P).

    max_j LeakyReLU(BN(W [f_j - f_i; f_i])) over the k points j nearest to i, among them i itself. With W = [W_1, W_2]
    this is W_1 f_j + (W_2 - W_1) f_i, so that W is applied to points instead of pairs.
    """
    convs, bns = [layer.conv[0] for layer in layers], [layer.conv[1] for layer in layers]
    W, C = torch.stack([conv.weight.flatten(1) for conv in convs]), f.shape[2]
    W_1, W_2 = W[:, :, :C], W[:, :, C:]  # (L, C, C)
    with torch.no_grad():
        points = f.transpose(2, 3)  # (N, L, P, C)
        distance = ops.distances(points)
        near = distance.topk(k, largest=False).indices.flatten(2).unsqueeze(2)  # (N, L, 1, P * k)
    u = W_1 @ f  # (N, L, C, P)
    pairs = u.gather(3, near.expand(-1, -1, u.shape[2], -1)).unflatten(3, (-1, k)) + ((W_2 - W_1) @ f).unsqueeze(-1)
    if convs[0].bias is not None:  # of a fused norm
        pairs = pairs + torch.stack([conv.bias for conv in convs])[..., None, None]
    pairs = norms.norm_each(pairs.flatten(1, 2), bns).view(pairs.shape)
    return F.leaky_relu(pairs, 0.2).max(dim=4).values


class LayerAttention(nn.Module):
    """A-HA, attention-guided hierarchy aggregation: a weight for every layer and channel, (N, C, L).

    w = sigmoid(W EdgeConv(p)), where p_a is the mean over the joints of layer a of the embedded features after a
    maximum over the frames.
    """

    def __init__(self, channels: int, A: Tensor):
        super().__init__()
        width = channels // 4
        self.conv_down = nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width))
        self.edge_conv = EdgeConv(width)
        self.aggregate = nn.Conv1d(width, channels, 1)
        self.register_buffer("inside", A[:, 0].diagonal(dim1=1, dim2=2).clone(), persistent=False)  # (L, V), 0 or 1

    def forward(self, h: Tensor) -> Tensor:
        """h: maximum over the frames of the features of every layer, (N, C, L, V)."""
        p = (F.relu(self.conv_down(h)) * self.inside).sum(3) / self.inside.sum(1)  # (N, C / 4, L)
        n = edge_convs(p.unsqueeze(1), [self.edge_conv], NEAREST_LAYERS).squeeze(1)
        return torch.sigmoid(self.aggregate(n))


class GraphConv(nn.Module):
    """HD-Graph convolution: (N, C_in, T, V) -> (N, C_out, T, V).

    ReLU(BN(Z) + down(x)), where for every layer a of the hierarchy, with subsets j of its edges,
        d_a  = ReLU(BN(W_a x))                      a quarter of the channels
        s_aj = BN(W_aj (A_aj d_a))
        h_a  = [s_a0; s_a1; s_a2; EdgeConv(d_a)]    the last one on the mean over the frames
        Z    = sum_a w_a h_a                        w from A-HA, or 1 without attention
    """

    topologies = ("PA",)

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, attention: bool):
        super().__init__()
        width = out_channels // 4

        def conv(channels: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width))

        self.PA = nn.Parameter(A.clone())
        self.conv_down = nn.ModuleList(conv(in_channels) for _ in A)
        self.conv = nn.ModuleList(nn.ModuleList([*(conv(width) for _ in A[0]), EdgeConv(width)]) for _ in A)
        self.conv_d = self.conv[-1]
        self.aha = LayerAttention(out_channels, A) if attention else None
        self.down = blocks.shortcut(in_channels, out_channels)
        self.bn = nn.BatchNorm2d(out_channels)
        blocks.init_fan_out(self)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        L = self.PA.shape[0]
        convs, bns = zip(*self.conv_down, strict=True)
        d = F.relu(norms.pointwise_norm(x, convs, bns))  # (N, L C / 4, T, V)
        mean = d.mean(2).unflatten(1, (L, -1))
        e = edge_convs(mean, [layer[-1] for layer in self.conv], NEAREST_JOINTS)  # (N, L, C / 4, V)
        s = self.edges(d)  # (N, L, 3 C / 4, T, V)
        if self.aha is None:
            Z_s, Z_e = s.sum(1), e.sum(1)
        else:
            h = torch.cat([s.max(dim=3).values, e], dim=2).transpose(1, 2)  # (N, C, L, V)
            w = self.aha(h.contiguous(memory_format=torch.channels_last)).transpose(1, 2)  # (N, L, C)
            w_s, w_e = w.split([s.shape[2], e.shape[2]], dim=2)
            Z_s, Z_e = (s * w_s[..., None, None]).sum(1), (e * w_e[..., None]).sum(1)
        Z = torch.cat([Z_s, Z_e.unsqueeze(2).expand(-1, -1, x.shape[2], -1)], dim=1)
        Z = Z.contiguous(memory_format=torch.channels_last)
        return F.relu(self.bn(Z) + self.down(x), inplace=True)

    def edges(self, d: Tensor) -> Tensor:
        """s_aj of every layer: (N, L C / 4, T, V) -> (N, L, 3 C / 4, T, V).

        By linearity W_aj is applied first; the products of all layers and subsets are one, and so are their norms.
        """
        L = self.PA.shape[0]
        pairs = [pair for layer in self.conv for pair in layer[:-1]]
        z = ops.conv_heads(d, torch.cat([conv.weight for conv, _ in pairs]), L)  # (L, N, T, V, 3 C / 4)
        s = ops.mix_heads(z, self.PA.flatten(0, 1)[None, :, :, None])  # (N, 3 L C / 4, T, V)
        s = s + torch.cat([conv.bias for conv, _ in pairs])[:, None, None]
        return ops.channels_last_gradient(norms.norm_each(s, [norm for _, norm in pairs])).unflatten(1, (L, -1))


def load_hierarchy(graph: str, graph_args: dict[str, Any] | None, num_point: int) -> Tensor:
    """The layers of the hierarchy, (L, 3, V, V).

    Raises:
        ValueError: the graph is not a hierarchy, or it is too small for the neighbors of the two EdgeConvs.
    """
    A = network.load_graph(graph, graph_args, num_point)
    if A.dim() != 4:
        raise ValueError("graph_args: expected labeling_mode hierarchy, got another one")
    if A.shape[0] < NEAREST_LAYERS or num_point < NEAREST_JOINTS:
        raise ValueError(
            f"graph_args: expected a hierarchy of {NEAREST_LAYERS} or more layers and {NEAREST_JOINTS} or more joints, "
            f"got {A.shape[0]} layers and {num_point} joints; choose another center or give levels"
        )
    return A


class Model(network.BlockNetwork):
    """HD-GCN. (N, C, T, V, M) -> (N, num_class).

    graph_args: {labeling_mode: hierarchy}, and optionally the `center` of the hierarchy or its `levels`.

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d_tips.Graph", {"labeling_mode": "hierarchy", "center": 1})
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
    ):
        A = load_hierarchy(graph, graph_args, num_point)
        layers = []
        for C_in, C_out, stride in blocks.block_table(WIDTHS, in_channels):
            gcn = GraphConv(C_in, C_out, A, attention=bool(layers))
            tcn = blocks.MultiScaleTemporalConv(C_out, C_out, 5, stride, (1, 2), TemporalConv)
            layers.append(blocks.Block(gcn, tcn, C_in, C_out, stride, first=not layers))
            blocks.init_norms(tcn, std=0.02)
        super().__init__(layers, C_out, num_class, num_point, num_person, in_channels, drop_out)
