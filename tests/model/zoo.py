"""Every network in model/, built for any body in few words."""

import functools

import torch
from torch import Tensor, nn

from model import catalog
from model.network import DataNorm

NETWORKS = [name for name in catalog.networks() if not hasattr(catalog.load(name).Model, "takes_heatmaps")]
BODIES = {"coco": 17, "kinetics": 18, "ucla": 20, "hand": 21, "ntu_rgb_d": 25}


def build(name: str, body: str = "ntu_rgb_d", num_person: int = 2, num_class: int = 5, **changed) -> nn.Module:
    """The network with the arguments of its `EXAMPLE`, except for those in `changed`."""
    args = {"num_class": num_class, "num_point": BODIES[body], "num_person": num_person, "graph": f"graph.{body}.Graph"}
    return catalog.build(name, **(args | changed))


def data_norm(model: nn.Module) -> DataNorm | None:
    """The norm of the input, if there is one."""
    return next((module for module in model.modules() if isinstance(module, DataNorm)), None)


@functools.cache
def min_frames(name: str) -> int:
    """Length of the shortest clip that the network accepts."""
    return next(module.min_frames for module in build(name).modules() if hasattr(module, "min_frames"))


def clip(name: str, N: int = 2, C: int = 3, V: int = 25, M: int = 2, frames: int = 8) -> Tensor:
    """Random data (N, C, T, V, M) that is long enough for the network."""
    return torch.randn(N, C, max(frames, min_frames(name)), V, M)
