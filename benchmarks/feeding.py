"""Feeders on one core, with CTR-GCN's recipe for training on NTU RGB+D: one pass over synthetic clips in batches."""

import pkgutil
from pathlib import Path

import torch

from benchmarks.measure import Work

BATCH, MODALITIES = 64, ("joint", "bone_motion")
RECIPE = {"window_size": 64, "p_interval": [0.5, 1], "random_rot": True}


def one_pass(store: Path, modality: str) -> tuple[Work, int]:
    """What makes all clips of a store once, in random order, and their number."""
    feeder = pkgutil.resolve_name("feeders.feeder_ntu.Feeder")  # of the checkout that is imported now
    feeder = feeder(data_path=str(store), split="xsub", part="train", modality=modality, **RECIPE)
    order = torch.randperm(len(feeder), generator=torch.Generator().manual_seed(0)).tolist()

    def work() -> None:
        for begin in range(0, len(order), BATCH):
            feeder.__getitems__(order[begin : begin + BATCH])

    return work, len(order)
