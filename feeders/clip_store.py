"""The clip store: a prepared benchmark as ragged, memory-mapped arrays. This module alone reads and writes the format.

A store is a folder:

    manifest.json   facts about the data: recipe, skeleton, classes, counts, SHA-256 of the arrays; `window` and `pad`:
                    the number of frames of the recipe's padded files, and whether missing frames are "zero" or "repeat"
                    the clip (null: no padding)
    frames.npy      (R, V, C) float32: the frames of every track of every clip, one after the other
    index.npz       per clip: name, label, start (first row), length (frames per track), persons (the track in each
                    person slot, -1: empty slot), valid (frames that are not all zero); optional: image, height and
                    width of the image if the coordinates of all clips are pixels of an image of known size; target,
                    (N, classes) float32, if clips have several or soft labels (`targets` in the manifest); group, the
                    name of the subject or recording that a clip belongs to; per split: `split/<name>/<part>`, clip
                    numbers in published order

Nothing is padded and empty person slots take no space. Worker processes and ranks share the pages of `frames.npy`.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.system.arrays import open_archive, open_array
from torchlight.system.files import atomic, read_json, sha256
from torchlight.system.modalities import COORDINATES
from torchlight.system.paths import ROOT
from torchlight.system.text import counted, quote

FORMAT = "skeleton clip store 1"
MANIFEST, FRAMES, INDEX = "manifest.json", "frames.npy", "index.npz"
COLUMNS = ("name", "label", "length", "persons", "valid", "start")  # of the index, in the order of writing
IMAGE, TARGET, GROUP = "image", "target", "group"  # columns that not all stores have
OPTIONAL = (IMAGE, TARGET, GROUP)
KINDS = {"name": "U", GROUP: "U", TARGET: "f"}  # NumPy kinds of columns; all other columns contain integers
LARGEST = 1e9  # absolute value of a coordinate, in any unit
MAX_CLASSES = 100_000
MAX_LENGTH = 1_000_000  # frames of a clip
MAX_WINDOW = 100_000  # frames of a padded or sampled clip
MAX_SLOTS = 100  # persons in a clip
MAX_PIXELS = 100_000  # per side of an image
MAX_NAME = 1000  # characters of the name of a clip
MAX_INDEX_BYTES = 2**31


def is_whole(low: int, high: int) -> Callable[[Any], bool]:
    """A test for whole numbers in a range; True and False are not numbers."""
    return lambda value: type(value) is int and low <= value <= high


def is_text(value: Any) -> bool:
    """Whether a value is text that UTF-8 can encode, without NUL."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {  # key of the manifest: (test of the value, expected value)
    "num_class": (is_whole(1, MAX_CLASSES), f"a whole number from 1 to {MAX_CLASSES}"),
    "num_point": (is_whole(1, 10_000), "a whole number from 1 to 10000"),
    "num_person": (is_whole(1, MAX_SLOTS), f"a whole number from 1 to {MAX_SLOTS}"),
    "channels": (is_whole(1, 100), "a whole number from 1 to 100"),
    "class_names": (lambda value: isinstance(value, list) and value and all(map(is_text, value)), "a list of names"),
    "benchmark": (is_text, "text"),
    "recipe": (is_text, "text"),
    "skeleton": (is_text, "a module of graph/, a body layout or a YAML file"),
    "modality": (lambda value: value in COORDINATES, "a modality"),
    "pad": (lambda value: value in (None, "zero", "repeat"), "zero, repeat or null"),
    "images": (lambda value: type(value) is bool, "true or false"),
    "missing": (lambda value: value in ("interpolate", "hold", "zero", "mask"), "interpolate, hold, zero or mask"),
    "score": (lambda value: type(value) is bool, "true or false"),
    "targets": (lambda value: value in ("multi-label", "soft"), "multi-label or soft"),
    "window": (lambda value: value is None or is_whole(1, MAX_WINDOW)(value), f"1 to {MAX_WINDOW} frames or null"),
    "up": (lambda value: value in ("x", "-x", "y", "-y", "z", "-z"), "x, y or z, with - if it points down"),
    "origin_joint": (is_whole(0, 10_000), "the number of a joint"),
    "joints": (lambda value: isinstance(value, list) and all(map(is_text, value)), "a list of names"),
    "counts": (lambda value: isinstance(value, dict), "a mapping"),
    "source": (lambda value: isinstance(value, dict), "a mapping"),
    "sha256": (
        lambda value: isinstance(value, dict) and {FRAMES, INDEX} >= value.keys() and all(map(is_text, value.values())),
        f"a mapping of {FRAMES} and {INDEX} to text",
    ),
}


