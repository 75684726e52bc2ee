"""Objectives map (model, batch) to a loss; a paper's own loss is one more class with these two methods.

`forward` returns (loss, logits, terms): logits (N, num_class), or None if they answer to no label of the batch (mixed clips), so that
no training accuracy is counted; terms are further means over the batch to log.
"""

import torch
from torch import nn
from torch.nn import functional as F

Batch = dict[str, torch.Tensor]


class Classification(nn.Module):
    """Cross entropy, perhaps with smoothed targets and mixed clips.

    Mixup (Zhang et al., ICLR 2018) as TSGCNeXt trains with it: a batch is mixed as a whole or not at all; the partner of a clip is its
    mirror image in the batch, x <- lam x + (1 - lam) flip(x), lam ~ Beta(alpha, alpha), and the loss is mixed alike.

    Args:
        label_smoothing: share of the target spread evenly over all classes.
        mixup_alpha: parameter of the Beta distribution, 0: no mixup.
        mixup_prob: share of the batches (with update_freq: of the backward passes) that are mixed.
    """

    def __init__(self, label_smoothing: float = 0.0, mixup_alpha: float = 0.0, mixup_prob: float = 1.0):
        super().__init__()
        problems = [
            f"{name}: found {value}; {allowed} is needed"
            for name, value, good, allowed in (
                ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "0 <= label_smoothing < 1"),
                ("mixup_alpha", mixup_alpha, 0 <= mixup_alpha < float("inf"), "0 or more"),
                ("mixup_prob", mixup_prob, 0 <= mixup_prob <= 1, "0 <= mixup_prob <= 1"),
            )
            if not good
        ]
        if problems:
            raise ValueError("; ".join(problems))
        self.label_smoothing, self.mixup_alpha, self.mixup_prob = label_smoothing, mixup_alpha, mixup_prob

    def forward(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[str, torch.Tensor]]:
        """(loss, logits (N, num_class) or None where clips are mixed, further terms to log)."""
        data, label, lam = batch["data"], batch["label"], self.draw_share()
        if lam is None:
            logits = model(data)
            return self.cross_entropy(logits, label), logits, {}
        logits = model(lam * data + (1 - lam) * data.flip(0))
        return lam * self.cross_entropy(logits, label) + (1 - lam) * self.cross_entropy(logits, label.flip(0)), None, {}

    def draw_share(self) -> float | None:
        """How much of itself each clip of this batch keeps; None: not mixed. Drawn on the CPU, whatever the device."""
        if self.mixup_alpha == 0 or torch.rand(()) >= self.mixup_prob:
            return None
        return float(torch.distributions.Beta(self.mixup_alpha, self.mixup_alpha).sample())

    def cross_entropy(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float(), label, label_smoothing=self.label_smoothing)

    def predict(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Logits (N, num_class); sees no labels."""
        return model(batch["data"])
