"""The engine: an epoch of training and an evaluation, as functions without files."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from torchlight.runtime import distributed


class Meter:
    """Means over samples; the sums, {name: (sum, samples)}, stay on the device until `means` is called."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}

    def add(self, count: int, **values: torch.Tensor) -> None:
        """Add means over `count` samples."""
        for key, value in values.items():
            value = value.detach().double()
            added = count * torch.stack((value, torch.ones_like(value)))
            self.sums[key] = self.sums[key] + added if key in self.sums else added

    def take(self, sums: dict[str, torch.Tensor], device: torch.device) -> None:
        """Add the sums of another meter."""
        for key, pair in sums.items():
            pair = pair.to(device)
            self.sums[key] = self.sums[key] + pair if key in self.sums else pair

    def means(self) -> dict[str, float]:
        """The means over all samples of all ranks (waits for the device)."""
        totals: dict[str, list[float]] = {}
        for sums in distributed.gather({key: pair.tolist() for key, pair in self.sums.items()}):
            for key, pair in sums.items():
                totals[key] = [a + b for a, b in zip(totals.get(key, (0.0, 0.0)), pair, strict=True)]
        return {key: total / samples for key, (total, samples) in sorted(totals.items())}


@dataclass
class Clock:
    """Seconds of an epoch: in total, and of waiting for data."""

    data: float = 0.0
    begin: float = field(default_factory=time.perf_counter)

    @property
    def total(self) -> float:
        return time.perf_counter() - self.begin

    def wait(self, batches: Iterable) -> Iterator:
        """Yield the batches and add up the time of waiting for each."""
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


@dataclass
class Stepper:
    """How gradients become optimizer steps.

    update_freq: backward passes per optimizer step. clip_grad: largest norm of the gradient, 0: no clipping. The
    scaler (float16) skips steps whose gradient overflowed. after_step is called after each optimizer step.
    """

    optimizer: torch.optim.Optimizer
    device: torch.device
    update_freq: int = 1
    clip_grad: float = 0.0
    autocast: Callable[[], AbstractContextManager] = nullcontext
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    after_step: Callable[[], None] = lambda: None

    def step(self, network: nn.Module) -> None:
        """One optimizer step with the accumulated gradients."""
        if self.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.after_step()


def train_one_epoch(
    network: nn.Module, objective: nn.Module, batches: Iterable[dict], stepper: Stepper, meter: Meter, clock: Clock
) -> None:
    """Train on every batch; the means of loss, accuracy and further terms go to `meter`, the seconds to `clock`."""
    network.train()
    stepper.optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(clock.wait(batches), start=1):
        batch = to_device(batch, stepper.device)
        last = number % stepper.update_freq == 0
        with nullcontext() if last or not hasattr(network, "no_sync") else network.no_sync():  # DDP, also compiled
            with stepper.autocast():
                loss, logits, terms = objective(network, batch)
            stepper.scaler.scale(loss / stepper.update_freq).backward()
        if logits is not None:
            terms = terms | {"top1": 100 * (logits.detach().argmax(1) == batch["label"]).double().mean()}
        meter.add(len(batch["label"]), loss=loss, **terms)
        if last:
            stepper.step(network)


@dataclass
class Prediction:
    """The result of an evaluation, in the order of the data set: scores (n, num_class) float32, label (n,), index (n,).

    Scores are logits, or probabilities where a sample was seen in several clips.
    """

    scores: np.ndarray
    label: np.ndarray
    index: np.ndarray
    probabilities: bool

    @property
    def loss(self) -> float:
        """Mean of -log of the probability of the true class."""
        scores = torch.from_numpy(self.scores)
        if self.probabilities:
            log_p = scores.clamp(min=torch.finfo(scores.dtype).tiny).double().log()
        else:
            log_p = scores.double().log_softmax(1)
        return float(nn.functional.nll_loss(log_p, torch.from_numpy(self.label)))


def for_inference(model: nn.Module) -> nn.Module:
    """The network as evaluations call it: the faster copy that its class offers (`for_inference`), else the network
    itself.

    An inherited `for_inference` is not called, because it was written for another forward pass.
    """
    offer = vars(type(model)).get("for_inference")
    return model if offer is None else offer(model)


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    objective: nn.Module,
    batches: Iterable[dict],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    features: bool = False,
) -> Prediction:
    """Scores of every sample of every rank's share, joined; each counts once.

    Several clips of each sample ((N clips, C, T, V, M), their number in batch["clips"]) give the mean of their
    softmaxes; of a network that returns `features`, the mean of those.
    """
    network.eval()
    seen: list[tuple[torch.Tensor, ...]] = []
    probabilities = False
    for batch in batches:
        batch = to_device(batch, device)
        with autocast():
            logits = objective.predict(network, batch)
        scores = logits.float()
        if "clips" in batch:
            probabilities = not features
            views = scores.softmax(1) if probabilities else scores
            scores = views.unflatten(0, (-1, int(batch["clips"]))).mean(1)
        # cloned, because a tensor from a worker holds an open file
        seen.append((scores, batch["label"].clone(), batch["index"].clone()))
    parts = [tuple(x.cpu().numpy() for x in part) for part in seen]  # at the end: no batch waits for the device
    parts = [part for of_rank in distributed.gather(parts) for part in of_rank]
    scores, label, index = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(index, kind="stable")
    return Prediction(scores[order], label[order], index[order], any(distributed.gather(probabilities)))
