"""Writing published file formats from a store, clip by clip: memory does not depend on the number of clips."""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from feeders.clip_store import ClipStore
from torchlight.system.files import atomic

RECIPES = {"npz": ("ctrgcn",), "npy": ("agcn", "stgcn")}  # that have files of this format
PUBLISHED_PART = {"train": "train", "test": "val"}  # the names in 2s-AGCN and ST-GCN


def write_npz(files: dict[str, str], store: ClipStore, folder: Path) -> list[Path]:
    """CTR-GCN's files, one per split ({"xsub": "NTU60_CS.npz", ...}); rows in published order.

    x_train, x_test (N, T, 150) float32: persons, joints, xyz; T is the length of the longest clip, and shorter clips
    are followed by zeros. y_train, y_test: one-hot float64.

    Raises:
        ValueError: the store has another recipe, or its manifest is incomplete.
    """
    store.require("recipe", "pad", "num_class")
    check_recipe("npz", store.manifest["recipe"])
    T = int(store.length.max())
    written = []
    for split, name in files.items():
        with (
            atomic(folder / name) as sink,
            zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        ):
            for part, numbers in store.splits[split].items():
                rows = (padded(store, i, T).transpose(1, 3, 2, 0).tobytes() for i in numbers)  # (T, M, V, C)
                shape = (len(numbers), T, store.persons.shape[1] * store.frames.shape[1] * store.frames.shape[2])
                with archive.open(f"x_{part}.npy", "w", force_zip64=True) as entry:
                    _write_npy(entry, shape, rows)
                with archive.open(f"y_{part}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.eye(store.manifest["num_class"])[store.label[numbers]])
        written.append(folder / name)
    return written


def write_npy(suffix: str, store: ClipStore, folder: Path) -> list[Path]:
    """The files of 2s-AGCN and ST-GCN, a folder per split: joints (N, C, 300, V, M) float32, pickled (names, labels).

    The names end with `suffix`, the suffix of the raw files.

    Raises:
        ValueError: the store has another recipe, or its manifest is incomplete.
    """
    store.require("recipe", "pad", "window")
    check_recipe("npy", store.manifest["recipe"])
    T, written = store.manifest["window"], []
    for split, parts in store.splits.items():
        # Kinetics has one split, and its files are not in a subfolder.
        place = folder / split if len(store.splits) > 1 else folder
        place.mkdir(parents=True, exist_ok=True)
        for part, numbers in parts.items():
            data = place / f"{PUBLISHED_PART[part]}_data{'_joint' if store.manifest['recipe'] == 'agcn' else ''}.npy"
            shape = (len(numbers), store.frames.shape[2], T, store.frames.shape[1], store.persons.shape[1])
            with atomic(data) as sink:
                _write_npy(sink, shape, (padded(store, i, T).tobytes() for i in numbers))
            label = place / f"{PUBLISHED_PART[part]}_label.pkl"
            with atomic(label) as sink:
                pickle.dump(([f"{name}{suffix}" for name in store.name[numbers]], store.label[numbers].tolist()), sink)
            written += [data, label]
    return written


def padded(store: ClipStore, i: int, T: int) -> np.ndarray:
    """One clip with T frames, (C, T, V, M) float32, padded with zeros or by repetition as in the recipe."""
    clip = store.clip(i)
    if store.manifest["pad"] == "repeat":
        return clip[:, np.arange(T) % clip.shape[1]]
    return np.pad(clip, ((0, 0), (0, T - clip.shape[1]), (0, 0), (0, 0)))


def check_recipe(export: str, recipe: str) -> None:
    """Raise ValueError if there are no published files of this format and recipe."""
    if recipe not in RECIPES[export]:
        raise ValueError(f"--export {export}: expected a store of recipe {' or '.join(RECIPES[export])}, got {recipe}")


def _write_npy(sink, shape: tuple[int, ...], rows: Iterator[bytes]) -> None:
    np.lib.format.write_array_header_1_0(sink, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for row in rows:
        sink.write(row)
