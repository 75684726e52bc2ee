"""Batch norm folded into the convolutions before it, for inference: the same numbers with fewer passes over memory.

A network says that this is exact for it, and is then evaluated so, by the line `for_inference = fold` in its class. A subclass does not
inherit that: it may read a convolution elsewhere, share it or watch it by a hook, and is evaluated as it is until it says so itself.
"""

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def fold(model: nn.Module) -> nn.Module:
    """A copy in evaluation whose batch norms are merged into the convolutions that they directly follow; logits equal up to rounding.

    What follows what is read off an `nn.Sequential`, and elsewhere off the part's `norm_after`. A norm behind a pooling or a topology
    stays. The copy has other weights: no checkpoint is written from it or read into it, and it is not for training.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for part in model.modules():
        for owner, name, convs in list(pairs(part)):
            fold_norm(convs, getattr(owner, name))
            setattr(owner, name, nn.Identity())
    return model


def pairs(part: nn.Module) -> Iterator[tuple[nn.Module, str, Iterable[nn.Module]]]:
    """Where a norm sits, (owner, name), and the convolutions whose sum it normalises."""
    if isinstance(part, nn.Sequential):
        for (_, before), (name, layer) in zip(list(part.named_children()), list(part.named_children())[1:], strict=False):
            if isinstance(layer, NORMS) and isinstance(before, CONVOLUTIONS):
                yield part, name, [before]
    for conv, norm in getattr(part, "norm_after", {}).items():
        before = part.get_submodule(conv)
        if isinstance(getattr(part, norm), NORMS):  # and not folded before
            yield part, norm, list(before) if isinstance(before, nn.ModuleList) else [before]


@torch.no_grad()
def fold_norm(convs: Iterable[nn.Module], norm: nn.Module) -> None:
    """Scale every convolution, and shift the first: norm(sum of conv(x)) becomes sum of conv(x)."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)  # rounded once, with the weights
    for i, conv in enumerate(convs):
        conv.weight.mul_(scale.view(-1, *(1,) * (conv.weight.dim() - 1)))
        conv.bias.mul_(scale)
        if i == 0:
            conv.bias.add_(norm.bias - scale * norm.running_mean)
