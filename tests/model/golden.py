"""Reference records: the outputs of the published implementations for known weights and inputs.

Every weight and input follows from its published name and shape (`fill`), so a record takes only a few kilobytes. It
contains the logits in evaluation and in training, the loss, and the gradient norm of every parameter, all in float64.
`golden/cases.yaml` contains the arguments with which this project builds each network.
"""

import copy
import json
import pkgutil
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from model.published import open_checkpoint

FOLDER = Path(__file__).parent / "golden"
CASES = yaml.safe_load((FOLDER / "cases.yaml").read_text())


def fill(name: str, shape: tuple[int, ...], kind: str = "weight") -> np.ndarray:
    """Values that depend only on `name` and `shape`, float64."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    shape = tuple(int(size) for size in shape)
    leaf = name.rsplit(".", 1)[-1]
    if kind == "input":
        return rng.standard_normal(shape)
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) < 2:
        return 0.1 * rng.standard_normal(shape)
    return rng.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[1:]))))


def fill_model(model: nn.Module, data: Tensor | None = None) -> nn.Module:
    """The model in float64 and evaluation mode, with every floating-point tensor of its state dict filled by name.

    If `data` is given, the running statistics of the batch norms are those of the data, so that no layer saturates.
    """
    state = model.double().state_dict()
    filled = {
        key: torch.from_numpy(fill(key, value.shape)) for key, value in state.items() if value.is_floating_point()
    }
    model.load_state_dict(state | filled)
    if data is not None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            model.train()(data)
    return model.eval()


def deviation(found: np.ndarray, record: np.ndarray) -> float:
    """Largest difference relative to the largest recorded value."""
    return float(np.abs(np.asarray(found, dtype=float) - record).max() / max(np.abs(record).max(), 1e-30))


class Case:
    def __init__(self, name: str):
        self.spec = CASES[name]
        with np.load(FOLDER / f"{name}.npz") as record:
            self.record = {key: record[key] for key in record.files}
        self.meta = json.loads(str(self.record["meta"]))

    def build(self) -> nn.Module:
        """The network of this project with the recorded weights under their published names, float64."""
        model = pkgutil.resolve_name(self.spec["model"])(**self.spec["model_args"]).double()
        state = self.state_dict(model.state_dict())
        if self.spec.get("published"):
            state = open_checkpoint(state, self.spec["model_args"]).state
        model.load_state_dict(state, strict=True)
        return model

    def state_dict(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published key -> tensor; tensors that are not filled are those of the record, else those of `own`."""
        state = {}
        for key, shape, dtype, filled in self.meta["state_dict"]:
            if filled:
                state[key] = torch.from_numpy(fill(key, shape))
            elif "keep/" + key in self.record:
                state[key] = torch.from_numpy(self.record["keep/" + key])
            else:
                state[key] = own[key].clone() if key in own else torch.zeros(shape, dtype=getattr(torch, dtype))
        return state

    def input(self) -> Tensor:
        """(N, C, T, V, M) float64: the last person of the last clip and the last quarter of the first clip are zero."""
        shape = self.meta["input_shape"]
        x = fill("input:" + self.meta["name"], shape, "input")
        if self.meta["input_layout"] == "NMTVC":
            x = x.transpose(0, 4, 2, 3, 1)
        T, M = x.shape[2], x.shape[4]
        if M > 1:
            x[-1, ..., -1] = 0
        x[0, :, T - T // 4 :] = 0
        return torch.from_numpy(np.ascontiguousarray(x))

    def deviations(self, model: nn.Module) -> dict[str, float]:
        """The deviations of the logits in evaluation and training, the loss, and the norms of the gradients."""
        model = copy.deepcopy(model)
        x, labels = self.input(), torch.tensor(self.meta["labels"])
        with torch.no_grad():
            found = {"eval": deviation(model.eval()(x).numpy(), self.record["logits_eval"])}
        logits = model.train()(x)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        norms = {name: 0.0 if p.grad is None else float(p.grad.norm()) for name, p in model.named_parameters()}
        found["train"] = deviation(logits.detach().numpy(), self.record["logits_train"])
        found["loss"] = deviation(loss.detach().numpy(), self.record["loss_train"])
        record = np.maximum(self.record["grad_norm"], 0)  # -1 means no gradient
        names = self.meta["grad_norm_names"]
        if set(names) <= set(norms):
            found["grad"] = deviation([norms[name] for name in names], record)
        else:  # converted weights have other names, but the same norm of all gradients
            found["grad"] = deviation([np.linalg.norm(list(norms.values()))], np.linalg.norm(record)[None])
        return found
