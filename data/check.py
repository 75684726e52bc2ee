"""What can be wrong with any clip store."""

import numpy as np

from data.files import sha256
from feeders.clips import ClipStore

BLOCK = 1 << 16  # frames looked at in one go


def common_problems(store: ClipStore) -> list[str]:
    """Damaged files, numbers that are not finite, joints that never move, broken indices, overlapping or empty parts; one line each."""
    problems = _damage(store)
    return problems if problems else _frames(store) + _labels(store) + _splits(store)


def _damage(store: ClipStore) -> list[str]:
    problems = []
    for name, expected in store.manifest["sha256"].items():
        if sha256(store.path / name) != expected:
            problems.append(
                f"{store.path / name} was changed or damaged since it was written (SHA-256 differs); prepare the data again"
            )
    tracks = np.diff(np.append(store.start, len(store.frames)))
    if len(store) != store.manifest["clips"] or (tracks % store.length != 0).any():
        problems.append("the index does not fit the frames; prepare the data again")
    return problems


def _frames(store: ClipStore) -> list[str]:
    if len(store.frames) == 0:
        return ["no clip holds a frame with a body"]
    low, high = (np.full(store.frames.shape[1:], bound, np.float32) for bound in (np.inf, -np.inf))
    infinite = []
    for first in range(0, len(store.frames), BLOCK):
        block = store.frames[first : first + BLOCK]
        finite = np.isfinite(block).all(axis=(1, 2))
        infinite += (first + np.flatnonzero(~finite)).tolist()
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    problems = []
    if infinite:
        clips = sorted({str(store.name[np.searchsorted(store.start, row, side="right") - 1]) for row in infinite})
        problems.append(
            f"{len(infinite)} frames hold numbers that are not finite, in {_some(clips)}; remove these raw files, prepare again"
        )
    still = np.flatnonzero((low == high).all(axis=1))
    still = still[still != store.manifest.get("origin_joint", -1)]
    if len(still):
        problems.append(
            f"joints {still.tolist()} have the same position in every frame; the raw files do not hold them"
        )
    return problems


def _labels(store: ClipStore) -> list[str]:
    count = np.bincount(store.label, minlength=store.manifest["num_class"])
    empty = [f"{label} ({store.manifest['class_names'][label]})" for label in np.flatnonzero(count == 0)]
    return [f"no clip of {len(empty)} classes: {_some(empty)}; raw files are missing"] if empty else []


def _splits(store: ClipStore) -> list[str]:
    problems = []
    for split, parts in store.splits.items():
        for part, numbers in parts.items():
            if len(numbers) == 0:
                problems.append(f"{split}/{part} is empty")
            if len(np.unique(numbers)) < len(numbers):
                problems.append(f"{split}/{part} lists a clip twice")
        if len(parts) == 2:
            both = np.intersect1d(*parts.values())
            if len(both):
                problems.append(
                    f"{split}: {len(both)} clips train and test ({_some(store.name[both].tolist())}); results are too good"
                )
    return problems


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
