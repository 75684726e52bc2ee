"""CUDA graphs without a GPU: CPU operations are recorded, and repeated on the same memory with the same Python numbers,
just as a graph repeats its kernels."""

from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchlight.training import cuda_graph


class FakeGraph:
    """The interface of `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def pool(self) -> str:
        return "pool"

    def replay(self) -> None:
        with torch.no_grad():
            for function, args, kwargs, out in self.calls:
                results = function._schema.returns
                made = tree_leaves(function(*args, **kwargs))
                is_new = len(results) == 0 or results[0].alias_info is None
                for old, new in zip(tree_leaves(out), made, strict=True):
                    if isinstance(old, Tensor) and is_new and old is not new:
                        old.copy_(new)


class Recorder(TorchDispatchMode):
    """Records every operation with its arguments and results."""

    def __init__(self, calls: list[tuple]):
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, out))
        return out


def pretend_graphs(monkeypatch, changed: Iterable[Tensor]) -> list[FakeGraph]:
    """Make `StepGraphs` work on the CPU; returns the list of its graphs.

    changed: tensors that the recorded function changes; a recording executes nothing, so they keep their values.
    """
    graphs: list[FakeGraph] = []

    @contextmanager
    def record(graph: FakeGraph, pool: Any, capture_error_mode: str):
        assert pool == ("pool" if graphs else None) and capture_error_mode == "thread_local"
        graphs.append(graph)
        saved, generator = [x.detach().clone() for x in changed], torch.get_rng_state()
        try:
            with Recorder(graph.calls):
                yield
        except RuntimeError as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        for x, value in zip(changed, saved, strict=True):
            x.detach().copy_(value)
        torch.set_rng_state(generator)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(cuda_graph, "run_beside", lambda function, batches: function(batches))
    monkeypatch.setattr(cuda_graph, "WARM_UP", 1)
    return graphs
