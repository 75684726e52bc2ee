"""Optimizers, parameter groups, schedules and the moving average of weights: functions of the recipe."""

import copy
import math
from typing import Any

import torch
from torch import nn

from torchlight.config.options import Optimization


def build_optimizer(recipe: Optimization, model: nn.Module, fused: bool = False) -> torch.optim.Optimizer:
    """The recipe's optimizer over every parameter that is ever trained; `fused`: a step is one kernel, and asks the device for nothing.

    With `decay_all` one group takes the weight decay, batch norm and biases included, as the field does; without it, vectors and
    biases are a first group without decay (TSGCNeXt).
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    plain = [] if recipe.decay_all else [name for name, p in trained.items() if p.ndim == 1 or name.endswith(".bias")]
    decayed = {
        "params": [p for name, p in trained.items() if name not in set(plain)],
        "weight_decay": recipe.weight_decay,
    }
    groups = [{"params": [trained[name] for name in plain], "weight_decay": 0.0}, decayed] if plain else [decayed]
    if recipe.optimizer == "SGD":
        sgd = torch.optim.SGD(
            groups, lr=recipe.base_lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused or None
        )
        fill_momentum(sgd)
        return sgd
    return {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[recipe.optimizer](
        groups, lr=recipe.base_lr, fused=fused or None
    )


def fill_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give a fused SGD the momentum that it lacks, zeros, which are as good as none.

    By itself it begins with memory as it finds it, and goes on with that if the first step is skipped (float16); and it cannot step where
    some parameters have a momentum and others, frozen so far, have none.
    """
    for group in optimizer.param_groups:
        if group["fused"] and group.get("momentum"):
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter)


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over a state dict, perhaps one of another device: whether steps are fused stays as it is here."""
    groups = [
        saved | {"fused": own["fused"]}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict(state | {"param_groups": groups})
    fill_momentum(optimizer)


def learning_rate(recipe: Optimization, step: int, steps_per_epoch: int) -> float:
    """The learning rate of an optimizer step (from 0).

    lr_interval epoch: constant within an epoch e; warm-up base_lr (e + 1) / W, then base_lr lr_decay_rate^(milestones at or before e),
    or the cosine over the epochs that remain.
    lr_interval step: i counts optimizer steps; warm-up base_lr i / (W - 1), which begins at 0; then the cosine
    min_lr + (base_lr - min_lr) / 2 (1 + cos(pi (i - W) / (total - W))), which ends just above min_lr.
    """
    epoch = step // steps_per_epoch
    if recipe.lr_interval == "epoch":
        now, warm, total, warming = (
            epoch,
            recipe.warm_up_epoch,
            recipe.num_epoch,
            (epoch + 1) / max(recipe.warm_up_epoch, 1),
        )
    else:
        warm, total = recipe.warm_up_epoch * steps_per_epoch, recipe.num_epoch * steps_per_epoch
        now, warming = step, step / max(warm - 1, 1)
    if now < warm:
        return recipe.base_lr * warming
    if recipe.lr_schedule == "step":
        return recipe.base_lr * recipe.lr_decay_rate ** sum(epoch >= s for s in recipe.step)
    return cosine(recipe.base_lr, recipe.min_lr, (now - warm) / max(total - warm, 1))


def weight_decay(recipe: Optimization, step: int, steps_per_epoch: int) -> float:
    """The weight decay of an optimizer step: constant, or a cosine to weight_decay_end."""
    if recipe.weight_decay_end is None:
        return recipe.weight_decay
    return cosine(recipe.weight_decay, recipe.weight_decay_end, step / (recipe.num_epoch * steps_per_epoch))


def cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` (share 0) to `end` (share 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def set_schedule(optimizer: torch.optim.Optimizer, recipe: Optimization, step: int, steps_per_epoch: int) -> float:
    """Give every group the learning rate of this step, and the groups with weight decay theirs. Returns the learning rate."""
    lr, decay = learning_rate(recipe, step, steps_per_epoch), weight_decay(recipe, step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = lr
        if group["weight_decay"] > 0:
            group["weight_decay"] = decay
    return lr


class MovingAverage:
    """e <- decay e + (1 - decay) m after every optimizer step, running statistics included, no ramp at the start (timm's ModelEma)."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after one optimizer step; counters are copied."""
        own, new = list(self.model.state_dict().values()), list(model.state_dict().values())
        real = [i for i, value in enumerate(own) if value.is_floating_point()]
        averages = [own[i] for i in real]
        torch._foreach_mul_(averages, self.decay)  # all entries in a few kernels
        torch._foreach_add_(averages, [new[i] for i in real], alpha=1 - self.decay)
        counters = sorted(set(range(len(own))) - set(real))
        if counters:
            torch._foreach_copy_([own[i] for i in counters], [new[i] for i in counters])


def set_frozen(model: nn.Module, words: list[str], frozen: bool) -> list[str]:
    """Freeze or release the parameters whose name contains one of `words`; returns their names.

    A frozen parameter gets no gradient, so neither weight decay nor momentum touches it.
    """
    names = [name for name, _ in model.named_parameters() if any(word in name for word in words)]
    for name, parameter in model.named_parameters():
        if name in set(names):
            parameter.requires_grad_(not frozen)
            parameter.grad = None
    return names
