"""Reading untrusted .npy and .npz files: only numeric and string arrays whose headers agree with the file size."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from torchlight.system.files import open_regular

NUMBERS, TEXT = "biuf", "SU"  # kinds of dtypes
MAX_COMPRESSED = 16 * 2**30  # bytes of a compressed array, which is read as a whole
MAX_MEMBERS = 10_000  # of an .npz file


@dataclass(frozen=True)
class Header:
    """The content of an .npy header: shape, type, Fortran order, and the number of bytes before the data."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        count = 1
        for n in self.shape:
            count *= n
        return count * self.dtype.itemsize


def read_header(file: IO[bytes], size: int, kinds: str, origin: str) -> Header:
    """The header of an .npy stream of `size` bytes, checked against that size before anything is allocated.

    Raises:
        ValueError: the stream is not an .npy file, its dtype is of another kind (such as objects), or its shape does
            not match the size of the stream.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"expected .npy version 1.0 or 2.0, got {version[0]}.{version[1]}")
        shape, fortran, dtype = read(file)
        header = Header(tuple(shape), dtype, fortran, file.tell())
    except Exception as error:  # a damaged header can raise any exception
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{origin}: not a NumPy array file ({reason})") from error
    if dtype.hasobject or dtype.kind not in kinds or (dtype.kind in NUMBERS and dtype.itemsize > 8):
        names = {"b": "booleans", "i": "integers", "u": "unsigned integers", "f": "floats", "S": "bytes", "U": "text"}
        raise ValueError(f"{origin}: expected {', '.join(names[kind] for kind in kinds)}, got dtype {str(dtype)[:60]}")
    if any(type(n) is not int or n < 0 for n in shape) or header.offset + header.nbytes != size:
        raise ValueError(f"{origin}: expected {size - header.offset} bytes of data, got the shape {shape} of {dtype}")
    return header


def open_array(path: str | Path, kinds: str = NUMBERS) -> np.ndarray:
    """The array of an .npy file as a read-only memory map; `kinds`: the dtype kinds that are accepted.

    Raises:
        ValueError: the file cannot be read, or `read_header` refuses it.
    """
    with open_regular(path) as file:
        header = read_header(file, os.fstat(file.fileno()).st_size, kinds, str(path))
    return _map(path, header, header.offset)


def _map(path: str | Path, header: Header, offset: int) -> np.ndarray:
    if not header.nbytes:
        return np.zeros(header.shape, header.dtype)  # empty data cannot be mapped
    return np.memmap(path, header.dtype, "r", offset, header.shape, "F" if header.fortran else "C")


class Archive:
    """The arrays of an open .npz file."""

    def __init__(self, path: str | Path, file: IO[bytes], archive: zipfile.ZipFile):
        self.path, self._file, self._archive = path, file, archive
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise ValueError(f"{path}: expected at most {MAX_MEMBERS} arrays, got {len(infos)}")
        self._infos = {info.filename.removesuffix(".npy"): info for info in infos}

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._infos)

    def header(self, name: str, kinds: str = NUMBERS) -> Header:
        """Shape and type of an array, without its data; raises ValueError as `array`."""
        info = self._info(name)
        with self._guard(name), self._archive.open(info) as member:
            return read_header(member, info.file_size, kinds, f"{self.path}: {name}")

    def array(self, name: str, kinds: str = NUMBERS) -> np.ndarray:
        """An array: a read-only memory map if it is stored uncompressed, read completely if it is compressed.

        Raises:
            ValueError: there is no such array, it is damaged or too large, or `read_header` refuses it.
        """
        info, header = self._info(name), self.header(name, kinds)
        if info.compress_type == zipfile.ZIP_STORED:
            return _map(self.path, header, self._data_offset(info) + header.offset)
        if header.nbytes > MAX_COMPRESSED:
            raise ValueError(
                f"{self.path}: {name}: expected at most {MAX_COMPRESSED} bytes of compressed data, got {header.nbytes}"
            )
        with self._guard(name), self._archive.open(info) as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._infos:
            raise ValueError(f"{self.path}: expected the array {name}, got {', '.join(self.names[:20]) or 'no array'}")
        return self._infos[name]

    @contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        """Convert every exception that a damaged member causes to ValueError."""
        try:
            yield
        except ValueError as error:
            prefix = "" if str(error).startswith(str(self.path)) else f"{self.path}: {name}: "
            raise ValueError(f"{prefix}{error}") from error
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{self.path}: {name}: damaged ({reason})") from error

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        """The position of the data of a stored member: after its local header, which ends with a name and an extra
        field."""
        self._file.seek(info.header_offset)
        local = self._file.read(30)
        if len(local) < 30 or local[:4] != b"PK\x03\x04":
            raise ValueError(f"{self.path}: {info.filename}: damaged (no local header)")
        begin = (
            info.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        )
        if begin + info.file_size > os.fstat(self._file.fileno()).st_size:
            raise ValueError(f"{self.path}: {info.filename}: damaged (the file is too short)")
        return begin


@contextmanager
def open_archive(path: str | Path) -> Iterator[Archive]:
    """The arrays of an .npz file; raises ValueError if it cannot be read or is not a zip archive."""
    with open_regular(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # a damaged archive can raise any exception
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{path}: not an .npz file ({reason})") from error
        with archive:
            yield Archive(path, file, archive)


def read_arrays(path: str | Path, kinds: str = NUMBERS + TEXT) -> dict[str, np.ndarray]:
    """All arrays of a small .npz file in memory; raises ValueError as `open_archive` and `Archive.array`."""
    with open_archive(path) as archive:
        return {name: np.array(archive.array(name, kinds)) for name in archive.names}
