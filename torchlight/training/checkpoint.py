"""Checkpoint files: written completely or not at all, read without running code, weights loaded strictly."""

import argparse
import copy
import io
import logging
import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from torchlight.runtime.transfer import together
from torchlight.system.files import atomic, open_regular
from torchlight.system.packages import optional
from torchlight.system.text import nearest, quote, shorten
from torchlight.system.yaml_files import parse_yaml
from torchlight.training import published
from torchlight.training.run_dir import BEST_EMA, LAST
from torchlight.zoo.catalog import entry_of

log = logging.getLogger("torchlight")


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of plain values and tensors, completely or not at all; raises OSError."""
    buffer = io.BytesIO()  # torch.save to a full disk raises RuntimeError without a reason
    torch.save(to_host(content), buffer)
    with atomic(path) as file:
        file.write(buffer.getbuffer())


def to_host(content: Any) -> Any:
    """Copy the tensors in nested dicts and lists to main memory; those on a GPU in one transfer per data type."""
    away: dict[int, torch.Tensor] = {}

    def find(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            if value.device.type != "cpu":
                away[id(value)] = value
        elif isinstance(value, dict | list | tuple):
            for part in value.values() if isinstance(value, dict) else value:
                find(part)

    def replace(value: Any) -> Any:
        if isinstance(value, dict):
            found = copy.copy(value)  # keeps the class and the attributes of a state dict
            found.update((key, replace(part)) for key, part in value.items())
            return found
        if isinstance(value, list | tuple):
            return type(value)(replace(part) for part in value)
        return here.get(id(value), value)

    find(content)
    if not away:
        return content
    here = dict(zip(away, together(list(away.values()), torch.Tensor.cpu), strict=True))
    return replace(content)


SAFETENSORS = ".safetensors"
INSTALL = f"files {SAFETENSORS} need it: pip install -r requirements/safetensors.txt"
MOST_NAME = 1000  # characters of the name of a class in a pickle
LEGACY_PICKLES = (
    5  # at the beginning of a file that is not an archive: magic number, protocol, system, content, storages
)
PLAIN = [  # types that other programs store in addition to weights: their arguments, and metrics as NumPy numbers
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int64")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
SLIM = (  # how to convert a file with objects of another program
    "write its weights alone where that program is installed: mmaction2's python tools/deployment/publish_model.py "
    "IN.pth OUT.pth, or torch.save(model.state_dict(), 'OUT.pth')"
)


def load(path: str | Path) -> Any:
    """The content of a checkpoint on the CPU: tensors and plain values only; for a `.safetensors` file, its tensors.

    Raises:
        ValueError: the file is missing, damaged, or cannot be read without running code.
        MemoryError: the file does not fit into memory.
    """
    if os.path.isfile(inside := os.path.join(path, LAST)):
        raise ValueError(f"{path}: expected a file, got a folder; give {inside}")
    with open_regular(path) as file:
        content = io.BytesIO(file.read())
        if Path(path).suffix == SAFETENSORS:
            return read_safetensors(path, content.getvalue())
        try:
            check_sizes(content)
            with torch.serialization.safe_globals(PLAIN):
                return torch.load(content, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises any exception for a damaged file
            lines = str(error).splitlines()
            first = next((line for line in lines if "GLOBAL" in line), lines[0] if lines else "")
            # without PyTorch's advice to load the file unsafely
            reason = f"{type(error).__name__}: {first.partition('. ')[0].strip()}"
            hint = f"; {SLIM}" if "GLOBAL" in first else ""
            hint += "; remove it to download it again" if entry_of(path) else ""
            raise ValueError(
                f"{path}: not a whole file of plain tensors ({reason}); nothing in it was run{hint}"
            ) from error


def read_safetensors(path: str | Path, content: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors` file; raises ValueError for a damaged one, or if the package is missing."""
    reader = optional("safetensors.torch", INSTALL)
    try:
        return reader.load(content)
    except Exception as error:  # SafetensorError, or an error of PyTorch for an unsupported type
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path}: not a whole safetensors file ({shorten(reason)})") from error


def check_sizes(content: io.BytesIO) -> None:
    """Raise ValueError for an archive whose members would be larger than the file (PyTorch stores them uncompressed),
    or whose pickle contains very long names."""
    if zipfile.is_zipfile(content):
        size = len(content.getbuffer())
        with zipfile.ZipFile(content) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > size:
                raise ValueError(f"expected at most {size} bytes of content, got {unpacked}")
            pickles = [archive.read(info) for info in archive.infolist() if info.filename.endswith("data.pkl")]
        for pickled in pickles:
            check_names(io.BytesIO(pickled))
    else:
        content.seek(0)
        for _ in range(LEGACY_PICKLES):
            check_names(content)
    content.seek(0)


