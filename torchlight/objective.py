"""Objectives map (model, batch) to a loss; a paper's own loss is one more class with these two methods.

`forward` returns (loss, logits, terms): logits (N, num_class), or None if they belong to no label of the batch (mixed
clips), so that no training accuracy is computed; terms are further means over the batch to log.
"""

import torch
from torch import nn
from torch.nn import functional as F

from torchlight.contract import network_inputs

Batch = dict[str, torch.Tensor]


class Classification(nn.Module):
    """Cross entropy, optionally with label smoothing and mixup.

    Mixup (Zhang et al., ICLR 2018) as in TSGCNeXt: either all clips of a batch are mixed or none; each clip is mixed
    with the clip at the same position of the reversed batch, x <- lam x + (1 - lam) flip(x), lam ~ Beta(alpha, alpha),
    and so are the losses.

    Args:
        label_smoothing: share of the target spread evenly over all classes.
        mixup_alpha: parameter of the Beta distribution; 0: no mixup.
        mixup_prob: probability that a batch (with update_freq: the batch of an accumulation step) is mixed.
        penalty: weight of the network's own `penalty()`, a term of the loss that depends on its weights alone
            (Hyper-GCN).

    Raises:
        ValueError: an argument is out of range.

    >>> Classification(label_smoothing=0.1).label_smoothing
    0.1
    """

    graph_safe = True

    def __init__(
        self,
        label_smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        mixup_prob: float = 1.0,
        penalty: float = 0.0,
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

    def forward(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor]]:
        """(loss, logits (N, num_class) or None if the clips are mixed, further terms to log)."""
        inputs, label = network_inputs(model, batch), batch["label"]
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
        """The share of the next batch; see `torchlight.contract.DecidingObjective`."""
        return {"mixup": self.draw_share()} if self.mixup_alpha else {}

    def draw_share(self) -> float | None:
        """The weight lam of each clip in its mixture, sampled on the CPU for every device; None: no mixup."""
        if self.mixup_alpha == 0 or torch.rand(()) >= self.mixup_prob:
            return None
        return float(torch.distributions.Beta(self.mixup_alpha, self.mixup_alpha).sample())

    def cross_entropy(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float(), label, label_smoothing=self.label_smoothing)

    def predict(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Logits (N, num_class); sees no labels."""
        return model(*network_inputs(model, batch))


def mix(x: torch.Tensor, y: torch.Tensor, lam: torch.Tensor | float) -> torch.Tensor:
    """lam x + (1 - lam) y in the precision of x: a number, or the tensor () float64 that holds it, give the same."""
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
    raise ValueError(f"penalty: expected 0 for a network without a penalty of its own, got {type(model).__name__}")
