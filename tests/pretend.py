"""A simulated GPU: tensors that report a CUDA device, are stored in main memory, and obey the rules of a real GPU."""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
LOOKUPS = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}  # accept indices on the host
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}


class OnGpu(Tensor):
    """A tensor on the simulated GPU; `held` is the tensor with its values. For the C++ code of PyTorch, its device is
    "meta"."""

    device = property(lambda self: torch.device("cuda:0"))
    is_cuda = property(lambda self: True)

    @staticmethod
    def __new__(cls, held: Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
        )

    def __init__(self, held: Tensor):
        self.held = held

    def __repr__(self, **_) -> str:
        return f"OnGpu({self.held})"

    def tolist(self) -> list:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} outside of the simulation")


class Gpu(TorchDispatchMode):
    """Runs the operations of the simulated GPU.

    waits: operations for which the host would have waited. crossings: operations that copy values from or to the host.
    count: number of all operations.

    Raises:
        RuntimeError: an operation combines tensors of host and GPU in a way that CUDA does not allow.
    """

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []
        self.crossings: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with self:  # in inference mode, composite operations are not decomposed before they arrive here
            out = function.decompose(*args, **kwargs)
        return self.run(function, args, kwargs) if out is NotImplemented else out

    def run(self, function, args: tuple, kwargs: dict):
        """Run one operation that is not composite."""
        tensors: list[Tensor] = []
        self.count += 1
        tree_map(lambda x: tensors.append(x) if isinstance(x, Tensor) else None, (args, kwargs))
        here = [isinstance(x, OnGpu) for x in tensors]
        target = kwargs.get("device")
        away = any(here) if target is None else torch.device(target).type in ("cuda", "meta")
        if function in COPIES:
            if away and all(here) and target is not None and kwargs.get("dtype") in (None, args[0].dtype):
                return args[0]  # already on the GPU
            crosses = not all(here) if away else any(here)
            if crosses:
                self.crossings.append(str(function))
            if crosses and not kwargs.get("non_blocking") and True not in args[2:]:
                self.waits.append(str(function))
        elif any(here):
            if not all(here) or function in WAITS:
                self.crossings.append(str(function))
            wrong = [x for x, there in zip(tensors, here, strict=True) if not there and x.dim()]
            if wrong and not (function in LOOKUPS and here[0]):
                raise RuntimeError(
                    f"{function}: expected all tensors to be on the same device, found {wrong[0]} of the host"
                )
            if function in WAITS or wrong or function in LOOKUPS and any(x.dtype == torch.bool for x in tensors[1:]):
                self.waits.append(str(function))
        if target is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        if kwargs.get("pin_memory"):
            kwargs = kwargs | {"pin_memory": False}
        held = tree_map(lambda x: x.held if isinstance(x, OnGpu) else x, (args, kwargs))
        out = function(*held[0], **held[1])
        given = {id(x.held): x for x in tensors if isinstance(x, OnGpu)}  # in-place results stay the same tensor
        return tree_map(
            lambda x: given[id(x)] if id(x) in given else OnGpu(x) if away and isinstance(x, Tensor) else x, out
        )


@contextmanager
def gpu(monkeypatch):
    """Make `to("cuda:0")` work without a GPU, for tensors and modules."""
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**34, 2**34))
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    with Gpu() as mode:
        yield mode
