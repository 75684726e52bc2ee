"""The engine: an epoch of training and an evaluation, as functions without files."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from torchlight.contract import Batch, DecidingObjective
from torchlight.runtime import distributed
from torchlight.training.cuda_graph import StepGraphs

BINARY_CROSS_ENTROPY = nn.functional.binary_cross_entropy_with_logits
Sums = dict[str, torch.Tensor]  # {name: (sum, samples) float64}


class Meter:
    """Means over samples; the sums stay on the device until `means` is called."""

    def __init__(self) -> None:
        self.sums: Sums = {}

    def take(self, sums: Sums, device: torch.device) -> None:
        """Add sums."""
        for key, pair in sums.items():
            if key in self.sums:
                self.sums[key] += pair.to(device)
            else:
                self.sums[key] = pair.to(device, copy=True)

    def totals(self) -> dict[str, list[float]]:
        """{name: [sum, samples]} of all ranks (waits for the device)."""
        totals: dict[str, list[float]] = {}
        for sums in distributed.gather({key: pair.tolist() for key, pair in self.sums.items()}):
            for key, pair in sums.items():
                totals[key] = [a + b for a, b in zip(totals.get(key, (0.0, 0.0)), pair, strict=True)]
        return totals

    def means(self) -> dict[str, float]:
        """The means over all samples of all ranks (waits for the device)."""
        return {key: total / samples for key, (total, samples) in sorted(self.totals().items())}


@dataclass
class Clock:
    """Time of an epoch in seconds: in total, and spent waiting for data.

    On a GPU, waiting is measured by events between kernels. The host runs ahead of the GPU, so the waiting time of the
    host is not that of the GPU.
    """

    device: torch.device = torch.device("cpu")
    begin: float = field(default_factory=time.perf_counter)
    waits: list[tuple] = field(default_factory=list)  # moments before and after each wait

    @property
    def total(self) -> float:
        return time.perf_counter() - self.begin

    @property
    def data(self) -> float:
        """Seconds spent waiting for data; all work of the GPU must be finished."""
        if self.device.type == "cuda":
            return sum(before.elapsed_time(after) for before, after in self.waits) / 1000
        return sum(after - before for before, after in self.waits)

    def moment(self) -> Any:
        """The current time of the device."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self, batches: Iterable) -> Iterator:
        """Yield the batches and record the waiting time for each."""
        iterator = iter(batches)
        while True:
            before = self.moment()
            batch = next(iterator, None)
            self.waits.append((before, self.moment()))
            if batch is None:
                return
            yield batch


def sums_of(count: int, means: dict[str, torch.Tensor]) -> Sums:
    """The sums that belong to means over `count` samples."""
    values = {key: value.detach().double() for key, value in means.items()}
    return {key: count * torch.stack((value, torch.ones_like(value))) for key, value in values.items()}


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on the device."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


