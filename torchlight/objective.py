"""Objectives map (model, batch) to a loss. To add the loss of a paper, write a class with these two methods.

`forward` returns (loss, logits, terms): logits (N, num_class), or None if they do not correspond to the labels of the
batch (mixup); then no training accuracy is computed. terms are further means over the batch to log.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from torchlight.contract import network_inputs
from torchlight.system.text import nearest, quote

Batch = dict[str, torch.Tensor]
ClassWeights = Literal["balanced"] | Sequence[float] | Mapping[str, float]


class Classification(nn.Module):
    """Cross entropy, optionally with label smoothing, mixup and class weights; labels may be soft (`batch["target"]`).

    Mixup (Zhang et al., ICLR 2018) as in TSGCNeXt: either all clips of a batch are mixed or none; each clip is mixed
    with the clip at the same position of the reversed batch, x <- lam x + (1 - lam) flip(x), lam ~ Beta(alpha, alpha).
    The losses are mixed in the same way.

    Args:
        label_smoothing: share of the target spread evenly over all classes.
        mixup_alpha: parameter of the Beta distribution; 0: no mixup.
        mixup_prob: probability that a batch (with update_freq: the batch of an accumulation step) is mixed.
        penalty: factor of the network's `penalty()`, a term of the loss that depends only on its parameters
            (Hyper-GCN).
        class_weight: factor of the loss of each class: `balanced` (inversely proportional to the number of training
            clips, with mean 1 over all clips), a list in label order, or {class name: weight} with 1 for the others.
            The loss is the mean over the clips, not divided by the sum of their weights, so it does not depend on how a
            batch is split.

    Raises:
        ValueError: an argument is out of range.

    >>> Classification(label_smoothing=0.1).label_smoothing
    0.1
    """

    graph_safe = True
    targets = ("soft",)

    def __init__(
        self,
        label_smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        mixup_prob: float = 1.0,
        penalty: float = 0.0,
        class_weight: ClassWeights | None = None,
    ):
        super().__init__()
        ranges = (
            ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "0 <= label_smoothing < 1"),
            ("mixup_alpha", mixup_alpha, 0 <= mixup_alpha < float("inf"), "a finite number, 0 or more"),
            ("mixup_prob", mixup_prob, 0 <= mixup_prob <= 1, "0 <= mixup_prob <= 1"),
            ("penalty", penalty, 0 <= penalty < float("inf"), "a finite number, 0 or more"),
        )
        problems = [f"{name}: expected {expected}, got {value}" for name, value, good, expected in ranges if not good]
        if problems:
            raise ValueError("\n".join(problems))
        self.label_smoothing, self.mixup_alpha, self.mixup_prob = label_smoothing, mixup_alpha, mixup_prob
        self.penalty = penalty
        self.class_weight = class_weight
        self.weight: torch.Tensor | None
        self.register_buffer("weight", None, persistent=False)

    def set_classes(self, names: Sequence[str], counts: np.ndarray, clips: int) -> None:
        """See `torchlight.contract.ClassObjective`; raises ValueError for weights of other classes."""
        if self.class_weight is not None:
            balanced = clips / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1e-12)) * (counts > 0)
            self.weight = weights_of("class_weight", self.class_weight, names, balanced)

    def forward(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor]]:
        """(loss, logits (N, num_class) or None if the clips are mixed, further terms to log)."""
        inputs, label = network_inputs(model, batch), batch.get("target", batch["label"])
        lam = batch["mixup"] if "mixup" in batch else self.draw_share()
        if lam is None:
            logits = model(*inputs)
            loss = self.cross_entropy(logits, label)
        else:
            mixed = model(*(mix(x, x.flip(0), lam) for x in inputs))
            loss = mix(self.cross_entropy(mixed, label), self.cross_entropy(mixed, label.flip(0)), lam)
            logits = None
        if not self.penalty:
            return loss, logits, {}
        penalty = penalty_of(model)
        return loss + self.penalty * penalty, logits, {"penalty": penalty}

    def decide(self) -> dict[str, float | None]:
        """The mixup weight of the next batch; see `torchlight.contract.DecidingObjective`."""
        return {"mixup": self.draw_share()} if self.mixup_alpha else {}

    def draw_share(self) -> float | None:
        """The weight lam of each clip in its mixture, drawn on the CPU for every device; None: no mixup."""
        if self.mixup_alpha == 0 or torch.rand(()) >= self.mixup_prob:
            return None
        return float(torch.distributions.Beta(self.mixup_alpha, self.mixup_alpha).sample())

    def cross_entropy(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The mean over clips; label: (N,) int64, or weights of the labels (N, num_class)."""
        if self.class_weight is None:
            return F.cross_entropy(logits.float(), label, label_smoothing=self.label_smoothing)
        assert self.weight is not None, "set_classes was not called"
        losses = F.cross_entropy(
            logits.float(), label, self.weight, label_smoothing=self.label_smoothing, reduction="none"
        )
        return losses.mean()

    def predict(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Logits (N, num_class); sees no labels."""
        return model(*network_inputs(model, batch))


class MultiLabel(nn.Module):
    """Binary cross entropy of every class, for clips with several labels (`batch["target"]`); mean over clips and
    classes.

    Args:
        pos_weight: factor of the loss where a class is present: `balanced`, the ratio of training clips without it to
            those with it; a list in label order; or {class name: weight}, 1 for the others.
        label_smoothing: targets 0 and 1 become half of it and 1 minus half of it.

    Raises:
        ValueError: a weight is negative or not finite, or label_smoothing is out of range.

    >>> MultiLabel(pos_weight="balanced").pos_weight
    'balanced'
    """

    graph_safe = True
    targets = ("multi-label",)

    def __init__(self, pos_weight: ClassWeights | None = None, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: expected 0 <= label_smoothing < 1, got {label_smoothing}")
        self.pos_weight, self.label_smoothing = pos_weight, label_smoothing
        self.weight: torch.Tensor | None
        self.register_buffer("weight", None, persistent=False)

    def set_classes(self, names: Sequence[str], counts: np.ndarray, clips: int) -> None:
        """See `torchlight.contract.ClassObjective`; raises ValueError for weights of other classes."""
        if self.pos_weight is not None:
            balanced = np.where(counts > 0, (clips - counts) / np.maximum(counts, 1e-12), 1.0)
            self.weight = weights_of("pos_weight", self.pos_weight, names, balanced)

    def forward(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, None, dict[str, torch.Tensor]]:
        """(loss, None, {}): no clip has a single class, so there is no training accuracy."""
        assert self.pos_weight is None or self.weight is not None, "set_classes was not called"
        logits = model(*network_inputs(model, batch))
        target = batch["target"]
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=self.weight)
        return loss, None, {}

    def predict(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Logits (N, num_class); sees no labels."""
        return model(*network_inputs(model, batch))

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """The probability of each label, independent of the other labels."""
        return logits.sigmoid()


def weights_of(key: str, given: ClassWeights, names: Sequence[str], balanced: np.ndarray) -> torch.Tensor:
    """Class weights (num_class,) float32: `balanced`, or those given by label or name.

    Raises:
        ValueError: the number of weights is wrong, a class does not exist, or a weight is negative or not finite.
    """
    if isinstance(given, str):
        values = balanced
    elif isinstance(given, Mapping):
        if unknown := [name for name in given if str(name) not in names]:
            raise ValueError(f"{key}: unknown class {quote(unknown[0])}; {nearest(str(unknown[0]), names)}")
        values = np.array([{str(k): v for k, v in given.items()}.get(name, 1.0) for name in names])
    else:
        values = np.array(given, np.float64)
        if len(values) != len(names):
            raise ValueError(f"{key}: expected {len(names)} weights, one for each class, got {len(values)}")
    if not ((values >= 0) & (values < np.inf)).all() or not values.any():
        raise ValueError(f"{key}: expected finite weights of 0 or more and not all 0, got {quote(values.tolist())}")
    return torch.tensor(values, dtype=torch.float32)


def mix(x: torch.Tensor, y: torch.Tensor, lam: torch.Tensor | float) -> torch.Tensor:
    """lam x + (1 - lam) y in the precision of x. lam may be a number or a float64 tensor of shape (); both give the
    same result."""
    if isinstance(lam, torch.Tensor):
        return lam.to(x.dtype) * x + (1 - lam).to(x.dtype) * y
    return lam * x + (1 - lam) * y


def penalty_of(model: nn.Module) -> torch.Tensor:
    """`penalty()` of a network, which may be wrapped by DistributedDataParallel or torch.compile.

    Raises:
        ValueError: it has none.
    """
    for module in model.modules():
        if hasattr(type(module), "penalty"):
            return module.penalty()
    raise ValueError(f"penalty: expected 0 for a network without a penalty() method, got {type(model).__name__}")
