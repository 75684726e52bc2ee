"""Every network at the size of its paper's recipe."""

import pkgutil
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

NTU = {"num_class": 60, "num_point": 25, "num_person": 2, "graph": "graph.ntu_rgb_d.Graph"}
UCLA = {"num_class": 10, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"}


@dataclass(frozen=True)
class Setting:
    """A network, its batch, and the clips per second of the published code (training step, inference) on another two-core machine."""

    model: str
    batch: int
    frames: int
    args: dict = field(default_factory=dict)
    body: dict = field(default_factory=NTU.copy)
    published: tuple[float | None, float | None] = (None, None)

    def build(self, device: torch.device) -> nn.Module:
        """The network with random weights."""
        torch.manual_seed(0)
        return pkgutil.resolve_name(f"model.{self.model}.Model")(**self.body, **self.args).to(device)

    def clips(self, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Random data (N, C, T, V, M) and labels (N,)."""
        data = torch.randn(batch, 3, self.frames, self.body["num_point"], self.body["num_person"], device=device)
        return data, torch.randint(self.body["num_class"], (batch,), device=device)


SETTINGS = {
    "CTR-GCN": Setting("ctrgcn", 8, 64, published=(6.1, 17.4)),
    "CTR-GCN, NW-UCLA": Setting("ctrgcn", 16, 52, body=UCLA, published=(20.8, None)),
    "2s-AGCN": Setting("agcn", 2, 300, published=(1.21, 4.10)),
    "ST-GCN": Setting("stgcn", 2, 300, {"graph_args": {"labeling_mode": "stgcn_spatial"}}, published=(1.13, 4.97)),
    "TSGCNeXt": Setting("tsgcnext", 4, 256, published=(3.86, 12.6)),
    "DG-STGCN": Setting("dgstgcn", 4, 100, published=(3.99, 17.8)),
    "MS-G3D": Setting(
        "msg3d", 1, 100, {"graph_args": {"labeling_mode": "binary"}, "num_gcn_scales": 13, "num_g3d_scales": 6}, published=(1.40, 5.14)
    ),
    "AAGCN": Setting("aagcn", 2, 300),
    "ST-GCN++": Setting("stgcnpp", 4, 100),
    "CTR-GCN's baseline": Setting("baseline", 8, 64),
}


def multiply_adds(model: nn.Module, data: torch.Tensor) -> float:
    """Multiply-adds of convolutions and matrix products in a forward pass, by PyTorch's counter."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(data)
    return counter.get_total_flops() / 2
