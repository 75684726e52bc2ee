"""CTR-GCN: Channel-wise Topology Refinement Graph Convolution for Skeleton-Based Action Recognition.

Yuxin Chen, Ziqi Zhang, Chunfeng Yuan, Bing Li, Ying Deng, Weiming Hu. ICCV 2021, arXiv 2107.12213.

Equivalent to the published code. `channels` sets the number and widths of the blocks (DKE-GCN's students have the first
nine or seven blocks), and `kernel_size` sets the size of the temporal convolutions. `relu_after_tcn` selects PYSKL's
variant. Frames are averaged before the 1x1 convolutions of the topology, which gives the same result with far fewer
multiply-adds. In the adjacency, rows are targets and columns are sources: with the inward subset, a joint receives the
sum of its children.

Shapes, 64 frames of NTU RGB+D:
(N, 3, 64, 25, 2) -> (2N, 64, 64, 25) -> (2N, 128, 32, 25) -> (2N, 256, 16, 25) -> (N, 60)
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import blocks, gpu, network, ops
from model.fuse_norms import fuse_norms

WIDTHS = (64,) * 4 + (128,) * 3 + (256,) * 3


class Subset(nn.Module):
    """The 1x1 convolutions of one subset; in the paper conv1 is psi, conv2 is phi, conv3 is T, conv4 is xi."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        width = max(8, in_channels // 8)
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.conv2 = nn.Conv2d(in_channels, width, 1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv4 = nn.Conv2d(width, out_channels, 1)


class GraphConv(nn.Module):
    """CTR-GC, channel-wise topology refinement graph convolution: (N, C_in, T, V) -> (N, C_out, T, V).

    ReLU(BN(Z) + down(x)), where for joints i, j and summed over the subsets
        Q_ij = xi(tanh(psi(x_i) - phi(x_j)))    channel-wise correlations, x_i averaged over the frames
        R    = A + alpha Q                      channel-wise refinement of the topology A, which all channels share
        Z_c  = R_c T(x)_c                       channel-wise aggregation
    """

    topologies = ("PA",)

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

    def forward(self, x: Tensor) -> Tensor:
        x_t, mean = ops.matrices_and_mean(x)
        T = ops.conv_subsets(x_t, [s.conv3 for s in self.convs])  # (N, C_out, K, V, T)
        M, xi = self.correlations(mean), [s.conv4 for s in self.convs]
        Z = ops.refined_products(self.PA, self.alpha, xi, M, T)  # sum_k R_k T_k, (N, C_out, V, T)
        return F.relu(self.down(x) + ops.transposed(self.bn(Z)), inplace=True)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """psi(x) and phi(x) of every subset: (N, C_in, V) -> two tensors (N, K, R, 1, V)."""
        return ops.embed(x.unsqueeze(2), [s.conv1 for s in self.convs], [s.conv2 for s in self.convs])

    def correlations(self, x: Tensor) -> Tensor:
        """M_ij = tanh(psi(x_i) - phi(x_j)) of every subset, Q = xi(M): (N, C_in, V) -> (N, K, R, V, V), j before i."""
        psi, phi = self.embed(x)
        return torch.tanh(psi - phi.transpose(3, 4))


class RectifiedTemporalConv(blocks.MultiScaleTemporalConv):
    """MS-TCN with a ReLU after the concatenated branches: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Block(blocks.Block):
    """A block that can be trained with Triton kernels: (N, C_in, T, V) -> (N, C_out, ceil(T / stride), V)."""

    def __init__(self, *args: Any, kernels: str, **options: Any):
        super().__init__(*args, **options)
        self.kernels = kernels

    def forward(self, x: Tensor) -> Tensor:
        if gpu.use_triton(self.kernels, self, x):
            return gpu.load_block().forward(self, x)
        return super().forward(x)


class Model(network.BlockNetwork):
    """CTR-GCN. (N, C, T, V, M) or, for one person, (N, T, V * C) -> (N, num_class).

    channels: widths of the blocks, ten from 64 to 256 if None; the stride is 2 where the width grows.
    kernel_size: frames of the temporal convolutions, of which some are dilated by 2.
    relu_after_tcn: a ReLU between temporal convolution and residual, as in PYSKL's weights. The first block has no
    residual and needs no additional ReLU.
    kernels: `triton` for kernels with less memory traffic in training on a GPU (package triton); `torch` for PyTorch's
    operations. `auto` is the same as `torch`, because the speed of the Triton kernels is not known.

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
        channels: Sequence[int] | None = None,
        relu_after_tcn: bool = False,
        kernels: str = "auto",
        kernel_size: int = 5,
    ):
        if kernels not in gpu.KERNELS:
            raise ValueError(f"kernels: expected {', '.join(gpu.KERNELS[:-1])} or {gpu.KERNELS[-1]}, got {kernels}")
        A = network.load_graph(graph, graph_args, num_point)
        layers = []
        for C_in, C_out, stride in blocks.block_table(WIDTHS if channels is None else channels, in_channels):
            gcn = GraphConv(C_in, C_out, A, adaptive)
            temporal = RectifiedTemporalConv if relu_after_tcn and layers else blocks.MultiScaleTemporalConv
            tcn = temporal(C_out, C_out, kernel_size, stride, dilations=(1, 2))
            layers.append(Block(gcn, tcn, C_in, C_out, stride, first=not layers, kernels=kernels))
            blocks.init_norms(tcn, std=0.02)
        super().__init__(layers, C_out, num_class, num_point, num_person, in_channels, drop_out)
        self.num_point = num_point

    def features(self, data: Tensor) -> Tensor:
        """Output of the last block: (N, C, T, V, M) -> (N, 256, ceil(T / 4), V, M)."""
        return super().features(network.unroll_joints(data, self.num_point) if data.dim() == 3 else data)
