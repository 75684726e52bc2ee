"""Every network in `model/` at the size of its recipe in `config/`."""

import inspect
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from data.ntu.recipe_agcn_stgcn import WINDOW
from model import catalog
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config

CONFIG = Path(__file__).resolve().parent.parent / "config"
FOLDERS = {
    "ntu/xsub": "NTU RGB+D 60",
    "ntu120/xsub": "NTU RGB+D 120",
    "kinetics": "Kinetics-Skeleton",
    "NW-UCLA": "NW-UCLA",
}
NTU = {"num_class": 60, "num_point": 25, "num_person": 2, "graph": "graph.ntu_rgb_d.Graph"}
UCLA = {"num_class": 10, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"}


@dataclass(frozen=True)
class Header:
    """What the header of a model file says: title, authors and venue, differences from the published code."""

    name: str
    title: str
    authors: str
    differences: str

    @property
    def arxiv(self) -> str:
        """The number of the paper, which sorts by date."""
        return re.search(r"arXiv (\d{4}\.\d{5})", self.authors)[1]


def header(model: str) -> Header:
    """The header of model/<model>.py."""
    title, authors, differences = inspect.getdoc(catalog.load(model)).split("\n\n")[:3]
    name, title = " ".join(title.split()).split(": ", 1)
    return Header(name, title.rstrip("."), authors, differences)


def networks() -> list[str]:
    """Names of the files in `model/`, the oldest paper first."""
    return sorted(catalog.networks(), key=lambda name: (header(name).arxiv, name))


def recipe(model: str) -> Config | None:
    """The first recipe in `config/` that has the name of a network."""
    files = (CONFIG / folder / f"{model}.yaml" for folder in FOLDERS)
    return next((load_config(file) for file in files if file.is_file()), None)


def clip_shape(config: Config) -> tuple[tuple[int, int, int, int], int]:
    """(C, T, V, M) of a test clip of a recipe's feeder, and how many samples of a clip are averaged."""
    arguments = {name: p.default for name, p in inspect.signature(import_object(config.feeder)).parameters.items()}
    arguments |= config.test_feeder_args
    T = arguments["window_size"] or WINDOW  # 0: all frames of the padded files
    args = config.model_args
    return (args.get("in_channels", 3), T, args["num_point"], args["num_person"]), arguments.get("num_clips", 1)


@dataclass(frozen=True)
class Setting:
    """A network and its batch."""

    model: str
    batch: int
    frames: int
    args: dict = field(default_factory=dict)
    body: dict = field(default_factory=NTU.copy)

    def build(self, device: torch.device) -> nn.Module:
        """The network with random weights; arguments that `args` leaves out are those of the file's `EXAMPLE`."""
        torch.manual_seed(0)
        return catalog.build(self.model, **(self.body | self.args)).to(device)

    def clips(self, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Random data (N, C, T, V, M) and labels (N,)."""
        shape = self.args.get("in_channels", 3), self.frames, self.body["num_point"], self.body["num_person"]
        data = torch.randn(batch, *shape, device=device)
        return data, torch.randint(self.body["num_class"], (batch,), device=device)


MEASURED = {
    "CTR-GCN": Setting("ctrgcn", 8, 64),
    "CTR-GCN, NW-UCLA": Setting("ctrgcn", 16, 52, body=UCLA),
    "2s-AGCN": Setting("agcn", 2, 300),
    "ST-GCN": Setting("stgcn", 2, 300),
    "TSGCNeXt": Setting("tsgcnext", 4, 256),
    "DG-STGCN": Setting("dgstgcn", 4, 100),
    "MS-G3D": Setting("msg3d", 1, 100),
    "AAGCN": Setting("aagcn", 2, 300),
    "ST-GCN++": Setting("stgcnpp", 4, 100),
    "CTR-GCN's baseline": Setting("baseline", 8, 64),
}


def default_setting(model: str) -> Setting:
    """The size of the network's recipe, with about 500 frames in a batch; without a recipe 64 frames of NTU RGB+D."""
    if (config := recipe(model)) is None:
        return Setting(model, 8, 64)
    (_, T, _, _), _ = clip_shape(config)
    body = {key: config.model_args[key] for key in NTU}
    args = {key: value for key, value in config.model_args.items() if key not in NTU}
    return Setting(model, max(1, 512 // T), T, args, body)


def settings() -> dict[str, Setting]:
    """The settings in MEASURED, and one for every network that is not among them."""
    listed = {setting.model for setting in MEASURED.values()}
    return MEASURED | {header(name).name: default_setting(name) for name in networks() if name not in listed}


SETTINGS = settings()
