"""Objectives map (model, batch) to a loss; a paper's own loss is one more class with these two methods."""

import torch
from torch import nn
from torch.nn import functional as F

Batch = dict[str, torch.Tensor]


class Classification(nn.Module):
    """Cross entropy.

    Args:
        label_smoothing: share of the target spread evenly over all classes.
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: found {label_smoothing}; 0 <= label_smoothing < 1 is needed")
        self.label_smoothing = label_smoothing

    def forward(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """(loss, logits (N, num_class), further terms to log)."""
        logits = model(batch["data"])
        return F.cross_entropy(logits.float(), batch["label"], label_smoothing=self.label_smoothing), logits, {}

    def predict(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Logits (N, num_class); sees no labels."""
        return model(batch["data"])
