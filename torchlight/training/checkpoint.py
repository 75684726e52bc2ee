"""Checkpoints and weights: saving whole, loading strictly and safely."""

import argparse
import io
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from torchlight.config.options import Config, Records
from torchlight.system.files import atomic
from torchlight.system.text import nearest

log = logging.getLogger("torchlight")


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of plain values and tensors, whole or not at all; raises OSError."""
    buffer = io.BytesIO()  # torch.save to a full disk raises its own riddles instead of OSError
    torch.save(content, buffer)
    with atomic(path) as file:
        file.write(buffer.getbuffer())


def forget(last: Path, keep: int) -> None:
    """Remove all but the `keep` latest epoch_<n>.pt."""
    for old in numbered(last)[keep:]:
        old.unlink()


def numbered(last: Path) -> list[Path]:
    """The epoch_<n>.pt beside last.pt, the latest first."""
    files = [path for path in last.parent.glob("epoch_*.pt") if path.stem[6:].isdigit()]
    return sorted(files, key=lambda path: -int(path.stem[6:]))


def resume_candidates(last: Path) -> list[Path]:
    """Where a run could go on from, the best choice first."""
    return [path for path in (last, *numbered(last)) if path.exists()]


FREE_TO_CHANGE = (
    "work_dir",
    "device",
    "num_worker",
    "data_on_device",
    "test_batch_size",
    *(f.name for f in fields(Records)),
)


def check_same_experiment(content: dict[str, Any], config: Config, path: Path) -> None:
    """Compare the configuration of a checkpoint with the one that is to go on.

    Raises:
        ValueError: it is no training checkpoint, or something that the result depends on differs; num_epoch may, with a warning.
    """
    if "optimizer" not in content or "config" not in content:
        raise ValueError(f"resume: {path} holds weights only; start a new run from it with --weights {path}")
    defaults = yaml.safe_load(Config().to_yaml())  # for options that are younger than the checkpoint
    old, new = defaults | yaml.safe_load(content["config"]), yaml.safe_load(config.to_yaml())
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key) and key not in FREE_TO_CHANGE]
    if changed == ["num_epoch"]:
        log.warning("resume: num_epoch was %s and is %s now", old["num_epoch"], new["num_epoch"])
    elif changed:
        lines = ", ".join(f"{key} was {old.get(key)} and is {new.get(key)}" for key in changed)
        raise ValueError(
            f"resume: {path} belongs to another experiment ({lines}); give the options it was started with"
        )


PLAIN = [  # what training programs of the field put beside their weights: their arguments, and figures as NumPy numbers
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int64")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def load(path: str | Path) -> Any:
    """The content of a checkpoint, on the CPU, tensors and plain values only.

    Raises:
        ValueError: the file is missing, damaged, or holds anything that would have to run code.
    """
    try:
        content = io.BytesIO(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give the path of a weights file") from error
    try:
        with torch.serialization.safe_globals(PLAIN):
            return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a damaged file provokes
        lines = str(error).splitlines()
        first = next((line for line in lines if "GLOBAL" in line), lines[0] if lines else "")
        reason = (
            f"{type(error).__name__}: {first.partition('. ')[0].strip()}"  # without torch's advice to load it unsafely
        )
        raise ValueError(f"{path}: not a whole file of plain tensors ({reason}); nothing in it was run") from error


def state_dict_of(content: Any, path: str | Path, key: str | None = None) -> dict[str, torch.Tensor]:
    """The state dict inside any of the field's wrappings.

    Flat, {'state_dict': ...}, {'model': ..., 'model_ema': ...}, and a leading `module.` on every name.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{path}: found {type(content).__name__}; a state dict is needed")
    nested = [
        k
        for k, v in content.items()
        if isinstance(v, dict) and v and all(isinstance(t, torch.Tensor) for t in v.values())
    ]
    if key is not None and key not in nested:
        raise ValueError(
            f"{path}: weights_key: found {key!r}; the file has {', '.join(nested) or 'a flat state dict and needs no key'}"
        )
    key = key or next((k for k in ("model", "state_dict") if k in nested), None)
    state = content[key] if key else {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not state:
        hint = f"name one of {', '.join(nested)} as --weights-key" if nested else "a state dict is needed"
        raise ValueError(
            f"{path}: found no weights under model or state_dict (keys: {', '.join(map(str, list(content)[:8]))}); {hint}"
        )
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): value for name, value in state.items()}
    return dict(state)


def load_weights(
    model: nn.Module, path: str | Path, key: str | None = None, ignore: tuple[str, ...] | list[str] = ()
) -> None:
    """Load weights strictly; `ignore` leaves out the entries whose names begin so, and says which.

    Batch counters that very old files lack keep their value.

    Raises:
        ValueError: entries are missing, unknown or of another shape; the message names them.
    """
    state = state_dict_of(load(path), path, key)
    own = model.state_dict()
    ignored = [name for name in own if name.startswith(tuple(ignore))] if ignore else []
    without = [begin for begin in ignore if not any(name.startswith(begin) for name in (*own, *state))]
    if without:
        raise ValueError(
            f"ignore_weights: found {', '.join(without)}; no weight's name begins so; {nearest(without[0], tops(own))}"
        )
    if ignored:
        log.warning("%s: not loaded, as asked: %s", path, ", ".join(ignored))
    for name in ignored:
        state[name] = own[name]
    for name in own:
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, own[name])
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own and not name.startswith(tuple(ignore) or ("\0",))]
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    if missing or unknown or shapes:
        raise ValueError(
            f"{path}: these are the weights of another network: " + explain(own, state, missing, unknown, shapes)
        )
    model.load_state_dict({name: state[name] for name in own})


def tops(own: dict) -> list[str]:
    """The first words of all names."""
    return list(dict.fromkeys(name.split(".")[0] for name in own))


def explain(own: dict, state: dict, missing: list[str], unknown: list[str], shapes: list[str]) -> str:
    """One line on how two state dicts differ, with the way out where the classifier alone does."""
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for names, what in ((missing, "entries missing"), (unknown, "unknown"))
        if names
    ]
    if shapes:
        first = shapes[0]
        parts.append(
            f"{len(shapes)} of another shape (first: {first}: found {tuple(state[first].shape)}, the network has {tuple(own[first].shape)})"
        )
    classifier = list(own)[-1].rpartition(".")[0]
    if shapes and not missing and not unknown and all(name.startswith(classifier) for name in shapes):
        parts.append(f"only the classifier differs: for another class count give --ignore-weights {classifier}")
    return "; ".join(parts)
