"""The device of a process, its numerical precision, and the wrappers of a network for several devices."""

import inspect
import logging
import os
import socket
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from torchlight.config.options import Config, ConfigError
from torchlight.runtime import distributed
from torchlight.runtime.malloc import keep_memory

log = logging.getLogger("torchlight")


def choose_device(config: Config) -> torch.device:
    """The device of this process, prepared for the run; falls back to the CPU with a warning if no GPU is available.

    Raises:
        ConfigError: there is no such GPU, or an option needs one.
    """
    wanted, local_rank = config.device, int(os.environ.get("LOCAL_RANK", 0))
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if set(wanted) == {"cpu"} or not torch.cuda.is_available():
        if config.sync_bn:
            raise ConfigError(["sync_bn: expected false on the CPU, got true; PyTorch supports it on GPUs only"])
        if set(wanted) != {"cpu"}:
            asked = f" (requested: {' '.join(wanted)})" if wanted else ""
            log.warning("no GPU available%s: running on the CPU (%d threads)", asked, torch.get_num_threads())
        keep_memory()
        return torch.device("cpu")
    count = torch.cuda.device_count()
    bound = count == 1 and "SLURM_STEP_ID" in os.environ  # SLURM may restrict each task to its own GPU
    if 0 < len(wanted) < ranks and not bound:
        raise ConfigError(
            [f"device: expected {ranks} GPU numbers, one for each process, or none, got {' '.join(wanted)}"]
        )
    number = wanted[local_rank] if local_rank < len(wanted) else "0" if bound else str(local_rank)
    if not (number.isascii() and number.isdigit()) or int(number) >= count:
        raise ConfigError([f"device: expected cpu or GPU numbers below {count}, got {' '.join(wanted)}"])
    device = torch.device("cuda", int(number))
    torch.cuda.set_device(device)
    set_arithmetic(config)
    return device


def set_arithmetic(config: Config) -> None:
    """Set TF32 and the algorithms that GPUs may use, for the whole process."""
    torch.backends.cudnn.allow_tf32 = config.tf32 is not False
    torch.backends.cuda.matmul.allow_tf32 = config.tf32 is True
    # the shapes are constant in training, so benchmarking the algorithms of a convolution once saves time
    torch.backends.cudnn.benchmark = config.phase == "train" and not config.deterministic
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads memory before it is written


def check_distinct(device: torch.device) -> None:
    """Raise ValueError if two processes of the group have the same GPU."""
    own = device.type == "cuda" and f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}"
    used = [name for name in distributed.gather(own) if name]
    if len(set(used)) < len(used):
        raise ValueError(
            f"device: expected one GPU per process, got {len(set(used))} GPU(s) for {len(used)} processes; start "
            "fewer processes"
        )


def device_name(device: torch.device) -> str:
    """The name of a device for the log."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"


def autocast(config: Config, device: torch.device) -> AbstractContextManager:
    """The context of a forward pass in the configured precision."""
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, config.precision))


def wrap(model: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """The network in DDP and torch.compile, as configured; it shares its weights with `model`."""
    if distributed.world_size() > 1:
        # known for 1x1 convolutions with the channels last; it costs a copy of small gradients
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        options: dict[str, Any] = {"device_ids": [device.index] if device.type == "cuda" else None}
        # training does not read running statistics; those of rank 0 are tested and saved
        known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
        options["forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"] = False
        model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, **options)
    return torch.compile(model) if config.compile else model


def synchronize_norms(model: nn.Module) -> None:
    """Convert the batch norms of `model` to SyncBatchNorm, in place.

    Unlike `SyncBatchNorm.convert_sync_batchnorm`, this does not replace the forward pass of subclasses.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            kind = type(module)
            module.__class__ = type(f"Sync{kind.__name__}", (kind, nn.SyncBatchNorm), {"process_group": None})
