"""Process groups of torch.distributed; every function here also works in a single process."""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from torchlight.runtime.transfer import together


def start(device: torch.device) -> None:
    """Join the process group that a launcher describes in the environment, if any; processes on CPUs share the cores.

    Raises:
        RuntimeError: the other processes cannot be reached.
    """
    if "RANK" in os.environ and not dist.is_initialized():
        # gloo for CPU tensors: `gather` must not wait for the GPU
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(value: Any) -> list[Any]:
    """The values of all ranks, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def on_main(action: Callable[[], None]) -> None:
    """Call `action` on rank 0; its error is raised on every rank, so that no rank waits for the others."""
    error: Exception | None = None
    if rank() == 0:
        try:
            action()
        except Exception as found:
            found.on_every_rank = True
            error = found
    error = gather(error)[0]
    if error is not None:
        raise error


def broadcast_buffers(model: nn.Module) -> None:
    """Give every rank the buffers (running statistics) of rank 0."""
    if dist.is_initialized():
        buffers = list(model.buffers())
        for buffer, value in zip(buffers, together(buffers, send_from_main), strict=True):
            buffer.copy_(value)


def send_from_main(x: torch.Tensor) -> torch.Tensor:
    """The tensor of rank 0, on every rank."""
    dist.broadcast(x, 0)
    return x
