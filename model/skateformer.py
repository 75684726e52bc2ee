"""SkateFormer: Skeletal-Temporal Transformer for Human Action Recognition.

Jeonghyeok Do, Munchurl Kim. ECCV 2024, arXiv 2403.09508.

Equivalent to the published code, whose attention has two unusual details. The scale is H^(-1/2) with the number of
heads H of a type, not the width of a head. The relative positions of types 1 and 3 are tiled instead of repeated: token
r has the offset r mod F instead of its frame. Here, the network selects and orders the joints, which the feeder does in
the published code. Learned positions for a fixed number of frames and attention without relative positions are not
implemented.

Shapes, 64 frames of NTU RGB+D:
(N, 3, 64, 25, 2) -> (N, 96, 64, 48) -> (N, 192, 32, 48) -> (N, 192, 16, 48) -> (N, 192, 8, 48) -> (N, 60)
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph.partition import find_groups
from model import network, ops
from model.blocks import DropPath
from model.fuse_norms import fuse_norms

FRAMES = 8  # of a window, unless given
Size = tuple[int, int]  # frames and joints of a window


class SkateMSA(nn.Module):
    """Attention within the windows of one type: queries, keys and values (N, T, J, 3 C) -> (N, T, J, C).

    Tokens of a window are F frames times G joints. Type 1: neighboring frames, neighboring joints; 2: neighboring
    frames, distant joints; 3: distant frames, neighboring joints; 4: distant frames, distant joints. Distant ones are
    T / F frames or J / G joints apart. For each head
        y = softmax(q k^T / sqrt(H) + B) v
    B of types 2 and 4 depends on the frame offset and on both joints, that of types 1 and 3 on an offset alone.
    """

    def __init__(self, kind: int, size: Size, num_heads: int, attn_drop: float):
        super().__init__()
        (frames, joints), self.num_heads, self.attn_drop = size, num_heads, attn_drop
        self.frames, self.joints = frames, joints
        self.near_frames, self.near_joints = kind in (1, 2), kind in (1, 3)
        shape = (2 * frames - 1, num_heads) if self.near_joints else (2 * frames - 1, joints, joints, num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))
        offset = torch.arange(frames)
        self.register_buffer("relative_position_index", offset[:, None] - offset + frames - 1)

    def forward(self, qkv: Tensor) -> Tensor:
        qkv = self.split(qkv).unflatten(5, (3, self.num_heads, -1))  # (N, A, B, F, G, 3, H, d)
        (N, A, B, F_, G, _, H, d), dropout = qkv.shape, self.attn_drop if self.training else 0.0
        q, k, v = qkv.permute(5, 0, 1, 2, 6, 3, 4, 7).reshape(3, N * A * B, H, F_ * G, d)
        y = ops.attention(q, k, v, self.bias().to(q.dtype), H**-0.5, dropout)
        return self.merge(y.view(N, A, B, H, F_, G, d).permute(0, 1, 2, 4, 5, 3, 6).flatten(5))

    def split(self, x: Tensor) -> Tensor:
        """A T-J map as windows, a view: (N, T, J, C) -> (N, A, B, F, G, C)."""
        x = x.unflatten(2, (-1, self.joints) if self.near_joints else (self.joints, -1))
        x = x.unflatten(1, (-1, self.frames) if self.near_frames else (self.frames, -1))
        return x.permute(self.axes())

    def merge(self, x: Tensor) -> Tensor:
        """The inverse of `split`: (N, A, B, F, G, C) -> (N, T, J, C)."""
        order = self.axes()
        return x.permute([order.index(axis) for axis in range(6)]).flatten(3, 4).flatten(1, 2)

    def axes(self) -> tuple[int, ...]:
        """The axes of windows and tokens among those of the divided frames (1, 2) and joints (3, 4)."""
        (a, f), (b, g) = (1, 2) if self.near_frames else (2, 1), (3, 4) if self.near_joints else (4, 3)
        return 0, a, b, f, g, 5

    def bias(self) -> Tensor:
        """B of every head, (H, F G, F G)."""
        table, index, R = self.relative_position_bias_table, self.relative_position_index, self.frames * self.joints
        if self.near_joints:  # tiled, as published; by frames it would be index.repeat_interleave
            return table[index.repeat(self.joints, self.joints)].permute(2, 0, 1)
        return table[index].permute(4, 0, 2, 1, 3).reshape(-1, R, R)


class MLP(nn.Module):
    """W_2 GELU(W_1 x), dropout after both."""

    def __init__(self, channels: int, hidden: int, drop: float):
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(channels, hidden), nn.Linear(hidden, channels), nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class SkateFormerBlock(nn.Module):
    """x + W_proj [G-Conv | T-Conv | MSA_1 | ... | MSA_4](W_map LN(x)), then x + MLP(LN(x)): (N, T, J, C) stays.

    Half of the 2 C mapped channels are for the convolutions (C / 4 in, C / 4 out each), half for the four attentions
    (query, key and value of C / 8 each). G-Conv multiplies groups of channels with learned J x J matrices (row target),
    T-Conv is a grouped convolution over time.
    """

    joint_axes = {"gconv": (1, 2)}

    def __init__(
        self,
        C: int,
        num_joint: int,
        sizes: Sequence[Size],
        num_heads: int,
        kernel_size: int,
        mlp_ratio: float,
        attn_drop: float,
        drop: float,
        drop_path: float,
    ):
        super().__init__()
        groups = num_heads // 4
        self.gconv = nn.Parameter(nn.init.trunc_normal_(torch.empty(groups, num_joint, num_joint), std=0.02))
        self.norm_1 = nn.LayerNorm(C)
        self.mapping = nn.Linear(C, 2 * C)
        self.tconv = nn.Conv2d(C // 4, C // 4, (kernel_size, 1), padding=(kernel_size // 2, 0), groups=groups)
        attention = (SkateMSA(kind, size, num_heads // 8, attn_drop) for kind, size in enumerate(sizes, start=1))
        self.attention = nn.ModuleList(attention)
        self.proj = nn.Linear(C, C)
        self.norm_2 = nn.LayerNorm(C)
        self.mlp = MLP(C, int(mlp_ratio * C), drop)
        self.widths = [C // 4] * 2 + [3 * C // 8] * 4
        self.drop, self.drop_path = nn.Dropout(drop), DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        g, t, *qkv = self.mapping(self.norm_1(x)).split(self.widths, dim=3)
        y = [self.graph_conv(g), self.temporal_conv(t)]
        y += [attention(part) for attention, part in zip(self.attention, qkv, strict=True)]
        x = x + self.drop_path(self.drop(self.proj(torch.cat(y, dim=3))))
        return x + self.drop_path(self.mlp(self.norm_2(x)))

    def graph_conv(self, x: Tensor) -> Tensor:
        """y[v] = sum_u G_k[v, u] x[u] for every group k of consecutive channels."""
        x = x.unflatten(3, (self.gconv.shape[0], -1)).transpose(2, 3)  # (N, T, K, J, C / K)
        return (self.gconv @ x).transpose(2, 3).flatten(3)

    def temporal_conv(self, x: Tensor) -> Tensor:
        """A convolution over time, the same for all joints."""
        return self.tconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Downsample(nn.Module):
    """Half of the frames by a strided convolution and batch norm: (N, C_in, T, J) -> (N, C_out, ceil(T / 2), J)."""

    norm_after = {"reduction": "bn"}

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.reduction = nn.Conv2d(in_channels, out_channels, (kernel_size, 1), (2, 1), (kernel_size // 2, 0))
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.reduction(x))


class Block(nn.Module):
    """Downsampling at the beginning of a stage, then the transformer: (N, C_in, T, J) -> (N, C, T', J)."""

    def __init__(self, downsample: nn.Module | None, transformer: nn.Module):
        super().__init__()
        self.downsample, self.transformer = downsample, transformer

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.downsample is None else self.downsample(x)
        return self.transformer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Model(network.Network):
    """SkateFormer. (N, C, T, V, M), times of the frames (N, T) -> (N, num_class).

    Times range from -1, the first frame of the whole clip, to 1, its last frame; default: evenly spaced. The joints of
    all persons are concatenated: J is M times the number of joints in all groups.

    type_1_size, ...: frames and joints of a window, by default 8 frames, and for neighboring joints as many consecutive
    joints as one group has in all persons, for distant joints one joint of each group of each person. groups: lists of
    joints of equal length, in the order of the network input; default: those of `graph.partition` for the body of the
    graph. num_heads: a quarter of this number is the number of groups of each convolution (over joints, over time), and
    an eighth is the number of heads of each type of attention. depths, channels: number of blocks and width of each
    stage.

    >>> model = Model(60, 25, 2, "graph.ntu_rgb_d.Graph")
    >>> model(torch.zeros(1, 3, 64, 25, 2)).shape
    torch.Size([1, 60])
    """

    for_inference = fuse_norms
    takes_time = True
    graph_safe = True
    joint_axes = {"joint_person_embedding": (1,)}

    def __init__(
        self,
        num_class: int,
        num_point: int,
        num_person: int,
        graph: str,
        graph_args: dict[str, Any] | None = None,
        in_channels: int = 3,
        type_1_size: Sequence[int] | None = None,
        type_2_size: Sequence[int] | None = None,
        type_3_size: Sequence[int] | None = None,
        type_4_size: Sequence[int] | None = None,
        groups: Sequence[Sequence[int]] | None = None,
        num_heads: int = 32,
        kernel_size: int = 7,
        mlp_ratio: float = 4.0,
        attn_drop: float = 0.0,
        drop: float = 0.0,
        head_drop: float = 0.0,
        drop_path: float = 0.0,
        depths: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (96, 192, 192, 192),
    ):
        super().__init__()
        check_widths(depths, channels, num_heads, kernel_size, mlp_ratio)
        check_rates(attn_drop=attn_drop, drop=drop, head_drop=head_drop, drop_path=drop_path)
        skeleton = network.load_body(graph, graph_args, num_point).skeleton
        groups = find_groups(skeleton) if groups is None else check_groups(groups, num_point)
        J = num_person * len(groups) * len(groups[0])
        sizes = window_sizes((type_1_size, type_2_size, type_3_size, type_4_size), groups, num_person)
        self.expected = {"C": in_channels, "V": num_point, "M": num_person}
        self.num_person, self.frame_multiple = num_person, math.lcm(*(frames for frames, _ in sizes))
        self.register_buffer("joints", torch.tensor(groups).flatten(), persistent=False)
        widths = [in_channels * 2, in_channels * 3, channels[0]]
        stem = [nn.Conv2d(C_in, C, 1) for C_in, C in zip([in_channels, *widths], widths, strict=False)]
        self.stem = nn.Sequential(stem[0], nn.GELU(), stem[1], nn.GELU(), stem[2])
        self.joint_person_embedding = nn.Parameter(nn.init.trunc_normal_(torch.empty(channels[0], J), std=0.02))
        rates = iter(torch.linspace(0, drop_path, sum(depths)).tolist())
        self.stages = nn.ModuleList()
        for stage, (depth, C) in enumerate(zip(depths, channels, strict=True)):
            blocks = []
            for i in range(depth):
                down = Downsample(channels[stage - 1], C, kernel_size) if stage and not i else None
                shape = C, J, sizes, num_heads, kernel_size, mlp_ratio
                blocks.append(Block(down, SkateFormerBlock(*shape, attn_drop, drop, next(rates))))
            self.stages.append(nn.ModuleDict({"blocks": nn.Sequential(*blocks)}))
        self.head_drop = nn.Dropout(head_drop)
        self.head = nn.Linear(channels[-1], num_class)

    @property
    def min_frames(self) -> int:
        """The shortest clip; longer ones are multiples of it."""
        return 1 if self.frame_multiple == 1 else self.frame_multiple * 2 ** (len(self.stages) - 1)

    def forward(self, data: Tensor, time: Tensor | None = None) -> Tensor:
        x = self.encode(data, time).permute(0, 2, 3, 1)
        return self.classify(x.mean((1, 2)))  # of the tokens: the gradient, too, has the channels last in memory

    def features(self, data: Tensor, time: Tensor | None = None) -> Tensor:
        """Output of the last block: (N, C, T, V, M), times (N, T) -> (N, 192, T / 8, joints of all groups, M)."""
        return self.encode(data, time).unflatten(3, (self.num_person, -1)).transpose(3, 4)

    def joint_shares(self, shares: Tensor, source: "Model") -> Tensor:
        """Shares of the columns of another network in the columns here, from those of joints: (V, V_s) -> (J, J_s)."""
        rows = shares[self.joints][:, source.joints]
        rows = rows + (rows.sum(1, keepdim=True) == 0)  # joints that the other network omits: mean over all its joints
        persons = torch.eye(source.num_person)[torch.arange(self.num_person).clamp(max=source.num_person - 1)]
        return torch.kron(persons, rows / rows.sum(1, keepdim=True))

    def encode(self, data: Tensor, time: Tensor | None) -> Tensor:
        """Output of the last block with the persons concatenated along J: (N, 192, T / 8, J)."""
        network.check_axes(data, self.expected, self.min_frames)
        if data.shape[2] % self.min_frames:
            raise ValueError(f"data: expected a multiple of {self.min_frames} frames, got {data.shape[2]}")
        x = data.index_select(3, self.joints).transpose(3, 4).flatten(3)  # (N, C, T, J), column m V + v
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        x = x + self.skate_embedding(even_times(data) if time is None else time)
        for stage in self.stages:
            x = stage["blocks"](x)
        return x

    def skate_embedding(self, time: Tensor) -> Tensor:
        """Sines and cosines of the times times a learned embedding of the joints: (N, T) -> (N, E, T, J)."""
        P = self.joint_person_embedding
        frequency = 10000 ** (-torch.arange(0, P.shape[0], 2, dtype=P.dtype, device=P.device) / P.shape[0])
        angle = time.to(P.dtype)[..., None] * frequency  # (N, T, E / 2)
        tau = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(2)
        return (tau[:, :, None] * P.t()).permute(0, 3, 1, 2)

    def classify(self, pooled: Tensor) -> Tensor:
        return self.head(self.head_drop(pooled))


def even_times(data: Tensor) -> Tensor:
    """Evenly spaced times from -1 to 1, for clips without times: (N, C, T, V, M) -> (N, T)."""
    N, T = data.shape[0], data.shape[2]
    return torch.linspace(-1, 1, T, dtype=data.dtype, device=data.device).expand(N, T)


def check_widths(
    depths: Sequence[int], channels: Sequence[int], num_heads: int, kernel_size: int, mlp_ratio: float
) -> None:
    """Raise ValueError for numbers that the parts of a block cannot be divided into."""
    if num_heads < 8 or num_heads % 8:
        raise ValueError(f"num_heads: expected a multiple of 8, got {num_heads}")
    if not channels or any(C < 1 or C % num_heads for C in channels):
        raise ValueError(f"channels: expected multiples of {num_heads} (num_heads), got {list(channels)}")
    if len(depths) != len(channels) or min(depths) < 1:
        raise ValueError(f"depths: expected {len(channels)} integers >= 1, one for each width, got {list(depths)}")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}")
    if not int(mlp_ratio * min(channels)) >= 1:
        raise ValueError(f"mlp_ratio: expected one hidden channel or more of {min(channels)}, got {mlp_ratio}")


