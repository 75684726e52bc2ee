"""Reading untrusted files, and writing files completely or not at all.

The readers open only regular files (a FIFO or a device would block), limit how much they read, and raise ValueError for
every error in the content. The message names the file.
"""

import difflib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

MOST_COMPARED = 1000  # entries of a folder whose names are compared with that of a missing file
MAX_TEXT_BYTES = 64 * 2**20  # of a text, JSON or YAML file that is read as a whole


@contextmanager
def atomic(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open a file for writing that replaces `path` only when it is complete and on disk.

    Text is written as UTF-8.

    Raises:
        OSError: the file cannot be written; `filename` is `path`.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:  # the folder was removed or became read-only; the first error is the one to report
            pass


@contextmanager
def open_regular(path: str | Path) -> Iterator[IO[bytes]]:
    """A regular file opened for reading in binary mode.

    Raises:
        ValueError: the path is missing, unreadable, or a folder, FIFO, socket or device.
    """
    try:
        # O_NONBLOCK: opening a FIFO without a writer returns at once, so that it can be refused
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        hint = similar(path) if isinstance(error, FileNotFoundError) else ""
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}){hint}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ValueError(f"{path}: expected a regular file, got {kind_of(mode)}")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def similar(path: str | Path) -> str:
    """A hint for the error message about a missing path: `; did you mean ...?` with an entry of its folder that has a
    similar name, or the folder that is missing; empty if neither is known."""
    missing = Path(path)
    if os.path.lexists(missing):  # a broken link
        return ""
    with suppress(OSError):  # a folder that cannot be read, a name that is too long
        while not missing.parent.is_dir():
            missing = missing.parent
        with os.scandir(missing.parent) as entries:
            names = [entry.name for entry in islice(entries, MOST_COMPARED)]
        if close := difflib.get_close_matches(missing.name, names, n=1):
            return f"; did you mean {missing.parent / close[0]}?"
        return "" if missing == Path(path) else f"; there is no folder {missing}"
    return ""


def kind_of(mode: int) -> str:
    """The kind of a path that is not a regular file, for error messages."""
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket"}
    return next((name for test, name in kinds.items() if test(mode)), "a device")


def read_bytes(path: str | Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        ValueError: the file cannot be read or is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            content = b"" if size > limit else file.read(limit + 1)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if max(size, len(content)) > limit:
        raise ValueError(f"{path}: expected at most {limit} bytes, got {max(size, len(content))}")
    return content


def read_text(path: str | Path, limit: int = MAX_TEXT_BYTES) -> str:
    """The content of a UTF-8 text file of at most `limit` bytes; raises ValueError as `read_bytes`."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8 text, got the byte 0x{error.object[error.start]:02x} at {error.start}"
        ) from error


def parse_json(text: str | bytes, origin: str | Path) -> Any:
    """The value of a JSON text; NaN and Infinity are refused, as in the JSON standard.

    Raises:
        ValueError: not JSON, or nested too deeply; the message begins with `origin`.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{origin}: not valid JSON: {' '.join(str(error).split())}") from error


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"expected a finite number, got {word}")


def read_json(path: str | Path, limit: int = MAX_TEXT_BYTES) -> Any:
    """The value in a JSON file; raises ValueError as `read_text` and `parse_json`."""
    return parse_json(read_text(path, limit), path)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file as hexadecimal digits, read in blocks; raises ValueError if it cannot be read."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