@dataclass
class Stepper:
    """Computes gradients and optimizer steps.

    update_freq: backward passes per optimizer step. clip_grad: maximum norm of the gradient, 0: no clipping. The
    scaler (float16) skips steps whose gradient overflowed. after_step is called after each optimizer step. graphs: on
    a GPU, records the computation of the gradients and replays it; None: no CUDA graphs. in_evaluation: parts of the
    network that stay in evaluation mode.
    """

    optimizer: torch.optim.Optimizer
    device: torch.device
    update_freq: int = 1
    clip_grad: float = 0.0
    autocast: Callable[[], AbstractContextManager] = nullcontext
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    after_step: Callable[[], None] = lambda: None
    graphs: StepGraphs | None = None
    in_evaluation: tuple[nn.Module, ...] = ()

    def gradients(self, network: nn.Module, objective: nn.Module, batches: list[Batch]) -> list[Sums]:
        """The gradients of an optimizer step from the batches of its accumulation steps; returns what each adds to the
        meter."""
        prepared = (self.prepare(objective, batch) for batch in batches)
        if self.graphs is None:
            return self.accumulate(network, objective, prepared)
        return self.graphs.run(partial(self.accumulate, network, objective), list(prepared))

    def prepare(self, objective: nn.Module, batch: Batch) -> Batch:
        """The batch on the device, with the decisions of the host about it."""
        if isinstance(objective, DecidingObjective):
            batch = batch | {
                key: None if value is None else torch.full((), value, dtype=torch.float64, device=self.device)
                for key, value in objective.decide().items()
            }
        return to_device(batch, self.device)

    def accumulate(self, network: nn.Module, objective: nn.Module, batches: Iterable[Batch]) -> list[Sums]:
        """Forward and backward passes that do not depend on decisions of the host, so that a CUDA graph can repeat
        them."""
        found: list[Sums] = []
        for number, batch in enumerate(batches, start=1):
            last = number == self.update_freq
            with nullcontext() if last or not hasattr(network, "no_sync") else network.no_sync():  # DDP, also compiled
                with self.autocast():
                    loss, logits, terms = objective(network, batch)
                self.scaler.scale(loss / self.update_freq).backward()
            if logits is not None:
                terms = terms | {"top1": 100 * (logits.detach().argmax(1) == batch["label"]).double().mean()}
            found.append(sums_of(len(batch["label"]), {"loss": loss, **terms}))
        return found

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
    """Train on every batch. Loss, accuracy and further terms are added to `meter`, and times to `clock`."""
    network.train()
    for part in stepper.in_evaluation:
        part.eval()
    stepper.optimizer.zero_grad(set_to_none=True)
    waiting = clock.wait(batches)
    while step := list(islice(waiting, stepper.update_freq)):
        for sums in stepper.gradients(network, objective, step):
            meter.take(sums, stepper.device)
        if len(step) == stepper.update_freq:
            stepper.step(network)


@dataclass
class Prediction:
    """The result of an evaluation, in the order of the dataset: scores (n, num_class) float32, label (n,), index (n,).

    Scores are logits, or probabilities if several samples of each clip are averaged. target: (n, num_class) float32 of
    clips with several labels (`torchlight.contract.multi_label_targets`), None: one label each.
    """

    scores: np.ndarray
    label: np.ndarray
    index: np.ndarray
    probabilities: bool
    target: np.ndarray | None = None

    @property
    def loss(self) -> float:
        """Mean of -log of the probability of the true class, or of all labels (binary cross entropy)."""
        scores = torch.from_numpy(self.scores)
        if self.target is not None:
            target, scores = torch.from_numpy(self.target).double(), scores.double()
            entropy = nn.functional.binary_cross_entropy if self.probabilities else BINARY_CROSS_ENTROPY
            return float(entropy(scores, target))
        if self.probabilities:
            log_p = scores.clamp(min=torch.finfo(scores.dtype).tiny).double().log()
        else:
            log_p = scores.double().log_softmax(1)
        return float(nn.functional.nll_loss(log_p, torch.from_numpy(self.label)))


def to_probabilities(objective: nn.Module, scores: torch.Tensor) -> torch.Tensor:
    """Convert logits to probabilities with `probabilities` of the objective if it exists, else with the softmax."""
    own = getattr(objective, "probabilities", None)
    return scores.softmax(1) if own is None else own(scores)


def for_inference(model: nn.Module) -> nn.Module:
    """The network for evaluation: the faster copy that `for_inference` of its class returns, else the network itself.

    An inherited `for_inference` is not called, because it was written for a different forward pass.
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
    """Scores of all samples, gathered from all ranks; each sample counts once.

    If a batch contains several clips of each sample ((N clips, C, T, V, M), with their number in batch["clips"]), the
    score is the mean of their probabilities or, if the network returns features, the mean of the features.
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
            views = to_probabilities(objective, scores) if probabilities else scores
            scores = views.unflatten(0, (-1, int(batch["clips"]))).mean(1)
        # cloned, because a tensor from a worker keeps a file open
        seen.append((scores, batch["label"].clone(), batch["index"].clone()))
    parts = [tuple(x.cpu().numpy() for x in part) for part in seen]  # at the end: no batch waits for the device
    parts = [part for of_rank in distributed.gather(parts) for part in of_rank]
    scores, label, index = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(index, kind="stable")
    return Prediction(scores[order], label[order], index[order], any(distributed.gather(probabilities)))
