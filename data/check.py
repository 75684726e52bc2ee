"""Checks of any clip store."""

import numpy as np

from feeders.clip_store import ClipStore, check_joints
from graph.skeleton import find_skeleton
from torchlight.system.files import sha256
from torchlight.system.text import counted

BLOCK = 1 << 16  # frames that are checked at once


def common_problems(store: ClipStore) -> list[str]:
    """Damaged files, other joints, non-finite numbers, joints that never move, overlapping or empty parts, as lines.

    Raises:
        ValueError: the manifest is incomplete, or a file cannot be read.
    """
    store.require("sha256", "clips", "num_class", "class_names")
    problems = _damage(store)
    return problems if problems else _body(store) + _frames(store) + _labels(store) + _splits(store)


def _body(store: ClipStore) -> list[str]:
    if not {"joints", "skeleton"} <= store.manifest.keys():
        return []
    try:
        check_joints(store.manifest, find_skeleton(store.manifest["skeleton"]).joints)
    except ValueError as error:
        return [f"{store.manifest['skeleton']}: {error}"]
    return []


def _damage(store: ClipStore) -> list[str]:
    problems = []
    for name, expected in store.manifest["sha256"].items():
        if sha256(store.path / name) != expected:
            problems.append(
                f"{store.path / name}: changed after it was written (SHA-256 differs); prepare the data again"
            )
    tracks = np.diff(np.append(store.start, len(store.frames)))
    if len(store) != store.manifest["clips"] or (tracks % store.length != 0).any():
        problems.append("the index does not match the frames; prepare the data again")
    return problems


def _frames(store: ClipStore) -> list[str]:
    if len(store.frames) == 0:
        return ["no clip has a frame with a body"]
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
            f"{counted(len(infinite), 'frame')} with numbers that are not finite, in {_some(clips)}; "
            "remove these raw files and prepare the data again"
        )
    still = np.flatnonzero((low == high).all(axis=1))
    still = still[still != store.manifest.get("origin_joint", -1)]
    if len(still):
        problems.append(
            f"joints {still.tolist()} have the same position in every frame; they are missing in the raw files"
        )
    return problems


def _labels(store: ClipStore) -> list[str]:
    count = np.bincount(store.label, minlength=store.manifest["num_class"])
    count = count if store.target is None else (store.target > 0).sum(0)
    empty = [f"{label} ({store.manifest['class_names'][label]})" for label in np.flatnonzero(count == 0)]
    classes = counted(len(empty), "class", "classes")
    return [f"no clip of {classes}: {_some(empty)}; raw files are missing"] if empty else []


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
                    f"{split}: {counted(len(both), 'clip')} in both train and test ({_some(store.name[both].tolist())})"
                )
    return problems


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