def check_rates(**rates: float) -> None:
    """Raise ValueError for rates of dropout outside of 0 to below 1."""
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name}: expected a rate from 0 to below 1, got {rate}")


def check_groups(groups: Sequence[Sequence[int]], num_point: int) -> Sequence[Sequence[int]]:
    """The groups, if they are equal parts of the body; raises ValueError."""
    joints = [joint for group in groups for joint in group]
    if len({len(group) for group in groups}) != 1 or not joints or not set(joints) <= set(range(num_point)):
        raise ValueError(f"groups: expected lists of equal length of joints 0 to {num_point - 1}, got {groups}")
    if len(set(joints)) != len(joints):
        raise ValueError(f"groups: expected every joint at most once, got {groups}")
    return groups


def window_sizes(given: Sequence[Sequence[int] | None], groups: Sequence[Sequence[int]], num_person: int) -> list[Size]:
    """The size of the windows of each type, those not given from the groups of the body.

    Raises:
        ValueError: a size that the joints of all persons cannot be divided into.
    """
    near, distant = num_person * len(groups[0]), num_person * len(groups)
    J, sizes = near * len(groups), []
    for number, (size, joints) in enumerate(zip(given, (near, distant, near, distant), strict=True), start=1):
        size = (FRAMES, joints) if size is None else tuple(size)
        if len(size) != 2 or min(size) < 1 or J % size[1]:
            raise ValueError(
                f"type_{number}_size: expected frames and joints of a window, the joints a divisor of {J} "
                f"({num_person} persons x {len(groups)} groups x {len(groups[0])} joints), got {list(size)}"
            )
        sizes.append(size)
    return sizes
