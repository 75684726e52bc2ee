"""Configuration files of mmaction2 1.x, read as data and translated: graph networks and PoseConv3D.

They have the networks, transforms and recipes of PYSKL under other keys, and inherit from each other. Tests sample
other frames than those of PYSKL. 2-D poses of graph networks are normalized in the precision of the data, and heatmaps
keep the aspect ratio of the box.
"""

from pathlib import Path
from typing import Any

from torchlight.config.pyskl import GraphTranslation
from torchlight.config.pyskl_base import Translation
from torchlight.config.pyskl_posec3d import HeatmapTranslation
from torchlight.config.python_literals import read_python
from torchlight.system.text import quote

SCHEDULES = {  # their keys in PYSKL's `lr_config`
    "CosineAnnealingLR": {"type": "CosineAnnealing", "eta_min": "min_lr"},
    "MultiStepLR": {"type": "step", "milestones": "step", "gamma": "gamma"},
}
OWN_KEYS = {f"{part}_{key}" for part in ("train", "val", "test") for key in ("dataloader", "evaluator", "cfg")}
OWN_KEYS |= {"optim_wrapper", "param_scheduler", "default_hooks", "auto_scale_lr", "launcher"}
OWN_KEYS |= {"default_scope", "env_cfg", "log_processor", "vis_backends", "visualizer", "resume"}
RESNET = {"depth": 50, "pretrained": None, "dilations": [1, 1, 1]}  # arguments of PoseConv3D with one possible value
RUNTIME = "default_runtime.py"  # a base without effect here; people copy a configuration without it


def read_merged(path: Path, known: dict[Path, dict[str, Any] | None] | None = None) -> dict[str, Any]:
    """The names and values of a Python configuration file over those of its `_base_` files.

    As in mmengine, mappings are merged key by key, or replaced if they have `_delete_=True`; other values are replaced.

    Raises:
        ValueError: a file cannot be read, has anything but assignments of literals, or inherits from itself.
    """
    known = {} if known is None else known  # each file is read once; None: its bases are being read
    place = path.resolve()
    if place not in known:
        known[place] = None
        content = read_python(path)
        bases = content.pop("_base_", [])
        bases = [bases] if isinstance(bases, str) else bases
        if not isinstance(bases, list | tuple) or not all(isinstance(base, str) for base in bases):
            raise ValueError(f"{path}: _base_: expected names of files, got {quote(bases)}")
        found: dict[str, Any] = {}
        for file in [path.parent / base for base in bases]:
            if file.is_file() or file.name != RUNTIME:
                found = merge(found, read_merged(file, known))
        known[place] = merge(found, content)
    merged = known[place]
    if merged is None:
        raise ValueError(f"{path}: _base_: expected other files, got one that inherits from itself")
    return merged


def merge(base: Any, over: Any) -> Any:
    """`over` over `base`."""
    if not isinstance(over, dict):
        return over
    over = dict(over)
    if over.pop("_delete_", False) or not isinstance(base, dict):
        base = {}
    return base | {key: merge(base.get(key), value) for key, value in over.items()}


def is_mmaction2(content: dict[str, Any]) -> bool:
    """Whether a configuration has the keys of mmaction2 1.x."""
    return "train_dataloader" in content or "test_dataloader" in content


