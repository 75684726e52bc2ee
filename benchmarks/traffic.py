"""Count the kernel launches, memory traffic and arithmetic of a training step on a GPU, without a GPU.

    python -m benchmarks.traffic                                    # every network at 64 clips
    python -m benchmarks.traffic --only CTR-GCN --batch 16 256
    python -m benchmarks.traffic --only CTR-GCN --bandwidth 1.6 --launch 8     # another GPU and host
    python -m benchmarks.traffic --only CTR-GCN --precision bfloat16 --kernels triton

Forward pass, loss and backward pass are traced on tensors without data. The operands and results of every operation
except views are counted; hits in the caches of the GPU are not modeled. Additional work of PyTorch on CUDA is counted
as well: a kernel for the bias of a convolution, one kernel for each gradient of a convolution, and a second pass over
the input of a batch norm, forward and backward. The optimizer and the making of the batch are not counted. In bfloat16,
all tensors are bfloat16: the conversions of the weights and operations that autocast computes in float32 are not
modeled.

The predicted times are a model, not a measurement. The time of the GPU is the sum over all kinds of operations, each
with the larger of its times for memory and for arithmetic. The time of the host is the time of all launches. Without a
CUDA graph, a step takes at least the larger of both.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from benchmarks.networks import SETTINGS, check_names, select_kernels
from benchmarks.reference import has_reference, reference
from data.cli import whole_number
from model import gpu
from torchlight.system.command import Parser
from torchlight.system.command import run as run_command
from torchlight.system.text import counted

META, CPU = torch.device("meta"), torch.device("cpu")
KINDS = {  # kind: words in the name of an operation; the first kind that matches is used
    "triton": ("skeleton::",),  # the kernels of this project
    "convolutions": ("convolution",),
    "norms": ("norm",),
    "products": ("bmm", "attention"),
    "linear": ("mm",),
    "pooling": ("pool",),
    "copies": ("clone", "copy", "cat", "stack", "index", "gather", "flip", "roll"),
    "sums": ("sum", "mean", "amax", "amin", "max", "min"),
}
POINTWISE = "pointwise"
TARGETS = 8  # joints per program in model/kernels/products.py, which cannot be imported without Triton
SHARE = {"convolutions": 0.7, "products": 0.7, "linear": 0.7, "triton": 0.7}  # of the bandwidth that kernels reach
OTHER_SHARE = 0.8
RATES = {  # TFLOP/s of the kinds whose arithmetic may take longer than their memory, on an H200
    "float32": {"convolutions": 200.0, "products": 15.0, "linear": 45.0, "triton": 20.0},
    "bfloat16": {"convolutions": 400.0, "products": 15.0, "linear": 400.0, "triton": 100.0},
}
FREE = ("detach", "empty", "new_empty", "_unsafe_view", "lift_fresh", "alias")  # nothing is read or written
WRITES_ONLY = ("ones", "zeros", "zero_", "full", "fill_", "arange", "scalar_tensor", "rand", "bernoulli")


@dataclass
class Cost:
    """Launches, bytes and floating point operations."""

    launches: int = 0
    bytes: int = 0
    flops: int = 0

    def __iadd__(self, other: "Cost") -> "Cost":
        self.launches += other.launches
        self.bytes += other.bytes
        self.flops += other.flops
        return self


def kind_of(name: str) -> str:
    """The kind of an operation: convolution_backward -> convolutions."""
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), POINTWISE)


def size(value: Any) -> int:
    """Bytes of all tensors in nested arguments; elements that are repeated by a stride of 0 are counted once."""
    total = 0
    for x in tree_leaves(value):
        if isinstance(x, Tensor):
            elements = 1
            for length, stride in zip(x.shape, x.stride(), strict=True):
                elements *= length if stride or length == 0 else 1
            total += elements * x.element_size()
    return total


def is_free(function: Any, name: str) -> bool:
    """Whether an operation does not launch a kernel, such as a view or an allocation."""
    aliases = [result.alias_info for result in function._schema.returns]
    return name.startswith(FREE) or any(alias is not None and not alias.is_write for alias in aliases)


def cost_of_kernel(name: str, args: tuple, out: Any) -> Cost:
    """The cost of an operator of model/kernels/. Partial sums, which are small, are not counted."""
    lists = [x for x in args if isinstance(x, list)]
    if name == "sum_of_gradients":
        return Cost(1, size((args, out)))
    if lists:  # norms: one launch for each map, and one to combine the sums
        return Cost(len(lists[0]) + (name in ("statistics", "masked_gradient")), size((args, out)))
    weight, psi, phi, _, T, *_ = args
    N, _, V, _, _ = T.shape
    topologies, products = 2 * N * weight.numel() * V * V, 2 * T.numel() * V
    if name == "refined_products":
        return Cost(1, size((args, out)), topologies + products)
    read_again = size((weight, psi, phi, args[-1]))  # by the second kernel
    partial = 4 * N * -(-V // TARGETS) * (weight.numel() + psi.numel() // N)  # float32
    return Cost(6, size((args, out)) + read_again + 2 * partial, 3 * topologies + 2 * products)


def cost_of(function: Any, args: tuple, kwargs: dict, out: Any) -> Cost:
    """The cost of one operation of PyTorch on CUDA."""
    name = function._schema.name.removeprefix("aten::")
    if is_free(function, name):
        return Cost()
    if name.startswith("skeleton::"):
        return cost_of_kernel(name.removeprefix("skeleton::"), args, out)
    kwargs = {key: value for key, value in kwargs.items() if key != "out"}  # written, not read
    count = flop_registry.get(function._overloadpacket)
    flops = count(*args, **kwargs, out_val=out) if count else 0
    if name == "convolution":
        bias = args[2] is not None
        return Cost(1 + bias, size((args, kwargs, out)) + 2 * bias * size(out), flops)
    if name == "convolution_backward":
        gradient, x, weight = args[:3]
        passes = ((gradient, weight, out[0]), (gradient, x, out[1]), (gradient, out[2]))
        wanted = [part for part, needed in zip(passes, args[-1], strict=True) if needed]
        return Cost(len(wanted), size(wanted), flops)
    if name.startswith("native_batch_norm"):
        return Cost(2, size((args, kwargs, out)) + size(args[:2] if "backward" in name else args[0]), flops)
    written = size(out) if function._schema.returns else size(args[0])
    if name == "copy_":
        return Cost(1, size(args[1]) + written, flops)
    read = 0 if name.removeprefix("new_").startswith(WRITES_ONLY) else size((args, kwargs))
    return Cost(1, read + written, flops)


def is_channels_last(x: Tensor) -> bool:
    """Whether the memory format of a map (N, C, H, W) is channels last, and not also contiguous."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def to_channels_last(x: Any) -> Any:
    """A map without data in this memory format."""
    return torch.empty_like(x, memory_format=torch.channels_last) if isinstance(x, Tensor) and x.dim() == 4 else x


