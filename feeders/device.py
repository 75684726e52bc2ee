"""Copies from the host to a device without synchronization. A plain copy waits for all work that was submitted
before."""

from functools import lru_cache

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the host to a device."""
    return x if device.type == "cpu" else x.pin_memory().to(device, non_blocking=True)


@lru_cache(maxsize=256)
def constant(values: tuple[int, ...] | tuple[float, ...], device: torch.device) -> Tensor:
    """A small table, (n,) int64 or float64, sent to each device once."""
    return send(torch.tensor(values, dtype=torch.float64 if isinstance(values[0], float) else torch.int64), device)
