"""Every network in `model/` at the size of its recipe in `config/`."""

import inspect
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from model import catalog
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config
from torchlight.system.paths import ROOT
from torchlight.system.text import nearest
from torchlight.training.build import stated_shape

CONFIG = ROOT / "config"
FOLDERS = {
    "ntu/xsub": "NTU RGB+D 60",
    "ntu120/xsub": "NTU RGB+D 120",
    "kinetics": "Kinetics-Skeleton",
    "NW-UCLA": "NW-UCLA",
}
NTU = {"num_class": 60, "num_point": 25, "num_person": 2, "graph": "graph.ntu_rgb_d.Graph"}


def header(model: str) -> tuple[str, str, str, str]:
    """The header of model/<model>.py: name, title, authors and venue, differences from the published code."""
    title, authors, differences = inspect.getdoc(catalog.load(model)).split("\n\n")[:3]
    name, title = " ".join(title.split()).split(": ", 1)
    return name, title.rstrip("."), authors, differences


def networks() -> list[str]:
    """Names of the files in `model/`, the oldest paper first; arXiv numbers sort by date."""
    return sorted(catalog.networks(), key=lambda name: (re.search(r"arXiv ([\d.]+)", header(name)[2])[1], name))


def recipe(model: str) -> Config | None:
    """The first recipe in `config/` with the name of a network."""
    files = (CONFIG / folder / f"{model}.yaml" for folder in FOLDERS)
    return next((load_config(file) for file in files if file.is_file()), None)


def clip_shape(config: Config) -> tuple[tuple[int, int, int, int], int]:
    """(C, T, V, M) of a test clip of a recipe's feeder, and how many samples of a clip are averaged."""
    shape, arguments = stated_shape(config, import_object(config.feeder)), config.test_feeder_args
    return shape, arguments.get("num_clips", 1) * (2 if arguments.get("mirror") else 1)


@dataclass(frozen=True)
class Setting:
    """A network, its arguments that differ from `NTU`, and its batch. plane: height and width of heatmaps."""

    model: str
    batch: int
    frames: int
    args: dict = field(default_factory=dict)
    plane: tuple[int, int] | None = None

    def build(self, device: torch.device) -> nn.Module:
        """The network with random weights; all other arguments are those of `EXAMPLE` in its file."""
        torch.manual_seed(0)
        return catalog.build(self.model, **(NTU | self.args)).to(device)

    def clips(self, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Random data (N, C, T, V, M), or heatmaps (N, K, T, H, W), and labels (N,)."""
        args = NTU | self.args
        shape = args.get("in_channels", 3), self.frames, *(self.plane or (args["num_point"], args["num_person"]))
        return torch.randn(batch, *shape, device=device), torch.randint(args["num_class"], (batch,), device=device)


def setting(model: str, config: Config | None) -> Setting:
    """The size of a recipe with about 500 frames in a batch, or one clip of heatmaps.

    Without a recipe: 64 frames of NTU RGB+D.
    """
    if config is None:
        return Setting(model, 8, 64)
    (_, T, *plane), _ = clip_shape(config)
    if "size" in config.test_feeder_args:  # the heatmaps of one clip are as large as a batch of joints
        return Setting(model, 1, T, config.model_args, tuple(plane))
    return Setting(model, max(1, 2 ** round(math.log2(512 / T))), T, config.model_args)


SETTINGS = {header(name)[0]: setting(name, recipe(name)) for name in networks()}
SETTINGS["CTR-GCN, NW-UCLA"] = setting("ctrgcn", load_config(CONFIG / "NW-UCLA/ctrgcn.yaml"))


def select_kernels(model: nn.Module, kernels: str) -> bool:
    """Set the option `kernels` of all modules that have it. Returns whether there are any."""
    found = [module for module in model.modules() if hasattr(module, "kernels")]
    for module in found:
        module.kernels = kernels
    return bool(found)


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError for `--only` with a name that is not in `SETTINGS`."""
    if unknown := [name for name in names if name not in SETTINGS]:
        raise ValueError(f"--only: unknown network {unknown[0]}; {nearest(unknown[0], SETTINGS)}")
