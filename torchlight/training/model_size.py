"""Parameters, multiply-adds and activation memory of a network."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """The number of all parameters, trained or not."""
    return sum(p.numel() for p in model.parameters())


def count_multiply_adds(model: nn.Module, data: torch.Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products of a forward pass in evaluation mode.

    Data and parameters on the meta device are counted without computing anything.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the counter does not know all fused attentions
        model.eval()(data)
    return counter.get_total_flops() // 2


def model_size(model: nn.Module, shape: tuple[int, int, int, int]) -> dict[str, str]:
    """Parameters, and multiply-adds and memory of one clip (C, T, V, M), or of heatmaps (K, T, H, W).

    Multiply-adds are those of convolutions and matrix products in eval mode (PyTorch's counter); activation memory is
    the memory of tensors saved for the backward pass in float32, without parameters. It is measured with two clips,
    because batch norm needs two, and halved.
    """
    data = torch.zeros(1, *shape)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    parameters, multiply_adds = count_parameters(model), count_multiply_adds(model, data)
    kept = kept_for_backward(model, data.expand(2, -1, -1, -1, -1)) / 2
    return {
        f"input ({'K, T, H, W' if getattr(model, 'takes_heatmaps', False) else 'C, T, V, M'})": str(tuple(shape)),
        "parameters": f"{parameters:,}"
        + (f" ({parameters - trainable:,} never trained)" if trainable < parameters else ""),
        "multiply-adds of one clip": f"{multiply_adds / 1e9:.3f} G",
        "activation memory of one clip in training": f"{kept / 2**20:.1f} MiB",
    }


def kept_for_backward(model: nn.Module, data: torch.Tensor) -> int:
    """Bytes that a forward pass in training saves for the backward pass, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model.train()(data)
    del output
    return sum(kept.values())
