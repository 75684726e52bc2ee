"""Several sides of one comparison, measured side by side: works to time, ratios, networks of another checkout."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PACKAGES = ("model", "graph", "feeders", "torchlight")  # what `other_checkout` exchanges


def seconds(work: Callable[[], object], device: torch.device, clock: str = "wall") -> float:
    """Duration of one call, including the work that it leaves on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = CLOCKS[clock]()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return CLOCKS[clock]() - start


def in_turns(
    sides: dict[str, Callable[[], object]], rounds: int, device: torch.device, clock: str = "wall"
) -> dict[str, dict[str, float]]:
    """Time every side in every round, after one call each to warm up, so that a slow moment of the machine affects all.

    Returns {side: {seconds (median), ratio (median over the rounds of first side / this side), low, high (quartiles)}}.
    """
    for work in sides.values():
        seconds(work, device, clock)
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, work in sides.items():
            taken[side].append(seconds(work, device, clock))
    first, found = next(iter(taken.values())), {}
    for side, durations in taken.items():
        ratios = [a / b for a, b in zip(first, durations, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        found[side] = {"seconds": statistics.median(durations), "ratio": middle, "low": low, "high": high}
    return found


def precisions(device: torch.device) -> tuple[str, ...]:
    """The precisions worth measuring; TF32 exists on GPUs only."""
    return ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16")


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The precision of one call."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def training_step(model: nn.Module, data: Tensor, label: Tensor, precision: str = "float32") -> Callable[[], None]:
    """Forward pass, loss, backward pass and a step of SGD."""
    model.train()
    settings = {"lr": 1e-6, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
    optimizer = torch.optim.SGD(model.parameters(), **settings, fused=data.device.type == "cuda")

    def step() -> None:
        with autocast(precision, data.device):
            loss = F.cross_entropy(model(data), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def inference(model: nn.Module, data: Tensor, precision: str = "float32") -> Callable[[], None]:
    """A forward pass in evaluation mode."""
    model.eval()

    @torch.inference_mode()
    def forward() -> None:
        with autocast(precision, data.device):
            model(data)

    return forward


@contextmanager
def other_checkout(root: Path) -> Iterator[None]:
    """Within the block, PACKAGES are imported from another checkout of this project; afterwards from this one again.

    What was built within the block keeps the code of the other checkout.

    Raises:
        ValueError: `root` is no checkout of this project.
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


def print_profile(work: Callable[[], object], device: torch.device) -> None:
    """The operations that take most of the time of a call, by PyTorch's profiler."""
    work()
    with torch.profiler.profile() as found:
        work()
    print(found.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=15), flush=True)
