"""TSGCNeXt: Dynamic-Static Multi-Graph Convolution for Efficient Skeleton-Based Action Recognition with Long-term
Learning Potential.

Dongjingdian Liu, Pengpeng Chen, Miao Yao, Yijing Lu, Zijie Cai, Yuxin Tian. arXiv 2304.11631, 2023.

Equivalent to the published code. The graphs are learned and the same for every clip. Two details differ from the figure
in the paper: hidden channel q of a block belongs to group q modulo 4 (in the figure, the groups are quarters), and in
the downsampling the norm precedes the strided convolution. `drop_out` is the maximum drop-path rate, as in the
published configurations. `gamma` and `alpha` of the blocks have no effect.

Shapes, 256 frames of NTU RGB+D:
(N, 3, 256, 25, 2) -> (2N, 96, 64, 25) -> (2N, 192, 32, 25) -> (2N, 384, 16, 25) -> (N, 60)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph import coco, ntu_rgb_d
from model import network, ops
from model.blocks import DropPath

UNIFIED = {"coco": coco, "ntu": ntu_rgb_d}


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels: (N, C, T, V) -> (N, C, T, V)."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (N, C, T, V)


class Block(nn.Module):
    """ConvNeXt block with DS-SMG, the graph convolution of the hidden channels: (N, C_in, T, V) -> (N, C_out, T', V).

    down(x + DS-SMG(LN(dwconv(x)))). The 4 C_in hidden channels h = W u + b form four groups h_i, channel modulo 4:
        DS-SMG(u) = W' GELU(A_0 h_0 | A_1 h_1 | A_2 h_2 | h_3) + b'
    """

    topologies = ("PA",)

    def __init__(self, in_channels: int, out_channels: int, A: Tensor, drop_path: float):
        super().__init__()
        self.PA = nn.Parameter(A.clone())
        self.gamma = nn.Parameter(torch.full((in_channels,), 1e-6), requires_grad=False)
        self.alpha = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.dwconv = nn.Conv2d(in_channels, in_channels, (3, 1), padding=(1, 0), groups=in_channels)
        self.norm = ChannelNorm(in_channels)
        self.pwconv1 = nn.Linear(in_channels, 4 * in_channels)
        self.pwconv2 = nn.Linear(4 * in_channels, in_channels)
        self.drop_path = DropPath(drop_path)
        self.down = nn.Identity()
        if in_channels != out_channels:
            self.down = nn.Sequential(ChannelNorm(in_channels), nn.Conv2d(in_channels, out_channels, (2, 1), (2, 1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x + self.drop_path(self.mix(self.norm(self.dwconv(x)))))

    def mix(self, u: Tensor) -> Tensor:
        """DS-SMG(u); same shape.

        Computed as b' + sum_i W'_i GELU(A_i (W_i u + b_i)), A_3 left out: by groups, so that no map is rearranged.
        """
        W, b = self.pwconv1.weight[..., None, None].unflatten(0, (-1, 4)), self.pwconv1.bias.unflatten(0, (-1, 4))
        W_out = self.pwconv2.weight[..., None, None].unflatten(1, (-1, 4))
        y = self.pwconv2.bias[:, None, None]
        for i in range(4):
            h = F.conv2d(u, W[:, i], b[:, i])
            h = ops.mix_joints(h, self.PA[i]) if i < 3 else h
            y = y + F.conv2d(F.gelu(h), W_out[:, :, i])
        return y


class Model(network.Network):
    """TSGCNeXt. (N, C, T, V, M) or, for one person, (N, T, V * C) -> (N, num_class).

    depths: blocks of each width; published are (2, 5, 2) and (4, 3, 2). base_channels: the first width, doubled from
    stage to stage. in_channels: with 2, further channels of the data are ignored. unify: `coco` or `ntu` selects the
    13 joints that both bodies have.

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d.Graph")
    >>> model(torch.zeros(1, 3, 16, 25, 2)).shape
    torch.Size([1, 60])
    """

    graph_safe = True
    takes_first_channels = True

    def __init__(
        self,
        num_class: int,
        num_point: int,
        num_person: int,
        graph: str,
        graph_args: dict[str, Any] | None = None,
        in_channels: int = 3,
        drop_out: float = 0,
        depths: Sequence[int] = (2, 5, 2),
        base_channels: int = 96,
        unify: str | None = None,
    ):
        super().__init__()
        if not depths or min(depths) < 1:
            raise ValueError(f"depths: expected integers >= 1, one for each width, got {list(depths)}")
        if not 0 <= drop_out < 1:
            raise ValueError(f"drop_out: expected a rate from 0 to below 1, got {drop_out}")
        A = load_graph(graph, graph_args, num_point, unify)
        self.in_channels, self.num_point, self.num_person = in_channels, num_point, num_person
        min_frames = 4 * 2 ** (len(depths) - 1)
        self.data_bn = network.DataNorm(in_channels, num_point, num_person, per_person=True, min_frames=min_frames)
        self.l1 = nn.Sequential(nn.Conv2d(in_channels, base_channels, (4, 1), (4, 1)), ChannelNorm(base_channels))
        widths = [base_channels * 2**stage for stage, depth in enumerate(depths) for _ in range(depth)]
        rates = torch.linspace(0, drop_out, len(widths)).tolist()
        self.num_layers = 1 + len(widths)
        for i, (C_in, C_out, rate) in enumerate(zip(widths, [*widths[1:], widths[-1]], rates, strict=True), start=2):
            self.add_module(f"l{i}", Block(C_in, C_out, A, rate))
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.fc = nn.Linear(widths[-1], num_class)
        nn.init.normal_(self.fc.weight, 0, (2 / num_class) ** 0.5)

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, C, T, V, M) -> (N, 384, T // 16, V, M)."""
        if data.dim() == 3:
            data = network.unroll_joints(data, self.num_point)
        x = self.data_bn(data[:, :2] if self.in_channels == 2 else data)
        for i in range(1, self.num_layers + 1):
            x = self.get_submodule(f"l{i}")(x)
        return network.split_persons(x, self.num_person)

    def classify(self, pooled: Tensor) -> Tensor:
        return self.fc(self.norm(pooled))


def load_graph(graph: str, graph_args: dict[str, Any] | None, num_point: int, unify: str | None) -> Tensor:
    """The three subsets, (3, V, V); with `unify` the rows and columns of the common joints, not normalized again.

    Raises:
        ValueError: `unify`, `num_point` or the number of subsets does not fit.
    """
    if unify is None:
        A = network.load_graph(graph, graph_args, num_point)
    elif unify not in UNIFIED:
        raise ValueError(f"unify: expected {', '.join(UNIFIED)} or null, got {unify!r}")
    else:
        joints = UNIFIED[unify].COMMON_JOINTS
        if num_point != len(joints):
            raise ValueError(f"num_point: expected {len(joints)} (unify {unify}), got {num_point}")
        A = network.load_graph(graph, graph_args, UNIFIED[unify].SKELETON.num_joint)[:, joints][:, :, joints]
    if A.shape[0] != 3:
        raise ValueError(f"graph_args: expected a graph of 3 subsets, got {A.shape[0]}; set labeling_mode to spatial")
    return A
