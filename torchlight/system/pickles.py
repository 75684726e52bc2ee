"""Pickles that cannot run code: containers, numbers, text and numeric NumPy arrays only.

A pickle is a program for a small stack machine. Here each function that NumPy's pickles call is replaced by a stand-in
that checks its arguments, so that no file can build an object array, resize memory or call any other function.
`pickle._Unpickler`, the implementation in Python, keeps its memo in a dict; the implementation in C allocates as much
memory as a damaged file requests.
"""

import mmap
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.system.files import open_regular

MAX_DEPTH = 64  # of nested containers
MAX_ITEMS = 50_000_000  # in all containers; a shared container counts once per reference
DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)|[SU]\d{1,6}")


class DType:
    """Stand-in for numpy.dtype: a numeric or string type with the byte order of its state."""

    __slots__ = ("value",)

    def __init__(self, name: Any, *_: Any):
        name = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(name, str) or not DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"expected a numeric or string array, got dtype {name!r:.40}")
        self.value = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or any(item is not None for item in state[2:5]):
            raise pickle.UnpicklingError("expected a plain dtype, got one with fields")
        self.value = self.value.newbyteorder(order) if order in "<>" else self.value


class Array:
    """Stand-in for a numpy.ndarray, whose content is set from a state."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = make_array(data, dtype, shape, "F" if fortran else "C")


class Function:
    """Stand-in for a function or class that a pickle may call; its attributes cannot be changed by the pickle."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable):
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("expected the state of an array, got one of a function")


def make_array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """The array with this content; raises UnpicklingError unless the bytes fill the shape exactly."""
    data = data.encode("latin1") if isinstance(data, str) else data  # written by Python 2
    if not isinstance(dtype, DType) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise pickle.UnpicklingError("expected the bytes of a numeric or string array")
    shape = (shape,) if isinstance(shape, int) else shape
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 16:
        raise pickle.UnpicklingError(f"expected the shape of an array, got {shape!r:.60}")
    count = 1
    for n in shape:
        count *= n
    if count * dtype.value.itemsize != len(data):
        raise pickle.UnpicklingError(
            f"expected {count * dtype.value.itemsize} bytes for shape {shape}, got {len(data)}"
        )
    if not len(data):
        return np.zeros(shape, dtype.value)
    return np.frombuffer(data, dtype.value).reshape(shape, order=order)


def make_scalar(dtype: Any, data: Any) -> Any:
    """A NumPy number or text."""
    return make_array(data, dtype, ())[()]


def encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes as Python 3 writes them in the protocol of Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"expected text in latin1, got {encoding!r:.40}")
    return text.encode("latin1")


def make_set(items: Any = ()) -> set:
    """A set with the items of a list or tuple, as in the pickles that Python writes."""
    return set(items) if isinstance(items, list | tuple) else refuse("a set of other values")


NDARRAY = Function(lambda *_: refuse("numpy.ndarray called directly"))


def reconstruct(kind: Any, *_: Any) -> Array:
    """An empty array, to be filled by its state."""
    return Array() if kind is NDARRAY else refuse("an array of another class")


def refuse(what: str) -> Any:
    """Raise UnpicklingError for an object that a pickle requests."""
    raise pickle.UnpicklingError(f"expected plain containers and NumPy arrays, got {what}")


STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Function(DType),
    ("collections", "OrderedDict"): Function(dict),
    ("_codecs", "encode"): Function(encode),
}
for _module in ("builtins", "__builtin__"):  # the second name is that of Python 2
    STAND_INS[_module, "set"] = STAND_INS[_module, "frozenset"] = Function(make_set)
    STAND_INS[_module, "bytes"] = Function(lambda *arguments: b"" if not arguments else refuse("bytes of other values"))
for _package in ("numpy.core", "numpy._core"):
    STAND_INS[f"{_package}.multiarray", "_reconstruct"] = Function(reconstruct)
    STAND_INS[f"{_package}.multiarray", "scalar"] = Function(make_scalar)
    STAND_INS[f"{_package}.numeric", "_frombuffer"] = Function(make_array)


class PlainUnpickler(pickle._Unpickler):
    """Unpickler that resolves the stand-ins above and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            refuse(f"{module}.{name}"[:120])
        return STAND_INS[module, name]

    def load_bytearray8(self) -> None:
        """Python's implementation allocates the length that a damaged file states; this one only reads existing
        data."""
        (length,) = struct.unpack("<Q", self.read(8))
        data = self.read(length)
        if len(data) != length:
            raise pickle.UnpicklingError(f"expected {length} bytes, got {len(data)}")
        self.append(bytearray(data))

    dispatch = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray8}


def read_pickle(path: str | Path) -> Any:
    """The object in a pickle of plain containers (dict, list, tuple, set), numbers, text, bytes and NumPy arrays.

    Text of Python 2 is read as Latin-1. Arrays that the pickle stores as bytes are read-only.

    Raises:
        ValueError: the file is missing, damaged, nested too deeply, or contains anything else. No code in it is run.
    """
    with open_regular(path) as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found = PlainUnpickler(content, encoding="latin1").load()
            return _resolve(found, {}, 0)[0]
        except Exception as error:  # a damaged pickle can raise any exception
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{path}: not a pickle of plain data ({reason}); nothing in it was run") from error


def _resolve(found: Any, seen: dict[int, tuple[Any, int] | None], depth: int) -> tuple[Any, int]:
    """(`found` with its stand-ins replaced by arrays, the number of its items); `seen` maps the id of a container to
    its result."""
    if isinstance(found, Array):
        return found.value, 1
    if isinstance(found, DType | Function):
        refuse("a type instead of a value")
    if not isinstance(found, dict | list | tuple | set):
        return found, 1
    if id(found) in seen:
        result = seen[id(found)]
        return result if result is not None else refuse("a container that contains itself")
    if depth >= MAX_DEPTH:
        refuse(f"containers nested more than {MAX_DEPTH} levels deep")
    seen[id(found)] = None
    items = 1
    values = found.values() if isinstance(found, dict) else found
    resolved = []
    for value in values:
        new, count = _resolve(value, seen, depth + 1)
        resolved.append(new)
        items += count
    if items > MAX_ITEMS:
        refuse(f"more than {MAX_ITEMS} items")
    if isinstance(found, dict):
        keys = [_resolve(key, seen, depth + 1)[0] for key in found]
        result = dict(zip(keys, resolved, strict=True))
    else:
        result = type(found)(resolved)
    seen[id(found)] = (result, items)
    return result, items
