"""Fusion of batch norms into the preceding convolutions, for evaluation: the same logits with fewer memory passes.

A network opts in with `for_inference = fuse_norms` in its class (`model.network.Network.for_inference`). The pairs of
convolutions and norms are found in every `nn.Sequential` and in the attribute `norm_after` of other modules.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@runtime_checkable
class DeclaresNorms(Protocol):
    """A module whose forward pass applies a batch norm only to the output of a convolution.

    norm_after: {name of the convolution: name of the norm}. The first name may be a dotted path, or name a
    `ModuleList` whose convolutions are summed before the norm.
    """

    norm_after: ClassVar[Mapping[str, str]]


def fuse_norms(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with the batch norms fused into the convolutions that they directly follow.

    The logits are equal up to rounding. Norms after a pooling or a topology are not fused. The copy has different
    weights: do not use it for training, and do not write checkpoints from it or load them into it.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for module in model.modules():
        for owner, name, convs in list(convs_and_norms(module)):
            fuse(convs, getattr(owner, name))
            setattr(owner, name, nn.Identity())
    return model


def convs_and_norms(module: nn.Module) -> Iterator[tuple[nn.Module, str, list[nn.Module]]]:
    """(owner, name) of every norm that can be fused, and the convolutions whose sum it normalizes."""
    if isinstance(module, nn.Sequential):
        layers = list(module.named_children())
        for (_, before), (name, layer) in zip(layers, layers[1:], strict=False):
            if isinstance(layer, NORMS) and isinstance(before, CONVOLUTIONS):
                yield module, name, [before]
    if isinstance(module, DeclaresNorms):
        for conv, norm in module.norm_after.items():
            before = module.get_submodule(conv)
            if isinstance(getattr(module, norm), NORMS):  # not yet fused
                yield module, norm, list(before) if isinstance(before, nn.ModuleList) else [before]


@torch.no_grad()
def fuse(convs: Iterable[nn.Module], norm: nn.Module) -> None:
    """norm(sum of conv(x)) becomes sum of conv(x): every convolution is scaled, and the first one shifted."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)  # float64: rounded only once
    for i, conv in enumerate(convs):
        if conv.bias is None:
            conv.bias = nn.Parameter(torch.zeros_like(norm.bias), requires_grad=False)
        conv.weight.mul_(scale.view(-1, *(1,) * (conv.weight.dim() - 1)))
        conv.bias.mul_(scale.view_as(conv.bias))
        if i == 0:
            conv.bias.add_((norm.bias - scale * norm.running_mean).view_as(conv.bias))
