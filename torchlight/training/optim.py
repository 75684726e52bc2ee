"""Optimizers, parameter groups, schedules and the moving average of weights: functions of the recipe."""

import copy
import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from torchlight.config.options import Optimization


def build_optimizer(
    recipe: Optimization, model: nn.Module, fused: bool = False, backbone: Collection[str] = ()
) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable parameters; `fused`: one kernel per step, without a host
    synchronization.

    With `decay_all`, weight decay is applied to all of them, including batch norms and biases, as in the published code
    of most papers; without it, vectors and biases are a first group without weight decay (TSGCNeXt). The parameters in
    `backbone` are separate groups if they have a different learning rate (`backbone_lr`).
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    slow = set(backbone) if recipe.backbone_lr != 1 else set()
    groups: list[dict[str, Any]] = []
    for of_backbone in (False, True) if slow & trained.keys() else (False,):
        names = [name for name in trained if (name in slow) == of_backbone]
        plain = [] if recipe.decay_all else [n for n in names if trained[n].ndim == 1 or n.endswith(".bias")]
        decayed = [name for name in names if name not in set(plain)]
        for some, decay in ((plain, 0.0), (decayed, recipe.weight_decay)):
            if some:
                group = {"params": [trained[name] for name in some], "weight_decay": decay}
                groups.append(group | ({"lr_factor": recipe.backbone_lr} if of_backbone else {}))
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
    """Initialize the missing momentum buffers of a fused SGD with zeros.

    PyTorch allocates them without a value, which stays there if the first step is skipped (float16), and its fused step
    fails if only some parameters have a buffer (those that were not frozen).
    """
    for group in optimizer.param_groups:
        if group["fused"] and group.get("momentum"):
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter)


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state dict, also one from another device; `fused` and settings that it lacks keep their values."""
    own = optimizer.state_dict()["param_groups"]
    groups = [one | saved | {"fused": one["fused"]} for one, saved in zip(own, state["param_groups"], strict=True)]
    optimizer.load_state_dict(state | {"param_groups": groups})
    fill_momentum(optimizer)


def learning_rate(recipe: Optimization, step: int, steps_per_epoch: int) -> float:
    """The learning rate of an optimizer step (from 0).

    lr_interval epoch: constant within an epoch e; warm-up base_lr (e + 1) / W over W epochs, then
    base_lr lr_decay_rate^(number of milestones <= e), or the cosine over the remaining epochs.
    lr_interval step: i counts optimizer steps, W those of the warm-up; base_lr i / (W - 1), which starts at 0, then the
    cosine min_lr + (base_lr - min_lr) / 2 (1 + cos(pi (i - W) / (total - W))), whose last value is just above min_lr.
    warm_up_interval: as lr_interval, for the warm-up alone.
    warm_up_lr (timm): the warm-up is warm_up_lr + (base_lr - warm_up_lr) i / W and covers the beginning of the cosine,
    whose share is then i / total.
    """
    epoch, W = step // steps_per_epoch, recipe.warm_up_epoch
    by_epoch = (recipe.warm_up_interval or recipe.lr_interval) == "epoch"
    now, warm = (epoch, W) if by_epoch else (step, W * steps_per_epoch)
    if now < warm:
        if recipe.warm_up_lr is not None:
            return recipe.warm_up_lr + now * (recipe.base_lr - recipe.warm_up_lr) / warm
        return recipe.base_lr * ((now + 1) / W if by_epoch else now / max(warm - 1, 1))
    if recipe.lr_schedule == "step":
        return recipe.base_lr * recipe.lr_decay_rate ** sum(epoch >= s for s in recipe.step)
    now, per_epoch = (epoch, 1) if recipe.lr_interval == "epoch" else (step, steps_per_epoch)
    warm, total = 0 if recipe.warm_up_lr is not None else W * per_epoch, recipe.num_epoch * per_epoch
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
    """Set learning rate (times the `lr_factor` of a group) and weight decay of this step in all groups that have them;
    returns the learning rate."""
    lr, decay = learning_rate(recipe, step, steps_per_epoch), weight_decay(recipe, step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
        if group["weight_decay"] > 0:
            group["weight_decay"] = decay
    return lr


class MovingAverage:
    """e <- decay e + (1 - decay) m after every optimizer step, including running statistics (as in timm's ModelEma)."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        averages, values = distinct_places(self.model), distinct_places(model)
        pairs = list(zip(averages, values, strict=True))
        self.real = [(a, v) for a, v in pairs if a[0][a[1]].is_floating_point()]
        self.counters = [(a, v) for a, v in pairs if not a[0][a[1]].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after one optimizer step; integer entries are copied."""
        averages, values = tensors_at(self.real)
        torch._foreach_mul_(averages, self.decay)  # all entries in a few kernels
        torch._foreach_add_(averages, values, alpha=1 - self.decay)
        if self.counters:
            torch._foreach_copy_(*tensors_at(self.counters))


Place = tuple[dict, str]  # the parameters or buffers of a module, and the name of one of them


def distinct_places(model: nn.Module) -> list[Place]:
    """The places of the tensors of the state dict in the modules; a tensor with two names occurs once.

    Places are used because a module may replace its buffers, and because building a state dict in every step would take
    longer than the update.
    """
    places = {}
    for name, value in model.state_dict(keep_vars=True).items():
        prefix, _, key = name.rpartition(".")
        module = model.get_submodule(prefix)
        places.setdefault(id(value), (module._parameters if key in module._parameters else module._buffers, key))
    return list(places.values())


def tensors_at(pairs: list[tuple[Place, Place]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The tensors at the first and at the second places."""
    return [table[key] for (table, key), _ in pairs], [table[key] for _, (table, key) in pairs]


def set_frozen(model: nn.Module, words: list[str], frozen: bool) -> list[str]:
    """Freeze or release the parameters whose names contain one of `words`; returns their names.

    A frozen parameter has no gradient, so weight decay and momentum do not change it.
    """
    names = [name for name, _ in model.named_parameters() if any(word in name for word in words)]
    for name, parameter in model.named_parameters():
        if name in set(names):
            parameter.requires_grad_(not frozen)
            parameter.grad = None
    return names
