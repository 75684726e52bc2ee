"""Clip stores of random numbers."""

import json

import numpy as np

from feeders.clips import FORMAT


def write_store(path, clips, labels, persons, splits, **manifest):
    """clips: arrays (K, T, V, C), K tracks; persons: the track of each slot."""
    path.mkdir()
    rows = [clip.shape[0] * clip.shape[1] for clip in clips]
    np.save(
        path / "frames.npy", np.concatenate([clip.reshape(-1, *clip.shape[2:]) for clip in clips]).astype(np.float32)
    )
    shown = [clip[[track for track in slots if track >= 0]] for clip, slots in zip(clips, persons, strict=True)]
    np.savez(
        path / "index.npz",
        name=np.array([f"clip_{i}" for i in range(len(clips))]),
        label=np.array(labels, np.int64),
        start=np.cumsum([0, *rows[:-1]]),
        length=np.array([clip.shape[1] for clip in clips]),
        persons=np.array(persons, np.int64),
        valid=np.array([(x != 0).any((0, 2, 3)).sum() for x in shown]),
        **{
            f"split/{split}/{part}": np.array(i, np.int64)
            for split, parts in splits.items()
            for part, i in parts.items()
        },
    )
    (path / "manifest.json").write_text(json.dumps({"format": FORMAT, **manifest}))
    return path


def random_clips(lengths, V, C=3, seed=0):
    """One track for even clips, two for odd ones."""
    draw = np.random.default_rng(seed)
    clips = [draw.normal(size=(1 + i % 2, T, V, C)).astype(np.float32) for i, T in enumerate(lengths)]
    return clips, [(0, 1) if len(clip) == 2 else (0, -1) for clip in clips]
