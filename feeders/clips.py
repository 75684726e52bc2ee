"""The clip store: a prepared benchmark as ragged, memory-mapped arrays.

A store is a folder that is complete or absent:

    manifest.json   what it is: recipe, skeleton, classes, counts, SHA-256 of the arrays; `window` and `pad`: the frames that the recipe's
                    padded files have, and whether the missing ones are "zero" or "repeat" the clip (null: it pads nothing)
    frames.npy      (R, V, C) float32: the frames of every track of every clip, one after the other
    index.npz       per clip: name, label, start (first row), length (frames per track), persons (track shown by each person slot,
                    -1: absent), valid (frames that are not all zero); per split: `split/<name>/<part>`, clip numbers in published order

Nothing is padded and absent persons take no room. Workers and ranks share the pages of `frames.npy`.
"""

import json
from pathlib import Path

import numpy as np

FORMAT = "skeleton clip store 1"
MANIFEST, FRAMES, INDEX = "manifest.json", "frames.npy", "index.npz"


class ClipStore:
    """Read access to a clip store.

    Attributes: `name` (N,) str, `label` (N,) int64, `start`, `length`, `valid` (N,) int64, `persons` (N, M) int64,
    `frames` (R, V, C) float32 memory map, `splits` {"xsub": {"train": (n,) int64, "test": ...}}, `manifest` dict.

    Raises:
        ValueError: the folder is missing, incomplete or not a clip store.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / MANIFEST).is_file():
            found = "a folder without manifest.json" if self.path.is_dir() else "nothing"
            raise ValueError(
                f"{self.path}: found {found}; a clip store is needed; make it with the prepare.py of the benchmark (see README.md)"
            )
        self.manifest = json.loads((self.path / MANIFEST).read_text())
        if self.manifest.get("format") != FORMAT:
            raise ValueError(
                f"{self.path}: found format {self.manifest.get('format')!r}; this version reads {FORMAT!r}; prepare the data again"
            )
        self.frames = np.load(self.path / FRAMES, mmap_mode="r")
        with np.load(self.path / INDEX) as index:
            arrays = dict(index)
        self.name, self.label = arrays["name"], arrays["label"]
        self.start, self.length, self.valid, self.persons = (arrays[k] for k in ("start", "length", "valid", "persons"))
        self.splits: dict[str, dict[str, np.ndarray]] = {}
        for key, value in arrays.items():
            if key.startswith("split/"):
                _, split, part = key.split("/")
                self.splits.setdefault(split, {})[part] = value

    def __len__(self) -> int:
        return len(self.name)

    def part(self, split: str, part: str) -> np.ndarray:
        """Clip numbers of one part of a split, in the benchmark's published order."""
        known = [f"{s}/{p}" for s, parts in self.splits.items() for p in parts]
        if f"{split}/{part}" not in known:
            raise ValueError(f"{self.path}: found no split {split}/{part}; the store has {', '.join(known)}")
        return self.splits[split][part]

    def clip(self, i: int) -> np.ndarray:
        """One clip as the networks see it: (C, T, V, M) float32, absent persons zero."""
        T, (_, V, C) = int(self.length[i]), self.frames.shape
        data = np.zeros((C, T, V, self.persons.shape[1]), np.float32)
        for m, track in enumerate(self.persons[i]):
            if track >= 0:
                row = int(self.start[i] + track * T)
                data[..., m] = self.frames[row : row + T].transpose(2, 0, 1)
        return data
