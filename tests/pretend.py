"""A GPU that is none: tensors that say they are on one, lie in main memory, and keep the rules of a real one."""

from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
LOOKUPS = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}  # take tensors of the host as places
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}


class OnGpu(Tensor):
    """A tensor of the pretended GPU; `held` is where it really lies. PyTorch's own C++ takes it for one on the device
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
        raise AssertionError(f"{function} outside of the pretence")


class Gpu(TorchDispatchMode):
    """Runs what is asked of the GPU; `waits` are the operations for which the host would have waited, `crossings` those
    that take values of the host or return them to it, `count` is the number of all.

    Raises:
        RuntimeError: tensors of both sides meet where CUDA would not have it.
    """

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []
        self.crossings: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with self:  # in inference mode, operations that are made of others come whole
            out = function.decompose(*args, **kwargs)
        return self.run(function, args, kwargs) if out is NotImplemented else out

    def run(self, function, args: tuple, kwargs: dict):
        """One operation that is not made of others."""
        tensors: list[Tensor] = []
        self.count += 1
        tree_map(lambda x: tensors.append(x) if isinstance(x, Tensor) else None, (args, kwargs))
        here = [isinstance(x, OnGpu) for x in tensors]
        target = kwargs.get("device")
        away = any(here) if target is None else torch.device(target).type in ("cuda", "meta")
        if function in COPIES:
            if away and all(here) and target is not None and kwargs.get("dtype") in (None, args[0].dtype):
                return args[0]  # it is there
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
        given = {id(x.held): x for x in tensors if isinstance(x, OnGpu)}  # what is written into stays the same tensor
        return tree_map(
            lambda x: given[id(x)] if id(x) in given else OnGpu(x) if away and isinstance(x, Tensor) else x, out
        )


@contextmanager
def gpu(monkeypatch):
    """Within it `to("cuda:0")` works without a GPU, for tensors and modules."""
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**34, 2**34))
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    with Gpu() as mode:
        yield mode
