"""The engine: an epoch of training and an evaluation, as functions without files."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from torchlight import distributed


class Meter:
    """Sample-weighted sums that stay on the device until somebody reads them."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}

    def add(self, count: int, **values: torch.Tensor) -> None:
        """Add means over `count` samples."""
        values["samples"] = torch.ones((), dtype=torch.float64, device=next(iter(values.values())).device)
        for key, value in values.items():
            value = value.detach().double() * count
            self.sums[key] = self.sums[key] + value if key in self.sums else value

    def means(self) -> dict[str, float]:
        """The means over all samples of all ranks (waits for the device)."""
        if not self.sums:
            return {}
        keys = sorted(self.sums)
        totals = distributed.sum_over_ranks(torch.stack([self.sums[k] for k in keys])).tolist()
        sums = dict(zip(keys, totals, strict=True))
        samples = sums.pop("samples")
        return {key: value / samples for key, value in sums.items()}


@dataclass
class Clock:
    """Seconds of an epoch, in all and spent waiting for data."""

    data: float = 0.0
    begin: float = field(default_factory=time.perf_counter)

    @property
    def total(self) -> float:
        return time.perf_counter() - self.begin

    def wait(self, batches: Iterable) -> Iterator:
        """The batches, with the time that each kept us waiting added up."""
        iterator = iter(batches)
        while True:
            begin = time.perf_counter()
            batch = next(iterator, None)
            self.data += time.perf_counter() - begin
            if batch is None:
                return
            yield batch


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on the device."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def train_one_epoch(
    network: nn.Module,
    objective: nn.Module,
    batches: Iterable[dict],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    meter: Meter,
    clock: Clock,
    update_freq: int,
    clip_grad: float,
    autocast: Callable[[], AbstractContextManager],
    scaler: torch.amp.GradScaler,
    after_step: Callable[[], None],
) -> None:
    """Train on every batch; `update_freq` batches make an optimizer step, after which `after_step` is called.

    clip_grad is the largest norm of the gradient, 0: no clipping. The scaler (float16) skips steps whose gradient overflowed.
    """
    network.train()
    optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(clock.wait(batches), start=1):
        batch = to_device(batch, device)
        last = number % update_freq == 0
        with nullcontext() if last or not hasattr(network, "no_sync") else network.no_sync():
            with autocast():
                loss, logits, terms = objective(network, batch)
            scaler.scale(loss / update_freq).backward()
        correct = (logits.detach().argmax(1) == batch["label"]).double().mean()
        meter.add(len(batch["label"]), loss=loss, top1=100 * correct, **terms)
        if last:
            if clip_grad:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(network.parameters(), clip_grad)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            after_step()


@dataclass
class Prediction:
    """What an evaluation returns, in data set order: logits (n, num_class) float32, label (n,), index (n,)."""

    logits: np.ndarray
    label: np.ndarray
    index: np.ndarray

    @property
    def loss(self) -> float:
        """Mean cross entropy."""
        logits = torch.from_numpy(self.logits).double()
        return float(nn.functional.cross_entropy(logits, torch.from_numpy(self.label)))


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    objective: nn.Module,
    batches: Iterable[dict],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> Prediction:
    """Logits of every clip of every rank's share, joined; each clip counts once.

    A batch of `clips` views per sample ((N clips, C, T, V, M), key `clips`) gives the mean of the softmaxes of its views.
    """
    network.eval()
    parts: list[tuple[np.ndarray, ...]] = []
    for batch in batches:
        batch = to_device(batch, device)
        with autocast():
            logits = objective.predict(network, batch)
        if "clips" in batch:
            logits = logits.float().softmax(1).unflatten(0, (-1, int(batch["clips"]))).mean(1)
        parts.append(
            tuple(x.float().cpu().numpy() if x.is_floating_point() else x.cpu().numpy() for x in (logits, batch["label"], batch["index"]))
        )
    parts = [part for of_rank in distributed.gather(parts) for part in of_rank]
    logits, label, index = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(index, kind="stable")
    return Prediction(logits[order], label[order], index[order])
