"""Finding and reading raw files. Any problem with a file raises BadFile, and memory use is bounded."""

import gc
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from data.clip import BadFile
from torchlight.system.files import open_regular, read_bytes, read_text

MAX_CLASSES = 100_000
MAX_DIMENSIONS = 4  # persons, frames, joints, coordinates
SUFFIXES = (".npz", ".json", ".csv", ".npy", ".pkl", ".pickle", ".skeleton", ".h5", ".hdf5", ".trc", ".bvh", ".c3d")
SUFFIXES += (".pose", ".slp")  # of raw files; those of folders, such as `take.01`, belong to the name of the clip


def clip_name(path: Path) -> str:
    """The name of the clip in a raw file, or in a folder that is one clip."""
    return text_name(path.stem if path.suffix.lower() in SUFFIXES else path.name)


def find_files(
    folders: Sequence[Path],
    pattern: str,
    recursive: bool = True,
    is_clip: Callable[[Path], bool] = lambda folder: False,
) -> list[Path]:
    """Paths in or below the folders whose names match the regular expression, and folders that are one clip, sorted by
    name.

    Folders and dangling links with a matching name are also listed, so that they are reported as unreadable. Links to
    folders are not followed.

    Raises:
        ValueError: a folder cannot be read, or two files have the same name.
    """
    found = []
    for folder in folders:
        for place, inner, files in os.walk(folder, onerror=_refuse_folder):
            whole = {name for name in inner if is_clip(Path(place, name))}
            matches = {name for name in (*inner, *files) if re.fullmatch(pattern, name, re.DOTALL)}
            found += [Path(place, name) for name in whole | matches]
            inner[:] = [name for name in inner if recursive and name not in whole]
    found.sort(key=lambda file: (clip_name(file), str(file)))
    for one, other in zip(found, found[1:], strict=False):
        if clip_name(one) == clip_name(other):
            raise ValueError(f"{one}: expected a unique clip name, got {other} as well; rename or remove one")
    return found


def _refuse_folder(error: OSError) -> None:
    raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from error


def file_state(file: Path) -> list:
    """Folder, name, size and time of a file, and of all files in a folder that is one clip, to detect changes."""
    try:
        state = file.stat()
        inner = [file_state(path) for path in sorted(file.iterdir())] if file.is_dir() else []
        return [file.parent.name, file.name, state.st_size, state.st_mtime_ns, *inner]
    except OSError as error:  # a dangling link; reading the file gives the reason
        return [file.parent.name, file.name, "cannot be read", error.errno]


def text_name(name: str) -> str:
    """The name of a file or folder, decoded as UTF-8 in every locale; other bytes become lone surrogates."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


@contextmanager
def open_raw(path: Path, limit: int) -> Iterator[IO[bytes]]:
    """A regular file of at most `limit` bytes opened for reading; raises BadFile."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(path))
        except ValueError as error:
            raise bad_file(path, error) from error
        if (size := os.fstat(file.fileno()).st_size) > limit:
            raise BadFile(f"expected at most {limit} bytes, got {size}")
        yield file


def read_raw(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; raises BadFile."""
    try:
        return read_bytes(path, limit)
    except ValueError as error:
        raise bad_file(path, error) from error


def bad_file(path: Path, error: ValueError) -> BadFile:
    """An error of `torchlight.system` as BadFile, whose message does not name the file."""
    return BadFile(str(error).removeprefix(f"{path}: "))


def read_raw_json(path: Path, limit: int) -> Any:
    """The value of a JSON file of at most `limit` bytes, NaN and Infinity included; raises BadFile."""
    content = read_raw(path, limit)
    collecting = gc.isenabled()
    gc.disable()  # the lists in a large file have no cycles, and searching for cycles takes most of the time
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:100]
        raise BadFile(f"expected a JSON document, got another format or a truncated file ({reason})") from error
    finally:
        if collecting:
            gc.enable()


@contextmanager
def open_raw_table(path: Path, limit: int) -> Iterator[IO[str]]:
    """A CSV file of at most `limit` bytes as UTF-8 text, for csv.reader, which reads it row by row; raises BadFile."""
    with open_raw(path, limit) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        yield text


def number_array(nested: Any) -> np.ndarray:
    """Nested lists of numbers as float64; all lists of a level have the same length. Raises BadFile.

    NumPy would convert all numbers to text if the list contained a single string, with a hundred bytes per number.
    """
    shape: list[int] = []
    level = [nested]
    while level and type(level[0]) is list:
        shape.append(len(level[0]))
        if len(shape) > MAX_DIMENSIONS or any(type(item) is not list or len(item) != shape[-1] for item in level):
            raise BadFile("expected nested lists of equal length per level, got lists that differ in length or depth")
        level = list(chain.from_iterable(level))
    if not set(map(type, level)) <= {int, float}:
        raise BadFile("expected numbers as coordinates, got something that is not a number")
    try:
        return np.array(level, np.float64).reshape(shape)
    except OverflowError:
        raise BadFile("expected numbers as coordinates, got one that is too large") from None


def read_class_names(path: Path) -> list[str]:
    """Class names in label order, one per line of a UTF-8 text file.

    Raises:
        ValueError: the file cannot be read, or has empty, repeated or too many lines.
    """
    names = [line.strip() for line in read_text(path).removesuffix("\n").split("\n")]
    if not 0 < len(names) <= MAX_CLASSES:
        raise ValueError(f"{path}: expected 1 to {MAX_CLASSES} class names, got {len(names)}")
    for number, name in enumerate(names, 1):
        if not name:
            raise ValueError(f"{path}: line {number}: expected a class name, got an empty line")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: expected distinct class names, got {len(names) - len(set(names))} more than once")
    return names
