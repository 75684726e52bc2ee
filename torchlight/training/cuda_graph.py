"""CUDA graphs: the kernels of a training step are recorded once and then started with one call.

A training step of a skeleton network consists of thousands of small kernels, and a GPU may finish one before the host
has launched the next. A graph repeats the kernels on the same memory, so each batch is copied to the memory of the
recorded batch.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from torchlight.config.options import Config, ConfigError
from torchlight.contract import Batch, is_graph_safe
from torchlight.runtime import distributed
from torchlight.system.command import RunError, is_out_of_memory

log = logging.getLogger("torchlight")

WARM_UP = 3  # steps without a graph, in which libraries choose their algorithms and one-time allocations are made


@dataclass
class Recording:
    """A graph, the batches that it reads, the gradients and the result that it writes."""

    graph: torch.cuda.CUDAGraph
    batches: list[Batch]
    gradients: list[tuple[nn.Parameter, Tensor]]
    result: Any


class StepGraphs:
    """Runs a function of batches on a GPU and replays it from the fourth call with batches of the same kind.

    Recording executes no kernels, so the results are always those of the function itself. The next replay overwrites
    them.

    parameters: those whose gradients the function computes; they are None before each run.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters = list(parameters)
        self.forget()

    def forget(self) -> None:
        """Discard all recordings, because the function changes."""
        self.runs: dict[tuple, int] = {}
        self.recordings: dict[tuple, Recording] = {}
        self.pool: Any = None  # memory that the graphs share; they never run at the same time

    def run(self, function: Callable[[list[Batch]], Any], batches: list[Batch]) -> Any:
        """`function(batches)`."""
        kind = kind_of(batches)
        self.runs[kind] = self.runs.get(kind, 0) + 1
        if self.runs[kind] <= WARM_UP:
            return run_beside(function, batches)
        if kind not in self.recordings:
            self.recordings[kind] = self.record(function, batches)
        recording = self.recordings[kind]
        for target, source in zip(recording.batches, batches, strict=True):
            for key, value in source.items():
                if isinstance(value, Tensor):
                    target[key].copy_(value, non_blocking=True)
        recording.graph.replay()
        for parameter, gradient in recording.gradients:
            parameter.grad = gradient
        return recording.result

    def record(self, function: Callable[[list[Batch]], Any], batches: list[Batch]) -> Recording:
        """Record the function for batches of this kind; nothing is executed."""
        assert all(parameter.grad is None for parameter in self.parameters), "gradients would be added to old ones"
        own = [{k: v.clone() if isinstance(v, Tensor) else v for k, v in batch.items()} for batch in batches]
        graph = torch.cuda.CUDAGraph()
        # other threads may continue to use the GPU: the thread of the loader pins memory
        try:
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                result = function(own)
        except RuntimeError as error:
            cause = error.__context__ or error  # ending the recording after an error raises another error
            if full := next(filter(is_out_of_memory, (error, cause)), None):
                raise full from None
            reason = " ".join(str(cause).split())[:300]
            raise RunError(f"the training step cannot be recorded ({reason}); give --cuda-graph false") from error
        self.pool = graph.pool()
        gradients = [(p, p.grad) for p in self.parameters if p.grad is not None]
        return Recording(graph, own, gradients, result)


def step_graphs(config: Config, device: torch.device, model: nn.Module, objective: nn.Module) -> StepGraphs | None:
    """The graphs for the option `cuda_graph`; None: no graphs.

    Raises:
        ConfigError: the option is true, but CUDA graphs cannot be used.
    """
    obstacles = [
        reason
        for found, reason in (
            (device.type != "cuda", "the network runs on the CPU"),
            (distributed.world_size() > 1, "several processes exchange their gradients"),
            (config.compile, "of compile"),
            (config.teacher_cache, "of teacher_cache"),
        )
        if found
    ]
    if config.cuda_graph is True and obstacles:
        raise ConfigError([f"cuda_graph: expected auto or false, because {' and '.join(obstacles)}, got true"])
    if config.cuda_graph == "auto":
        kinds = (type(part) for part in (model, objective) if not is_graph_safe(part))
        obstacles += [f"{kind.__module__}.{kind.__qualname__} does not set graph_safe = True" for kind in kinds]
        if obstacles and device.type == "cuda":
            log.info("cuda_graph: off, because %s", " and ".join(obstacles))
    return StepGraphs(model.parameters()) if config.cuda_graph and not obstacles else None


def kind_of(batches: list[Batch]) -> tuple:
    """The properties of batches that a recording depends on: names, shapes and types of tensors, and all other
    values."""
    return tuple(
        (key, (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else repr(value))
        for batch in batches
        for key, value in sorted(batch.items())
    )


@cache
def side_stream() -> torch.cuda.Stream:
    """The stream for warm-up steps, always the same one, because each stream has its own memory pool."""
    return torch.cuda.Stream()


def run_beside(function: Callable[[list[Batch]], Any], batches: list[Batch]) -> Any:
    """`function(batches)` on another stream, as PyTorch requires before a recording."""
    stream = side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = function(batches)
    torch.cuda.current_stream().wait_stream(stream)
    return result
