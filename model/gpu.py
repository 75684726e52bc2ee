"""Selection of the kernels for GPUs in `model/kernels/`, which require Triton and replace PyTorch's operations."""

from contextlib import suppress
from types import ModuleType

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MAX_JOINTS = 32
KERNELS = ("auto", "torch", "triton")  # `auto` is the same as `torch`


def use_triton(kernels: str, block: nn.Module, x: Tensor) -> bool:
    """Whether Triton is selected and supports this training step.

    The input is on a GPU, or has no data, and has at most 32 bits and 32 joints, which fit into the shared memory of a
    Hopper GPU. All norms of the block use the statistics of the batch, and do not share them between GPUs.
    """
    if kernels != "triton" or not block.training or x.device.type not in ("cuda", "meta"):
        return False
    if x.dtype.itemsize > 4 or x.shape[-1] > MAX_JOINTS:
        return False
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    return all(type(norm) is nn.BatchNorm2d and norm.training for norm in norms)


def load_block() -> ModuleType:
    """The module `model.kernels.block`.

    Raises:
        ValueError: the package triton is missing or too old.
    """
    try:
        from model.kernels import block
    except ImportError as error:
        raise ValueError(
            f"kernels: expected auto or torch, because the kernels cannot be imported ({error}), got triton; "
            "pip install -r requirements/triton.txt"
        ) from error
    return block


def can_load_block() -> bool:
    """Whether Triton is installed, in a version that can compile the kernels."""
    with suppress(ValueError):
        return bool(load_block())
    return False