class Counter(TorchDispatchMode):
    """A context that sums the costs of all operations, {kind: Cost}."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: dict[str, Cost] = defaultdict(Cost)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if "convolution" in function._schema.name and is_channels_last(args[0]):
            out = tree_map(to_channels_last, out)
        cost = cost_of(function, args, kwargs or {}, out)
        if cost.launches:
            self.costs[kind_of(function._schema.name.removeprefix("aten::"))] += cost
        return out


def training_step(model: nn.Module, data: Tensor, label: Tensor) -> dict[str, Cost]:
    """The costs of forward pass, loss and backward pass in the precision of the model, {kind: Cost}."""
    model, data, label = model.to(META).train(), data.to(META), label.to(META)
    with Counter() as counter:
        F.cross_entropy(model(data), label).backward()
    return dict(counter.costs)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    whole = Cost()
    for cost in costs:
        whole += cost
    return whole


def predict(costs: dict[str, Cost], args: argparse.Namespace) -> tuple[float, float]:
    """Predicted seconds of the GPU, and of the host for the launches."""
    rates = {kind: getattr(args, kind) or rate for kind, rate in RATES[args.precision].items()}
    seconds = 0.0
    for kind, cost in costs.items():
        memory = cost.bytes / (1e12 * args.bandwidth * SHARE.get(kind, OTHER_SHARE))
        seconds += max(memory, cost.flops / (1e12 * rates[kind]) if kind in rates else 0.0)
    return seconds, 1e-6 * args.launch * total(costs.values()).launches


def report(title: str, clips: int, costs: dict[str, Cost], args: argparse.Namespace) -> None:
    """Print one step."""
    print(f"{title}\n{'':<16}{'launches':>10}{'GB':>10}{'GFLOP':>10}")
    rows = sorted(costs.items(), key=lambda item: -item[1].bytes)
    for kind, cost in [*rows, ("total", total(costs.values()))]:
        print(f"{kind:<16}{cost.launches:>10,}{cost.bytes / 1e9:>10,.1f}{cost.flops / 1e9:>10,.0f}")
    gpu, host = predict(costs, args)
    print(
        f"predicted: GPU {1e3 * gpu:.1f} ms, host {1e3 * host:.1f} ms; {clips / max(gpu, host):,.0f} clips/s, "
        f"{clips / gpu:,.0f} with a CUDA graph\n",
        flush=True,
    )


def build_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="python -m benchmarks.traffic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.option("only", nargs="+", default=list(SETTINGS), metavar="NETWORK", help=f"of {', '.join(SETTINGS)}")
    parser.option("batch", nargs="+", type=whole_number(1, 10**6), default=[64], help="clips in a batch (64)")
    parser.option("precision", choices=RATES, default="float32", help="data type (float32)")
    parser.option("kernels", choices=gpu.KERNELS, default="auto", help="kernels of CTR-GCN (auto)")
    parser.option("bandwidth", type=float, default=4.3, help="TB/s of the memory (4.3: H200)")
    parser.option("launch", type=float, default=6.0, help="microseconds of the host per launch (6: an assumption)")
    for kind, what in (
        ("convolutions", "convolutions; 200 is TF32, 45 would be without"),
        ("products", "batched matrix products with sizes such as 25 joints"),
        ("linear", "linear layers"),
        ("triton", "Triton kernels; an assumption"),
    ):
        rates = " or ".join(f"{rate[kind]:g} in {precision}" for precision, rate in RATES.items())
        parser.option(kind, type=float, metavar="TFLOP/S", help=f"{what} ({rates})")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return run_command(act, argv)


def act(argv: list[str]) -> None:
    """Count and print the training steps of the selected networks."""
    args = build_parser().parse_args(argv)
    check_names(args.only)
    for name in ("bandwidth", "launch", *RATES["float32"]):
        if getattr(args, name) is not None and not 0 < getattr(args, name) < float("inf"):
            raise ValueError(f"--{name}: expected a number above 0, got {getattr(args, name)}")
    dtype = getattr(torch, args.precision)
    for name in args.only:
        setting = SETTINGS[name]
        for batch in args.batch:
            model = setting.build(CPU)
            sides = {"reference": reference(model)} if has_reference(model) else {}
            select_kernels(model, args.kernels)
            for side, network in (sides | {"this project": model}).items():
                data, label = setting.clips(batch, META)
                costs = training_step(network.to(dtype), data.to(dtype), label)
                where = f"{name}, {side}, {counted(batch, 'clip')} of {setting.frames} frames"
                report(where, batch, costs, args)


if __name__ == "__main__":
    sys.exit(main())