def valid_frames(clip: np.ndarray) -> int:
    """Frames (M, T, V, C) whose float32 sum over channels, then persons, then joints is not 0, as published readers
    count them."""
    return int(np.count_nonzero(clip.sum(-1).sum(0).sum(-1)))


class ClipStore:
    """Read access to a clip store.

    Attributes: `name` (N,) str, `label`, `start`, `length`, `valid` (N,) int64, `persons` (N, M) int64, `image` (N, 2)
    int64, `target` (N, classes) float32 and `group` (N,) str or None, `frames` (R, V, C) float32 memory map, `splits`
    {"xsub": {"train": (n,) int64, "test": ...}}, `manifest` dict.

    Raises:
        ValueError: the folder is missing, incomplete or not a clip store, or its three files contradict each other.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self.frames = open_array(self.path / FRAMES, "f")
        if self.frames.ndim != 3 or self.frames.dtype != np.float32 or not self.frames.flags.c_contiguous:
            found = f"{self.frames.dtype.str} {self.frames.shape}"
            raise ValueError(f"{self.path / FRAMES}: expected float32 frames (R, V, C) in C order, got {found}")
        arrays = read_index(self.path / INDEX)
        self.name, self.label, self.length, self.persons, self.valid, self.start = (arrays[key] for key in COLUMNS)
        self.splits: dict[str, dict[str, np.ndarray]] = {}
        self.image, self.target, self.group = (arrays.get(key) for key in OPTIONAL)
        for key in [key for key in arrays if key not in (*COLUMNS, *OPTIONAL)]:
            _, split, part = key.split("/")
            self.splits.setdefault(split, {})[part] = arrays[key]
        self._check()

    def __len__(self) -> int:
        return len(self.name)

    @property
    def is_finite(self) -> bool:
        """Whether `write_store` wrote the frames: it checks the coordinates and records the hash of the frames."""
        return FRAMES in self.manifest.get("sha256", {})

    def part(self, split: str, part: str) -> np.ndarray:
        """Clip numbers of one part of a split, in the benchmark's published order; "" is the only split of a store."""
        if not split and len(self.splits) == 1:
            split = next(iter(self.splits))
        known = [f"{s}/{p}" for s, parts in self.splits.items() for p in parts]
        if f"{split}/{part}" not in known:
            raise ValueError(
                f"{self.path}: expected a split with a part, {', '.join(known)}, got {quote(split)}/{part}"
            )
        return self.splits[split][part]

    def clip(self, i: int) -> np.ndarray:
        """One clip in the layout of the network input: (C, T, V, M) float32, empty person slots zero."""
        T, (_, V, C) = int(self.length[i]), self.frames.shape
        data = np.zeros((C, T, V, self.persons.shape[1]), np.float32)
        for m, track in enumerate(self.persons[i]):
            if track >= 0:
                row = int(self.start[i] + track * T)
                data[..., m] = self.frames[row : row + T].transpose(2, 0, 1)
        return data

    def require(self, *keys: str) -> None:
        """Raise ValueError if the manifest lacks one of these entries, which only some programs need."""
        missing = [key for key in keys if key not in self.manifest]
        if missing:
            expected = f"expected the keys {', '.join(keys)}" if len(keys) > 1 else f"expected the key {keys[0]}"
            raise ValueError(f"{self.path / MANIFEST}: {expected}, got no {missing[0]}; prepare the data again")

    def _check(self) -> None:
        """Raise ValueError if index, frames and manifest contradict each other."""
        path, (R, V, C), M = self.path / INDEX, self.frames.shape, self.persons.shape[1]
        _check_range(path, "label", self.label, 0, (count_classes(self.manifest) or MAX_CLASSES) - 1)
        _check_range(path, "length", self.length, 1, MAX_LENGTH)
        _check_range(path, "valid", self.valid, 0, MAX_LENGTH)
        _check_range(path, "valid", self.length - self.valid, 0, MAX_LENGTH, "length - valid")
        _check_range(path, "start", self.start, 0, R)
        _check_range(path, "persons", self.persons, -1, R)
        if self.image is not None:
            _check_range(path, IMAGE, self.image, 1, MAX_PIXELS)
        if self.target is not None:
            _check_range(path, TARGET, self.target, 0, 1)
        end = self.start + (self.persons.max(1) + 1) * self.length
        _check_range(path, "start", end, 0, R, "start + number of tracks * length")
        for split, parts in self.splits.items():
            for part, numbers in parts.items():
                _check_range(path, f"split/{split}/{part}", numbers, 0, len(self) - 1)
        found = {"num_point": V, "channels": C, "num_person": M, "clips": len(self), "frames": R}
        if (self.target is None) != ("targets" not in self.manifest):
            raise ValueError(
                f"{path}: expected the array target and targets in {MANIFEST}, or neither, got one of them"
            )
        found |= {} if self.target is None else {"num_class": self.target.shape[1]}
        for key, value in found.items():
            if self.manifest.get(key, value) != value:
                got = quote(self.manifest[key])
                raise ValueError(f"{self.path / MANIFEST}: {key}: expected {value}, as in the arrays, got {got}")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of the store in a folder; raises ValueError."""
    path = folder / MANIFEST
    if not os.path.isfile(path):  # unlike Path.is_file, no error for an invalid path
        got = "a folder without manifest.json" if os.path.isdir(folder) else "no folder"
        script = Path("data", os.path.basename(os.path.dirname(folder)), "prepare.py")
        maker = f"python {script} --raw DIR" if os.path.isfile(ROOT / script) else "the prepare.py of the benchmark"
        raise ValueError(f"{folder}: expected a clip store, got {got}; create it with {maker}")
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: expected a mapping, got {quote(manifest)}")
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path}: format: expected {FORMAT!r}, got {quote(manifest.get('format'))}; prepare the data again"
        )
    for key, (is_valid, expected) in FIELDS.items():
        if key in manifest and not is_valid(manifest[key]):
            raise ValueError(f"{path}: {key}: expected {expected}, got {quote(manifest[key])}")
    names, num_class = manifest.get("class_names"), manifest.get("num_class")
    if names is not None and num_class is not None and len(names) != num_class:
        raise ValueError(f"{path}: class_names: expected {counted(num_class, 'name')}, got {len(names)}")
    return manifest


def check_joints(manifest: Mapping[str, Any], joints: Sequence[str]) -> None:
    """Raise ValueError if the joints of a body are not those of the clips, which the manifest may contain."""
    stored = manifest.get("joints", joints)
    for i, (expected, found) in enumerate(zip_longest(stored, joints)):
        if expected != found:
            raise ValueError(
                f"expected {quote(expected)} as joint {i} of the body, as in the data, got {quote(found)}; "
                "restore the skeleton, or prepare the data again"
            )


def count_classes(manifest: Mapping[str, Any]) -> int | None:
    """The number of classes in a manifest; None: it has to be derived from the labels."""
    return manifest.get("num_class") or len(manifest.get("class_names", ())) or None


def read_index(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an index, checked on their own: names, types and shapes; integers as int64. Raises ValueError."""
    with open_archive(path) as archive:
        kinds = {key: KINDS.get(key, "iu") for key in archive.names}
        headers = {key: archive.header(key, kinds[key]) for key in archive.names}
        size = sum(header.nbytes for header in headers.values())
        if size > MAX_INDEX_BYTES:
            raise ValueError(f"{path}: expected at most {MAX_INDEX_BYTES} bytes, got {size}")
        missing = [key for key in COLUMNS if key not in headers]
        if missing:
            raise ValueError(f"{path}: expected the arrays {', '.join(COLUMNS)}, got no array {missing[0]}")
        N = headers["name"].shape[0] if headers["name"].shape else 0
        for key, header in headers.items():
            is_split = key.startswith("split/") and key.count("/") == 2
            if key not in (*COLUMNS, *OPTIONAL) and not is_split:
                raise ValueError(f"{path}: expected {', '.join(COLUMNS)} and split/<name>/<part>, got {quote(key)}")
            rank = 2 if key in ("persons", IMAGE, TARGET) else 1
            is_wrong = len(header.shape) != rank or key == IMAGE and header.shape[1] != 2
            if is_wrong or not is_split and header.shape[0] != N or 0 in header.shape and not is_split:
                width = {IMAGE: 2, TARGET: "classes"}.get(key, "M")
                expected = "(n,)" if is_split else f"({N}, {width})" if rank == 2 else f"({N},), N > 0"
                raise ValueError(f"{path}: {key}: expected the shape {expected}, got {header.shape}")
        words = [headers[key].dtype.itemsize for key in ("name", GROUP) if key in headers]
        if headers["persons"].shape[1] > MAX_SLOTS or max(words) > 4 * MAX_NAME:
            raise ValueError(f"{path}: expected at most {MAX_SLOTS} person slots and names of {MAX_NAME} characters")
        arrays = {key: np.array(archive.array(key, kinds[key])) for key in archive.names}
    for key in {"name", GROUP} & set(arrays):
        check_names(arrays[key], f"{path}: {key}")
    types = {"f": np.float32, "iu": np.int64}
    return {key: value if kinds[key] == "U" else value.astype(types[kinds[key]]) for key, value in arrays.items()}


