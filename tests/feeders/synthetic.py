"""Clip stores of random numbers."""

import json

import numpy as np

from feeders import clip_store


def write_store(path, clips, labels, persons, splits, **facts):
    """Write a clip store. clips: arrays (K, T, V, C) of K tracks. persons: the track in each slot. facts: entries of
    the manifest that replace others."""
    shown = [clip[[track for track in slots if track >= 0]] for clip, slots in zip(clips, persons, strict=True)]
    index = {
        "name": np.array([f"clip_{i}" for i in range(len(clips))]),
        "label": np.array(labels, np.int64),
        "length": np.array([clip.shape[1] for clip in clips]),
        "persons": np.array(persons, np.int64),
        "valid": np.array([(x != 0).any((0, 2, 3)).sum() for x in shown]),
        "rows": np.array([clip.shape[0] * clip.shape[1] for clip in clips]),
    }
    splits = {split: {part: np.array(i, np.int64) for part, i in parts.items()} for split, parts in splits.items()}
    blocks = (clip.reshape(-1, *clip.shape[2:]).astype(np.float32) for clip in clips)
    shape = {"num_point": clips[0].shape[2], "channels": clips[0].shape[3]}
    store = clip_store.write_store(path, shape, index, splits, blocks)
    manifest = {key: value for key, value in (store.manifest | facts).items() if value is not None}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def random_clips(lengths, V, C=3, seed=0):
    """Random clips: one track for even clips, two for odd ones."""
    draw = np.random.default_rng(seed)
    clips = [draw.normal(size=(1 + i % 2, T, V, C)).astype(np.float32) for i, T in enumerate(lengths)]
    return clips, [(0, 1) if len(clip) == 2 else (0, -1) for clip in clips]


def rewrite_index(path, **changes):
    """Replace arrays of the index of a store; None removes one."""
    with np.load(path / "index.npz") as file:
        arrays = {key: value for key, value in (dict(file) | changes).items() if value is not None}
    np.savez(path / "index.npz", **arrays)
    return path


def rewrite_manifest(path, **changes):
    """Replace entries of the manifest of a store; None removes one."""
    manifest = json.loads((path / "manifest.json").read_text()) | changes
    (path / "manifest.json").write_text(json.dumps({key: v for key, v in manifest.items() if v is not None}))
    return path
