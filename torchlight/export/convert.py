"""Conversion of a trained network to ONNX, or to a program of torch.export.

`Served` is the exported module. `to_onnx` and `to_torch` return the bytes of a file, whose metadata lists the operators
that it needs.
"""

import copy
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from torchlight.system.packages import optional

INSTALL = "pip install -r requirements/export.txt"
OPSET = 18  # the version that PyTorch writes without a conversion
INPUTS = ("data", "time")  # names of the inputs; "time", the times of the frames, only for networks that take it
OUTPUT = "logits"
METADATA = "metadata.json"  # in the file of torch.export
ANY_SIZE = 2**31  # bytes of a constant


class Served(nn.Module):
    """The exported module: clips (N, C, T, V, M) and, if the network takes them, times (N, T) -> logits (N, num_class).

    Inputs and logits are float32 in every precision. The network is copied and set to evaluation mode. Its batch
    norms are already fused (`torchlight.training.engine.for_inference`).
    """

    def __init__(self, network: nn.Module, objective: nn.Module, precision: str = "float32"):
        super().__init__()
        self.dtype = getattr(torch, precision)
        self.network = copy.deepcopy(network).eval().requires_grad_(False).to(self.dtype)
        self.objective = objective

    def forward(self, data: Tensor, time: Tensor | None = None) -> Tensor:
        batch = {"data": data.to(self.dtype)} | ({} if time is None else {"time": time.to(self.dtype)})
        return self.objective.predict(self.network, batch).float()


def trace(served: Served, inputs: Sequence[Tensor], dynamic: bool) -> torch.export.ExportedProgram:
    """The forward pass as a graph of operators for inputs of these shapes; with `dynamic` for any number of clips.

    Raises:
        ValueError: its operations depend on the values of its inputs, or it calls a function that is not an operator.
    """
    batch = torch.export.Dim("batch")
    shapes = {name: {0: batch} for name, _ in zip(INPUTS, inputs, strict=False)} if dynamic else None
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(served, tuple(inputs), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export raises its own exceptions and any of the traced code
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"model: expected a network that torch.export can trace, got {reason}") from error


def check_packages(format: str) -> None:
    """Raise ValueError if a package for writing or checking files of this format is missing."""
    for package in ("onnx", "onnxscript", "onnxruntime") if format == "onnx" else ():
        optional(package, INSTALL)


def to_onnx(program: torch.export.ExportedProgram, facts: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """An ONNX file with folded constants, and its metadata: `facts`, opset and operators.

    Raises:
        ValueError: ONNX has no operator for a part of the network.
    """
    optimizer = optional("onnxscript.optimizer", INSTALL)
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    try:
        with quiet():
            found = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=OPSET,
                input_names=names,
                output_names=[OUTPUT],
                optimize=False,
                verbose=False,
            )
            model = found.model
            drop_expansions(model)
            optimizer.optimize(model, input_size_limit=ANY_SIZE, output_size_limit=ANY_SIZE)
    except Exception as error:  # torch.onnx raises its own exceptions, with very long messages
        reason = " ".join(str(error).split())[-300:]
        raise ValueError(f"format: expected operators that ONNX has, got {reason}") from error
    facts = dict(facts) | {"opset": OPSET, "operators": count(node.op_type for node in model.graph)}
    for part in (model.graph, *model.graph, *(value for node in model.graph for value in node.outputs)):
        part.metadata_props.clear()  # these contain names and lines of this program's source files
    model.producer_name, model.doc_string = "skeleton-action-recognition", None
    model.metadata_props.update({key: json.dumps(value) for key, value in facts.items()})
    return found.model_proto.SerializeToString(), facts


def drop_expansions(model: Any) -> None:
    """Let matrix products broadcast a factor to all clips and frames. PyTorch expands it before the product; as a
    folded constant, it would be stored once per frame."""
    for node in model.graph:
        for i in (0, 1) if node.op_type == "MatMul" else ():
            before = node.inputs[i].producer()
            if before is None or before.op_type != "Expand":
                continue
            factor, other = before.inputs[0], node.inputs[1 - i]
            shapes = [value.shape and [str(size) for size in value.shape] for value in (factor, node.inputs[i], other)]
            if all(shapes) and shapes[0][-2:] == shapes[1][-2:] and shapes[1][:-2] == shapes[2][:-2]:
                node.replace_input_with(i, factor)


def to_torch(program: torch.export.ExportedProgram, facts: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """A torch.export file, and its metadata: `facts` and operators."""
    calls = (node.target for node in program.graph.nodes if node.op == "call_function")
    facts = dict(facts) | {"operators": count(getattr(target, "__name__", str(target)) for target in calls)}
    file = io.BytesIO()
    program.example_inputs = None  # otherwise the traced clips would be stored, 200 MB of heatmaps
    with quiet():
        torch.export.save(program, file, extra_files={METADATA: json.dumps(facts)})
    return file.getvalue(), facts


def count(names: Iterator[str]) -> dict[str, int]:
    """{name: number of occurrences}, the most frequent first."""
    return dict(Counter(names).most_common())


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings of PyTorch's exporters, which concern PyTorch's own code and optional packages."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