def check_names(names: np.ndarray, origin: str) -> None:
    """Raise ValueError where names (N,) contain a character that UTF-8 cannot encode."""
    codes = np.ascontiguousarray(names, names.dtype.newbyteorder("=")).view(np.uint32) if names.itemsize else names[:0]
    if len(codes) and ((codes > 0x10FFFF) | (codes >= 0xD800) & (codes <= 0xDFFF)).any():
        raise ValueError(f"{origin}: expected text that UTF-8 can encode")


def _check_range(path: Path, key: str, values: np.ndarray, low: int, high: int, what: str = "numbers") -> None:
    if values.size and not (low <= values.min() and values.max() <= high):
        raise ValueError(f"{path}: {key}: expected {what} from {low} to {high}, got {values.min()} to {values.max()}")


def write_store(
    folder: Path,
    facts: Mapping[str, Any],
    clips: Mapping[str, np.ndarray],
    splits: Mapping[str, Mapping[str, np.ndarray]],
    frames: Iterable[np.ndarray],
    source: Mapping[str, Any] | None = None,
) -> ClipStore:
    """Write a store into a new folder and open it; memory does not grow with the number of clips.

    facts: entries of the manifest, including `num_point` and `channels`. clips: name, label, length, valid (N,),
    persons (N, M) and rows (N,), the number of frames over all tracks, and optionally image, target and group. splits:
    clip numbers. frames: blocks (n, V, C) float32 with the tracks of all clips in order. source: the entry `source` of
    the manifest.

    Raises:
        ValueError: a coordinate is not finite or not below 1e9, or `ClipStore` refuses the data.
        OSError: the folder exists or cannot be written; `filename` names the file.
    """
    folder.mkdir(parents=True)
    rows = np.asarray(clips["rows"], np.int64)
    shape = (int(rows.sum()), facts["num_point"], facts["channels"])
    with atomic(folder / FRAMES) as sink:
        np.lib.format.write_array_header_1_0(sink, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in frames:
            if block.size and not (-LARGEST < block.min() and block.max() < LARGEST):
                raise ValueError(f"{folder / FRAMES}: expected finite coordinates below {LARGEST:g}, got {block.max()}")
            sink.write(np.ascontiguousarray(block, "<f4").tobytes())
    index = {key: clips[key] for key in COLUMNS if key != "start"} | {"start": np.cumsum(rows) - rows}
    index |= {key: clips[key] for key in OPTIONAL if key in clips}
    parts = {f"split/{split}/{part}": value for split, parts in splits.items() for part, value in parts.items()}
    with atomic(folder / INDEX) as sink:
        np.savez(sink, **index, **parts)
    manifest = {"format": FORMAT, **facts}
    manifest["counts"] = {split: {part: len(value) for part, value in parts.items()} for split, parts in splits.items()}
    manifest |= {"clips": len(rows), "frames": shape[0]}
    manifest |= {} if source is None else {"source": dict(source)}
    manifest["sha256"] = {name: sha256(folder / name) for name in (FRAMES, INDEX)}
    with atomic(folder / MANIFEST) as sink:
        sink.write((json.dumps(manifest, indent=1) + "\n").encode())
    return ClipStore(folder)
