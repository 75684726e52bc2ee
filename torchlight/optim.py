"""Optimizers and learning-rate schedules."""

import torch
from torch import nn

from torchlight.config import Optimization


def build_optimizer(recipe: Optimization, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over every trainable parameter, batch norm and biases included."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    common = {"lr": recipe.base_lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "SGD":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.nesterov, **common)
    return {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[recipe.optimizer](parameters, **common)


def learning_rate(recipe: Optimization, epoch: int) -> float:
    """The learning rate of an epoch (from 0): base_lr (e + 1) / warm_up_epoch during the warm-up, then base_lr times
    lr_decay_rate to the number of steps that lie at or before e."""
    if epoch < recipe.warm_up_epoch:
        return recipe.base_lr * (epoch + 1) / recipe.warm_up_epoch
    return recipe.base_lr * recipe.lr_decay_rate ** sum(epoch >= s for s in recipe.step)
