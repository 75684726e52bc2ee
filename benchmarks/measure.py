"""Two sides of a ratio, measured in turns."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PLAIN = "literal, plain process"


def seconds(work: Callable, device: torch.device, clock: str = "wall") -> float:
    """How long one call takes, the device's own work included; work that is done elsewhere returns its own seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = CLOCKS[clock]()
    elsewhere = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return elsewhere if isinstance(elsewhere, float) else CLOCKS[clock]() - start


def in_turns(
    sides: dict[str, Callable], rounds: int, device: torch.device, clock: str = "wall"
) -> dict[str, dict[str, float]]:
    """Every side once to warm up, then all sides in every round, so that a slow moment of the machine meets all of them.

    Returns {side: {seconds (median), ratio (median over the rounds of first side / this side), low, high (its quartiles)}}, and for
    every side `plain`, the same ratio to the plain process where that is a side.
    """
    for work in sides.values():
        seconds(work, device, clock)
    taken = {side: [] for side in sides}
    for _ in range(rounds):
        for side, work in sides.items():
            taken[side].append(seconds(work, device, clock))
    first = next(iter(taken.values()))
    result = {side: {"seconds": statistics.median(found)} | quartiles(first, found) for side, found in taken.items()}
    if PLAIN in taken:
        for side, found in taken.items():
            result[side]["plain"] = quartiles(taken[PLAIN], found)
    return result


def quartiles(first: list[float], found: list[float]) -> dict[str, float]:
    """Median and quartiles of first / found, round by round."""
    ratios = [a / b for a, b in zip(first, found, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return {"ratio": middle, "low": low, "high": high}


class Arithmetic:
    """float32, tf32 or bfloat16, for one call."""

    def __init__(self, name: str, device: torch.device):
        self.name, self.device = name, device

    def __call__(self) -> AbstractContextManager:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.name != "float32"
        return torch.autocast(self.device.type, torch.bfloat16) if self.name == "bfloat16" else nullcontext()


def training_step(model: nn.Module, data: torch.Tensor, label: torch.Tensor, arithmetic: Arithmetic) -> Callable:
    """Forward, loss, backward and a step of SGD."""
    model.train()
    fused = data.device.type == "cuda"
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-6, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=fused
    )

    def step() -> None:
        with arithmetic():
            loss = F.cross_entropy(model(data), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def inference(model: nn.Module, data: torch.Tensor, arithmetic: Arithmetic) -> Callable:
    """A forward pass in evaluation."""
    model.eval()

    @torch.inference_mode()
    def forward() -> None:
        with arithmetic():
            model(data)

    return forward


def peaks(device: torch.device) -> dict[str, float]:
    """What this machine can: multiply-adds per second of a large 1x1 convolution or matrix product, the faster one, and of the matrix
    product, which other libraries compute; bytes per second of a copy."""
    side = 2048 if device.type == "cuda" else 512
    layers: list[tuple[nn.Module, torch.Tensor]] = [
        (nn.Linear(4 * side, 4 * side, bias=False).to(device), torch.randn(4 * side, 4 * side, device=device)),
        (
            nn.Conv2d(side, side, 1, bias=False).to(device),
            torch.randn(16, side, 16, 16, device=device).to(memory_format=torch.channels_last),
        ),
    ]
    large = torch.empty(2**26, device=device)
    target = torch.empty_like(large)
    found: dict[str, float] = {}
    for name in ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16"):
        works = [
            (data.numel() * len(layer.weight), inference(layer, data, Arithmetic(name, device)))
            for layer, data in layers
        ]
        product, conv = (max(count / seconds(work, device) for _ in range(5)) for count, work in works)
        found |= {name: max(product, conv), f"{name}, matrix product": product}
    found["bytes"] = 2 * large.nbytes / min(seconds(partial(target.copy_, large), device) for _ in range(5))
    return found
