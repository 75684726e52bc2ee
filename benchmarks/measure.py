"""Timing of several sides of a comparison in turns, with ratios, and imports from another checkout."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchlight.training import cuda_graph
from torchlight.training.cuda_graph import StepGraphs

PACKAGES = ("model", "graph", "feeders", "torchlight")  # that `other_checkout` exchanges
Work = Callable[[], object]


def now(device: torch.device) -> float:
    """The time in seconds, after waiting for the work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def in_turns(sides: dict[str, Work], rounds: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Time every side in every round, so that slow phases of the machine affect all sides.

    Before, every side is called once, and on a GPU until CUDA graphs are recorded.

    Returns {side: {seconds (median), ratio (median over the rounds of first side / this side), low, high (quartiles)}}.
    """
    for work in sides.values():
        for _ in range(1 if device.type == "cpu" else cuda_graph.WARM_UP + 1):
            work()
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, work in sides.items():
            start = now(device)
            work()
            taken[side].append(now(device) - start)
    first, found = next(iter(taken.values())), {}
    for side, durations in taken.items():
        ratios = [a / b for a, b in zip(first, durations, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        found[side] = {"seconds": statistics.median(durations), "ratio": middle, "low": low, "high": high}
    return found


def call(model: nn.Module, data: Tensor, precision: str) -> Tensor:
    """A forward pass; TF32 is only available on GPUs."""
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = precision not in ("float32", "tf32 convolutions")
    with torch.autocast(data.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return model(data)


def training_step(
    model: nn.Module, data: Tensor, label: Tensor, precision: str = "float32", record: bool = False
) -> Work:
    """Forward pass, loss, backward pass and a step of SGD. record: replay the first three as a CUDA graph."""
    model.train()
    settings = {"lr": 1e-6, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
    optimizer = torch.optim.SGD(model.parameters(), **settings, fused=data.device.type == "cuda")

    graphs = StepGraphs(model.parameters()) if record else None

    def gradients(batches: list[dict[str, Tensor]]) -> None:
        (batch,) = batches
        F.cross_entropy(call(model, batch["data"], precision).float(), batch["label"]).backward()

    def step() -> None:
        batches = [{"data": data, "label": label}]
        graphs.run(gradients, batches) if graphs else gradients(batches)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def inference(model: nn.Module, data: Tensor, precision: str = "float32") -> Work:
    """A forward pass in evaluation mode."""
    model.eval()
    return torch.inference_mode()(lambda: call(model, data, precision))


@contextmanager
def other_checkout(root: Path) -> Iterator[None]:
    """Within the block, PACKAGES are imported from another checkout of this project; afterwards from this one again.

    Objects that are built within the block keep the code of the other checkout.

    Raises:
        ValueError: `root` is not a checkout of this project.
    """
    if not (root / "model").is_dir():
        raise ValueError(f"--against: expected a checkout of this project, got {root}")

    def take() -> dict:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in PACKAGES}

    ours = take()
    sys.path.insert(0, str(root.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(root.resolve()))
        take()
        sys.modules.update(ours)
