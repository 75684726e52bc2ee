"""Writing an exported network that was compared with the original."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchlight.export.convert import INPUTS, Served, to_onnx, to_torch, trace
from torchlight.export.run import DYNAMIC, ExportedNetwork, open_exported
from torchlight.system.files import atomic

CONVERT = {"onnx": to_onnx, "torch": to_torch}
BOUNDS = {"float32": 1e-4, "float16": 2e-2}  # of the difference, relative to the largest logit if it is above 1


def export_network(
    network: nn.Module,
    objective: nn.Module,
    clips: Sequence[Tensor],
    path: Path,
    format: str,
    facts: Mapping[str, Any],
    dynamic: bool = False,
    precision: str = "float32",
) -> tuple[dict[str, Any], float]:
    """Export a network, compare the exported one with it, and write the file.

    network: for inference, on the CPU. clips: (n, C, T, V, M) and, if the network takes them, times (n, T), n >= 2.
    format: `onnx` or `torch`. facts: entries of the metadata; `num_class` is required.

    Returns the metadata and the largest difference (see `compare`).

    Raises:
        ValueError: the network cannot be exported, the file gives other logits, or it cannot be written. No file is
            left behind.
    """
    sizes = [[DYNAMIC if dynamic else 1, *x.shape[1:]] for x in clips]
    facts = {"version": 1, "precision": precision, "input": dict(zip(INPUTS, sizes, strict=False))} | dict(facts)
    reference = Served(network, objective)
    with torch.no_grad():
        reference(*(x[:1] for x in clips))  # raises errors of the network, for example for data of another shape
    program = trace(Served(network, objective, precision), [x[: 2 if dynamic else 1] for x in clips], dynamic)
    content, metadata = CONVERT[format](program, facts)
    difference = compare(reference, open_exported(path, content), clips)
    if not difference <= BOUNDS[precision]:  # also if it is not a number
        raise ValueError(
            f"{path}: expected logits that differ by at most {BOUNDS[precision]:g} from those of the network, got "
            f"{difference:.2g}; nothing was written"
        )
    try:
        with atomic(path) as file:
            file.write(content)
    except OSError as error:
        raise ValueError(f"output: {path}: cannot be written ({error.strerror})") from error
    return metadata, difference


@torch.inference_mode()
def compare(network: nn.Module, exported: ExportedNetwork, clips: Sequence[Tensor]) -> float:
    """The largest difference of the logits of clips, run one by one and, if the file takes any number, all together.

    The difference is relative to the largest logit if it is above 1, and NaN if any logit is NaN.
    """
    differences, largest = [], 1.0
    for size in (1, len(clips[0])) if exported.is_dynamic else (1,):
        for part in zip(*(x.split(size) for x in clips), strict=True):
            expected = network(*part)
            differences.append((exported(*part) - expected).abs().max())
            largest = max(largest, float(expected.abs().max()))
    return float(torch.stack(differences).max()) / largest  # Python's `max` would not always return NaN