def check_names(pickled: io.BytesIO) -> None:
    """Raise ValueError for a global with a very long name: the time that PyTorch needs to refuse it is quadratic in its
    length."""
    for opcode, name, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and len(name) > MOST_NAME:
            raise ValueError(f"expected names of at most {MOST_NAME} characters, got {len(name)}")


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, not quantized, and as large in memory as its shape."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_complex())
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def state_dict_of(content: Any, path: str | Path, key: str | None = None) -> dict[str, torch.Tensor]:
    """The state dict in the content of a file: flat, or under `model`, `state_dict`, `model_state_dict` or `key`.

    A `module.` at the beginning of every name (DistributedDataParallel) is removed.

    Raises:
        ValueError: there is no state dict, none under `key`, or it contains anything but named dense tensors.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a state dict, got {type(content).__name__}")
    nested = [k for k, v in content.items() if isinstance(k, str) and is_state_dict(v)]
    if key is not None and key not in nested:
        known = shorten(" or ".join(nested)) if nested else "none, the state dict is flat"
        hint = "; only a training with --ema-decay has a moving average" if key == "model_ema" else ""
        raise ValueError(f"{path}: weights_key: expected {known}, got {key!r}{hint}")
    key = key or next((k for k in ("model", "state_dict", "model_state_dict") if k in nested), None)
    state = content[key] if key else {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not state:
        hint = f"; name one of {shorten(', '.join(nested))} as --weights-key" if nested else ""
        keys = ", ".join(str(k) for k in list(content)[:8])
        raise ValueError(f"{path}: expected weights under model or state_dict, got {quote(keys)}{hint}")
    for name, value in state.items():
        if not isinstance(name, str):
            raise ValueError(f"{path}: expected names of weights, got the key {quote(name)}")
        if not is_plain(value):
            raise ValueError(f"{path}: {name}: expected a dense tensor, got {value.layout} on {value.device.type}")
    state = dict(state)
    while all(name.startswith("module.") for name in state):  # wrapped once or several times
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def is_state_dict(value: Any) -> bool:
    """Whether a value is a mapping of tensors."""
    return isinstance(value, dict) and bool(value) and all(isinstance(t, torch.Tensor) for t in value.values())


def load_weights(
    model: nn.Module,
    path: str | Path,
    key: str | None = None,
    ignore: tuple[str, ...] | list[str] = (),
    model_args: dict[str, Any] | None = None,
) -> None:
    """Load weights strictly, except those whose names begin with a word of `ignore`, which are logged.

    Files of other toolboxes are converted (`torchlight.training.published`). This needs `model_args`, the arguments of
    the network, for values that cannot be derived from shapes. The counters `num_batches_tracked`, which are missing in
    very old files, keep their value.

    Raises:
        ValueError: entries are missing, unknown or of another shape; the message names them.
    """
    content = load(path)
    if key is None and Path(path).name == BEST_EMA and isinstance(content, dict) and "model_ema" in content:
        hint = "for their moving average give --ema true (a teacher: weights_key: model_ema)"
        log.warning("%s: loaded the weights without averaging (model); %s", path, hint)
    state, fits = published.convert(model, state_dict_of(content, path, key), str(path), model_args)
    fits = fits or trained_network(content)
    own = model.state_dict()
    ignored = [name for name in own if name.startswith(tuple(ignore))] if ignore else []
    without = [begin for begin in ignore if not any(name.startswith(begin) for name in (*own, *state))]
    if without:
        raise ValueError(
            f"ignore_weights: expected the beginning of a name, got {', '.join(without)}; "
            f"{nearest(without[0], tops(own))}"
        )
    if ignored:
        log.warning("%s: not loaded because of ignore_weights: %s", path, ", ".join(ignored))
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
            f"{path}: expected the weights of this network, got others: "
            f"{'; '.join([explain(own, state, missing, unknown, shapes, model_args), *filter(None, [fits])])}"
        )
    model.load_state_dict({name: state[name] for name in own})


def trained_network(content: Any) -> str:
    """The network that a checkpoint of this program holds, in words; nothing for other files."""
    options = stored_options(content.get("config")) if isinstance(content, dict) else {}
    if not isinstance(options.get("model_args"), dict):
        return ""
    return f"the file contains {published.describe(options.get('model'), options['model_args'])}"


def stored_options(text: Any) -> dict[str, Any]:
    """The options in `config` of a checkpoint; none of one that is damaged or of another program."""
    try:
        options = parse_yaml(text, "config") if isinstance(text, str) else None
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}


def tops(own: dict) -> list[str]:
    """The first parts of all names."""
    return list(dict.fromkeys(name.split(".")[0] for name in own))


def explain(
    own: dict, state: dict, missing: list[str], unknown: list[str], shapes: list[str], model_args: dict | None
) -> str:
    """How two state dicts differ, in one line; with the option that helps if only the number of classes differs."""
    parts = [
        f"{len(names)} {what} (first: {names[0]})"
        for names, what in ((missing, "entries missing"), (unknown, "unknown"))
        if names
    ]
    if shapes:
        first, found, expected = shapes[0], tuple(state[shapes[0]].shape), tuple(own[shapes[0]].shape)
        parts.append(f"{len(shapes)} of another shape (first: {first}: expected {expected}, got {found})")
    number = (model_args or {}).get("num_class")
    pairs = [(a, b) for n in shapes for a, b in zip(own[n].shape, state[n].shape, strict=False) if a != b]
    same_axes = all(own[n].dim() == state[n].dim() for n in shapes)
    if shapes and not missing and not unknown and same_axes and {a for a, _ in pairs} == {number}:
        layers = [name.rpartition(".")[0] for name in shapes]
        whole = {layer for layer in layers if all(n in shapes for n in own if n.startswith(f"{layer}."))}
        words = dict.fromkeys(layer if layer in whole else n for n, layer in zip(shapes, layers, strict=True))
        parts.append(f"only the classifier differs: for another class count give --ignore-weights {' '.join(words)}")
    return "; ".join(parts)