class MmactionTranslation(Translation):
    """A configuration of mmaction2 1.x: `options` is that of PYSKL for the content with PYSKL's keys."""

    clip_place = "optim_wrapper.clip_grad"

    def options(self) -> dict[str, Any]:
        """All options."""
        self.content = self.as_pyskl()
        return super().options()

    def as_pyskl(self) -> dict[str, Any]:
        """The content with PYSKL's keys."""
        content, loop = self.content, self.content["train_cfg"]
        data = {part: without_modes(content[f"{part}_dataloader"]["dataset"]) for part in ("train", "test")}
        data["videos_per_gpu"] = content["train_dataloader"]["batch_size"]
        optimizer = self.expect("optim_wrapper", content["optim_wrapper"], {"type": "OptimWrapper"})
        self.leftover("optim_wrapper", optimizer, ("optimizer", "clip_grad"))
        hooks = content.get("default_hooks", {})
        found = {"data": data, "optimizer": optimizer["optimizer"], "lr_config": self.schedule(loop["max_epochs"])}
        found |= {"optimizer_config": {"grad_clip": optimizer.get("clip_grad")}, "total_epochs": loop["max_epochs"]}
        found |= {"evaluation": {"interval": loop.get("val_interval", 1)}}
        found |= {"checkpoint_config": hooks.get("checkpoint", {}), "log_config": hooks.get("logger", {})}
        if content.get("load_from"):
            found["load_from"] = content["load_from"]
        return {key: value for key, value in content.items() if key not in OWN_KEYS | {"load_from"}} | found

    def schedule(self, epochs: int) -> dict[str, Any]:
        """PYSKL's `lr_config` of the schedule."""
        found = self.content["param_scheduler"]
        found = found if isinstance(found, list) else [found]
        if len(found) != 1 or found[0].get("type") not in SCHEDULES:
            self.problem("param_scheduler: one schedule", SCHEDULES, found)
            return {"policy": "step", "step": []}
        rest = self.expect("param_scheduler", found[0], {"by_epoch": True, "T_max": epochs, "begin": 0, "end": epochs})
        kind, per_step = rest.pop("type"), rest.pop("convert_to_iter_based", False)
        names = SCHEDULES[kind]
        self.leftover("param_scheduler", {key: value for key, value in rest.items() if key not in names})
        return {names[key]: value for key, value in rest.items() if key in names} | {
            "policy": names["type"],
            "by_epoch": not per_step,
        }


class MmactionGraphs(MmactionTranslation, GraphTranslation):
    """A configuration of a network of graphs."""

    samplers = {"UniformSampleFrames": "uniform_mmaction2"}
    flat = "2d_mmaction2"


class MmactionHeatmaps(MmactionTranslation, HeatmapTranslation):
    """A configuration of PoseConv3D."""

    def network(self, model: dict[str, Any]) -> dict[str, Any]:
        head, backbone = dict(model["cls_head"]), dict(model["backbone"])
        if "dropout_ratio" in head:
            head["dropout"] = head.pop("dropout_ratio")
        head = self.expect("model.cls_head", head, {"average_clips": "prob"})
        return super().network(model | {"cls_head": head, "backbone": self.expect("model.backbone", backbone, RESNET)})

    def pipeline(self, steps: list[dict[str, Any]], part: str) -> dict[str, Any]:
        """Feeder arguments of one list of transforms; in tests, a central crop keeps the aspect ratio of the box."""
        crop = next((step for step in steps if step["type"] == "CenterCrop"), None)
        if part == "train" or crop is None:
            keeps = {} if part == "train" else {"keep_ratio": False}
            return super().pipeline(steps, part) | {"pipeline": "mmaction2"} | keeps
        side, whole = crop["crop_size"], []
        for step in steps:
            if step["type"] == "Resize":
                rest = self.expect(f"{part} pipeline: Resize", step, {"scale": [-1, side], "keep_ratio": True})
                whole.append(rest | {"scale": [side, side], "keep_ratio": False})
            elif step["type"] != "CenterCrop":
                whole.append(step)
        return super().pipeline(whole, part) | {"pipeline": "mmaction2"}


def without_modes(found: Any) -> Any:
    """A dataset without `test_mode`, which follows from the part here, and without defaults."""
    if isinstance(found, list):
        return [without_modes(item) for item in found]
    if not isinstance(found, dict):
        return found
    ignored = {"test_mode", *(["align_shoulder"] if found.get("align_shoulder") is True else [])}
    return {key: without_modes(value) for key, value in found.items() if key not in ignored}
