"""Builds every network in model/ for any body layout, complete or with a few narrow blocks."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model import catalog
from model.network import DataNorm

NETWORKS = [name for name in catalog.networks() if not hasattr(catalog.load(name).Model, "takes_heatmaps")]
BODIES = {"coco": 17, "kinetics": 18, "ucla": 20, "hand": 21, "ntu_rgb_d": 25}
NARROW = {  # constants of a file, changed to keep one block of each kind: the first, one with a stride, one without
    "blockgcn": {"WIDTH": 16, "LAYERS": [(16, 16, 1), (16, 32, 2), (32, 32, 1)]},
    "hypergcn": {
        "WIDTH": 32,
        "LAYERS": dict.fromkeys(("base", "large"), [(32, 64, 2), (64, 64, 1), (64, 64, 1)]),
        "STAGES": ((1, 2, 3),),
    },
    "mbstgcn": {"WIDTHS": (16, 32, 32), "REDUCTION": 2},
    "msg3d": {"WIDTHS": (12, 24, 48)},
}
FEW = {  # the same with arguments instead of constants
    "msg3d": {"num_gcn_scales": 4, "num_g3d_scales": 3},
    "skateformer": {"depths": [1, 1], "channels": [32, 64]},
    "tsgcnext": {"depths": [1, 1], "base_channels": 16},
}


def build(name: str, body: str = "ntu_rgb_d", num_person: int = 2, num_class: int = 5, **changed) -> nn.Module:
    """The network with the arguments of its `EXAMPLE` and those in `changed`, which take precedence."""
    args = {"num_class": num_class, "num_point": BODIES[body], "num_person": num_person, "graph": f"graph.{body}.Graph"}
    return catalog.build(name, **(args | changed))


def narrow(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Reduce a network to one narrow block of each kind for this test; returns the arguments that it then needs.

    For tests of properties that do not depend on the size. A network that is not listed is not changed.
    """
    module = catalog.load(name)
    constants = NARROW.get(name, {"WIDTHS": (16, 32, 32)} if hasattr(module, "WIDTHS") else {})
    for key, value in constants.items():
        monkeypatch.setattr(module, key, value)
    return dict(FEW.get(name, {}))


def data_norm(model: nn.Module) -> DataNorm | None:
    """The normalization of the input, if there is one."""
    return next((module for module in model.modules() if isinstance(module, DataNorm)), None)


def shortest(model: nn.Module) -> int:
    """The number of frames of the shortest clip that the network accepts."""
    return next(module.min_frames for module in model.modules() if hasattr(module, "min_frames"))


@functools.cache
def min_frames(name: str) -> int:
    """The number of frames of the shortest clip that the network accepts with its default arguments."""
    return shortest(build(name))


def clip(network: str | nn.Module, N: int = 2, C: int = 3, V: int = 25, M: int = 2, frames: int = 8) -> Tensor:
    """Random data (N, C, T, V, M) with enough frames for a network; a name stands for its default arguments."""
    least = min_frames(network) if isinstance(network, str) else shortest(network)
    return torch.randn(N, C, max(frames, least), V, M)
