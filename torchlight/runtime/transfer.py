"""Moving many small tensors as one, because each transfer between devices or processes has a fixed cost."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def together(tensors: Sequence[Tensor], move: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Apply `move` to every tensor, with one call for all tensors of the same type and device.

    move: flat tensor (n,) -> tensor (n,) of the same type. The results are contiguous and share no memory.

    >>> together([torch.ones(2), torch.zeros(1, 1)], lambda x: x + 1)
    [tensor([2., 2.]), tensor([[1.]])]
    """
    groups: dict[tuple, list[int]] = {}
    for i, tensor in enumerate(tensors):
        groups.setdefault((tensor.dtype, tensor.device), []).append(i)
    moved: dict[int, Tensor] = {}
    for members in groups.values():
        whole = move(torch.cat([tensors[i].detach().reshape(-1) for i in members]))
        for i, part in zip(members, whole.split([tensors[i].numel() for i in members]), strict=True):
            moved[i] = part.view(tensors[i].shape).clone()
    return [moved[i] for i in range(len(tensors))]
