"""Feeders that make whole batches, compared with a data set that treats clips one by one.

Both follow CTR-GCN's recipe for training on NTU RGB+D: 64 frames, p_interval [0.5, 1], random_rot, batches of 64.
"""

import pkgutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graph.ntu_rgb_d import SKELETON

BATCH, WINDOW, FRAMES = 64, 64, 300  # FRAMES of the published arrays
MODALITIES = ("joint", "bone_motion")
MakeBatch = Callable[[list[int]], object]


def one_pass(make_batch: MakeBatch, clips: int) -> Callable[[], None]:
    """All clips once, in random order."""
    order = torch.randperm(clips, generator=torch.Generator().manual_seed(0)).tolist()

    def work() -> None:
        for begin in range(0, clips, BATCH):
            make_batch(order[begin : begin + BATCH])

    return work


def whole_batches(store: Path, modality: str) -> MakeBatch:
    """This project's feeder on a clip store."""
    recipe = {"window_size": WINDOW, "p_interval": [0.5, 1], "random_rot": True}
    feeder = pkgutil.resolve_name("feeders.feeder_ntu.Feeder")
    return feeder(data_path=str(store), split="xsub", part="train", modality=modality, **recipe).__getitems__


def clip_by_clip(published: Path, modality: str) -> MakeBatch:
    """A data set on the published arrays of the same clips: one call for each clip, stacked to a batch at the end."""
    with np.load(published) as arrays:
        x = arrays["x_train"].reshape(len(arrays["x_train"]), -1, 2, 25, 3)
    data = np.zeros((len(x), 3, FRAMES, 25, 2), np.float32)
    data[:, :, : x.shape[1]] = x.transpose(0, 4, 1, 3, 2)

    def clip(i: int) -> Tensor:
        x = np.array(data[i])
        valid = int((x.sum((0, 2, 3)) != 0).sum())
        length = min(max(int(valid * np.random.uniform(0.5, 1)), 64), valid)
        begin = np.random.randint(0, valid - length + 1)
        x = torch.from_numpy(x[:, begin : begin + length]).permute(0, 2, 3, 1).reshape(1, 1, 3 * 25 * 2, length)
        x = F.interpolate(x, size=(3 * 25 * 2, WINDOW), mode="bilinear", align_corners=False)
        x = rotate(x.view(3, 25, 2, WINDOW).permute(0, 3, 1, 2).contiguous(), np.random.uniform(-0.3, 0.3, 3)).numpy()
        if modality.startswith("bone"):
            y = np.zeros_like(x)
            for joint, parent in SKELETON.bones:
                y[:, :, joint] = x[:, :, joint] - x[:, :, parent]
            x = y
        if modality.endswith("motion"):
            x[:, :-1] = x[:, 1:] - x[:, :-1]
            x[:, -1] = 0
        return torch.from_numpy(x)

    return lambda indices: torch.stack([clip(i) for i in indices])


def rotate(x: Tensor, angles: np.ndarray) -> Tensor:
    """(3, T, V, M) rotated about x, y and z by angles in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    rx = torch.tensor([[1, 0, 0], [0, cx, sx], [0, -sx, cx]], dtype=torch.float32)
    ry = torch.tensor([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]], dtype=torch.float32)
    rz = torch.tensor([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]], dtype=torch.float32)
    return (rz @ ry @ rx @ x.flatten(1)).view(x.shape)
