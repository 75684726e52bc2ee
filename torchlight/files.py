"""Files that are written whole or not at all, and pickles that cannot run code."""

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PLAIN_GLOBALS = {  # what NumPy's own pickles of arrays and scalars name, in NumPy 1 and 2
    (module, name)
    for package in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{package}.multiarray", "_reconstruct"),
        (f"{package}.multiarray", "scalar"),
        (f"{package}.numeric", "_frombuffer"),
    )
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("collections", "OrderedDict"), ("_codecs", "encode")}


@contextmanager
def atomic(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """A file that appears under its name only when it is complete and on disk; otherwise the old one stays."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class PlainUnpickler(pickle.Unpickler):
    """Admits containers, numbers, text and NumPy arrays; everything else that a pickle asks for is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in PLAIN_GLOBALS or (module == "numpy.dtypes" and name.endswith("DType")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}; only plain containers and NumPy arrays are admitted"
        )


def read_pickle(path: str | Path) -> Any:
    """The object in a pickle of plain containers and NumPy arrays.

    Raises:
        ValueError: the file is missing, damaged, or asks for anything else (nothing of it was run).
    """
    try:
        with open(path, "rb") as file:
            return PlainUnpickler(file).load()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path}: refused: {error}; nothing in it was run") from error
