"""Running exported networks: ONNX with onnxruntime, programs of torch.export with PyTorch."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchlight.export.convert import INPUTS, INSTALL, METADATA, quiet
from torchlight.system.consent import is_admitted
from torchlight.system.files import open_regular, parse_json
from torchlight.system.packages import optional
from torchlight.system.text import quote

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}  # --format: the ending of the file
DYNAMIC = "batch"  # in the metadata, the size of an axis that may have any size
OURS = "expected a network that --phase export wrote"
Run = Callable[[Sequence[Tensor]], Tensor]


class ExportedNetwork(nn.Module):
    """An exported network, called like the original one: (N, C, T, V, M) and, if it takes them, times (N, T) ->
    logits (N, num_class), on the device of the data.

    A file for one clip is run once for each clip.

    Raises:
        ValueError: the shape of the inputs or the number of classes differs from the metadata.
    """

    def __init__(self, path: str | Path, run: Run, metadata: Mapping[str, Any]):
        super().__init__()
        self.path, self.run, self.metadata = path, run, metadata
        shapes = metadata["input"]
        self.shapes = {name: tuple(shapes[name][1:]) for name in INPUTS if name in shapes}
        self.is_dynamic = shapes["data"][0] == DYNAMIC

    def forward(self, *inputs: Tensor) -> Tensor:
        if len(inputs) != len(self.shapes):
            raise ValueError(f"{self.path}: expected the inputs {', '.join(self.shapes)}, got {len(inputs)} tensors")
        for x, (name, shape) in zip(inputs, self.shapes.items(), strict=True):
            if tuple(x.shape[1:]) != shape or not x.shape[0]:
                expected = ", ".join(map(str, ("N", *shape)))
                raise ValueError(f"{self.path}: {name}: expected the shape ({expected}), got {tuple(x.shape)}")
        parts = zip(*(x.float().cpu().split(x.shape[0] if self.is_dynamic else 1) for x in inputs), strict=True)
        logits = torch.cat([self.run(part) for part in parts])
        expected = (inputs[0].shape[0], self.metadata["num_class"])
        if tuple(logits.shape) != expected:
            raise ValueError(f"{self.path}: expected logits of the shape {expected}, got {tuple(logits.shape)}")
        return logits.to(inputs[0].device)

    def features(self, *inputs: Tensor) -> Tensor:
        """Always raises ValueError: logits are the only output of the file."""
        raise ValueError(f"{self.path}: expected a checkpoint for features, got an exported network")


class TimedNetwork(ExportedNetwork):
    """An exported network that takes the times of the frames."""

    takes_time = True


def is_exported(path: str | Path) -> bool:
    """Whether the name of a file is that of an exported network."""
    return Path(path).suffix.lower() in FORMATS.values()


def open_exported(path: str | Path, content: bytes | None = None) -> ExportedNetwork:
    """The network in a file; `content`: the bytes of the file if they were already read.

    Raises:
        ValueError: the file cannot be read, was not written by `--phase export`, or the package that runs it is
            missing.
    """
    if content is None:
        if Path(path).suffix.lower() == FORMATS["torch"] and not is_admitted(path):
            raise ValueError(
                f"{path}: PyTorch can run code of a .pt2 file when it opens one; if you trust this file, add "
                f"--import {path}, or use a file of --format onnx"
            )
        with open_regular(path) as file:
            content = file.read()
    opened = open_onnx if Path(path).suffix.lower() == FORMATS["onnx"] else open_torch
    run, metadata = opened(path, content)
    check_metadata(path, metadata)
    return (TimedNetwork if "time" in metadata["input"] else ExportedNetwork)(path, run, metadata)


def open_onnx(path: str | Path, content: bytes) -> tuple[Run, dict[str, Any]]:
    """A function that runs an ONNX file on the CPU, and its metadata; raises ValueError for other files."""
    runtime = optional("onnxruntime", INSTALL)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception for each kind of damage
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: expected a network in the ONNX format, got a file that onnxruntime cannot read ({reason})"
        ) from error
    names = [x.name for x in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> Tensor:
        arrays = {name: x.contiguous().numpy() for name, x in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, arrays)[0])

    found = session.get_modelmeta().custom_metadata_map
    return run, {key: parse_json(value, f"{path}: {key}") for key, value in found.items()}


def open_torch(path: str | Path, content: bytes) -> tuple[Run, dict[str, Any]]:
    """A function that runs a program of torch.export on the CPU, and its metadata; raises ValueError for other files.

    PyTorch can run code that the file contains.
    """
    extra = {METADATA: ""}
    try:
        with quiet():
            module = torch.export.load(io.BytesIO(content), extra_files=extra).module()
    except Exception as error:  # PyTorch has an exception for each kind of damage
        kind = "an archive" if zipfile.is_zipfile(io.BytesIO(content)) else "a file"
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: {OURS}, got {kind} that torch.export cannot read ({reason})") from error
    return (lambda inputs: module(*inputs)), parse_json(extra[METADATA] or "{}", f"{path}: {METADATA}")


def check_metadata(path: str | Path, found: Any) -> None:
    """Raise ValueError for metadata that `--phase export` would not write."""
    if not isinstance(found, dict) or found.get("version") != 1:
        raise ValueError(f"{path}: {OURS}, got a file without its metadata")
    shapes = found.get("input")
    if not isinstance(shapes, dict) or "data" not in shapes or not set(shapes) <= set(INPUTS):
        raise ValueError(f"{path}: input: expected the shapes of {' and '.join(INPUTS)}, got {quote(shapes)}")
    for name, shape in shapes.items():
        sizes = shape if isinstance(shape, list) else []
        first = sizes[:1] in ([DYNAMIC], [1])
        if len(sizes) != (5 if name == "data" else 2) or not first or not all(type(n) is int for n in sizes[1:]):
            raise ValueError(f"{path}: input: {name}: expected numbers of clips and sizes of axes, got {quote(shape)}")
    if type(found.get("num_class")) is not int:
        raise ValueError(f"{path}: num_class: expected a whole number, got {quote(found.get('num_class'))}")
