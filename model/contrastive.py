"""The networks of ProtoGCN and ACLNet for training with the objectives of `torchlight.contrastive`.

ProtoGCN: Liu et al., "Revealing Key Details to See Differences: A Novel Prototypical Perspective for Skeleton-based
Action Recognition", CVPR 2025. ACLNet: repository firework8/ACLNet.

In evaluation both are DG-STGCN at width 96. In training they also embed the topologies of the last block: the forward
pass returns (logits (N, num_class), {loss: embeddings (N, 256)}). Parameters have the published names.

Axes: N batch, M persons, C channels, T frames, V joints, D channels of an embedding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model import dgstgcn, network
from model.fuse_norms import fuse_norms

WIDTHS = (96,) * 4 + (192,) * 3 + (384,) * 3
D = 256


class Head(nn.Module):
    """The embedding (N, V * V) -> (N, D) of one loss, and the state of the loss as buffers."""

    def __init__(self, num_point: int, **state: Tensor):
        super().__init__()
        self.cl_fc = nn.Linear(num_point**2, D)
        for name, value in state.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.cl_fc(x)


class ContrastiveNetwork(dgstgcn.Model):
    """DG-STGCN that embeds the topologies of its last block in training. losses: their names."""

    losses: tuple[str, ...] = ()

    def forward(self, data: Tensor) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        if not self.training:
            return super().forward(data)
        features, topology = self.features_and_topology(data)
        x = self.describe(topology)
        return self.classify(network.pool(features)), {name: head(x) for name, head in self.contrast_heads.items()}

    def features_and_topology(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the last block (N, C, T', V, M), and the mean over persons of the part of its topology that depends
        on the clip, (N, C, V, V)."""
        *blocks, last = self.backbone["gcn"]
        x = self.backbone["data_bn"](data)
        for block in blocks:
            x = block(x)
        Q = last.gcn.refinement(x).flatten(1, 2).unflatten(0, (-1, self.num_person)).mean(1)
        return network.split_persons(last(x), self.num_person), Q

    def describe(self, topology: Tensor) -> Tensor:
        """(N, C, V, V) -> (N, V * V)."""
        return topology.mean(1).flatten(1)

    @property
    def contrast_heads(self) -> dict[str, nn.Module]:
        """The head of each loss by name."""
        return {name: self.cls_head[f"{name}_loss"] for name in self.losses}


class ProtoGCN(ContrastiveNetwork):
    """ProtoGCN: topologies are reconstructed from prototypes before they are embedded (loss `csc`).

    prototypes: number of prototypes P, 400 for joints and 100 for bones in the publication. prototype_drop_out: dropout
    of the reconstruction.

    >>> model = ProtoGCN(60, 25, 2, "graph.ntu_rgb_d.Graph", channels=[16, 16])
    >>> logits, embeddings = model(torch.zeros(2, 3, 16, 25, 2))
    >>> logits.shape, embeddings["csc"].shape
    (torch.Size([2, 60]), torch.Size([2, 256]))
    """

    for_inference = fuse_norms
    losses = ("csc",)

    def __init__(
        self,
        num_class: int,
        num_point: int,
        num_person: int,
        graph: str,
        graph_args: dict[str, Any] | None = None,
        in_channels: int = 3,
        drop_out: float = 0,
        channels: Sequence[int] = WIDTHS,
        prototypes: int = 400,
        prototype_drop_out: float = 0.1,
    ):
        super().__init__(num_class, num_point, num_person, graph, graph_args, in_channels, drop_out, channels=channels)
        if prototypes < 1:
            raise ValueError(f"prototypes: expected 1 or more, got {prototypes}")
        C = self.backbone["gcn"][-1].gcn.conv1.out_channels
        query, memory = nn.Linear(C, prototypes, bias=False), nn.Linear(prototypes, C, bias=False)
        self.backbone["prn"] = nn.ModuleDict({"query_matrix": query, "memory_matrix": memory})
        self.backbone["post"], self.backbone["bn"] = nn.Conv2d(C, C, 1), nn.BatchNorm2d(C)
        self.prototype_drop_out = nn.Dropout(prototype_drop_out)
        self.cls_head["csc_loss"] = Head(num_point, memory=torch.randn(D, num_class))

    def describe(self, topology: Tensor) -> Tensor:
        """Every entry of the V x V matrices, a vector r of C channels, becomes W_m softmax(W_q r); then a convolution
        and the mean over the channels: (N, C, V, V) -> (N, V * V)."""
        prn = self.backbone["prn"]
        z = prn["memory_matrix"](prn["query_matrix"](topology.permute(0, 2, 3, 1)).softmax(-1))
        z = self.prototype_drop_out(z).permute(0, 3, 1, 2)
        return self.backbone["bn"](self.backbone["post"](z)).relu().mean(1).flatten(1)


class ACLNet(ContrastiveNetwork):
    """ACLNet: the losses `inter` between similar classes and `intra` within classes.

    bank: number of stored clips that `intra` compares with, a multiple of the batch size; in the publication 512 for 60
    classes and 1024 for 120.

    >>> model = ACLNet(60, 25, 2, "graph.ntu_rgb_d.Graph", channels=[16, 16])
    >>> sorted(model(torch.zeros(2, 3, 16, 25, 2))[1])
    ['inter', 'intra']
    """

    for_inference = fuse_norms
    losses = ("inter", "intra")

    def __init__(
        self,
        num_class: int,
        num_point: int,
        num_person: int,
        graph: str,
        graph_args: dict[str, Any] | None = None,
        in_channels: int = 3,
        drop_out: float = 0,
        channels: Sequence[int] = WIDTHS,
        bank: int = 512,
    ):
        super().__init__(num_class, num_point, num_person, graph, graph_args, in_channels, drop_out, channels=channels)
        if bank < 1:
            raise ValueError(f"bank: expected 1 or more, got {bank}")
        self.cls_head["inter_loss"] = Head(
            num_point,
            memory=torch.randn(D, num_class),
            confusions=torch.zeros(num_class, num_class, dtype=torch.long),
            similar=torch.zeros(num_class, num_class, dtype=torch.bool),
            listed=torch.zeros((), dtype=torch.long),
        )
        self.cls_head["intra_loss"] = Head(
            num_point,
            bank=torch.zeros(bank, D),
            bank_label=torch.full((bank,), -1),
            filled=torch.zeros((), dtype=torch.long),
        )
