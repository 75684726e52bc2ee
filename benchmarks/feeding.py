"""Clips per second on one core: feeders that make whole batches beside the same transforms clip by clip.

    python benchmarks/feeding.py

CTR-GCN's recipe for NTU RGB+D in training (64 frames, p_interval [0.5, 1], random_rot), batches of 64, synthetic clips as long and as
often of two persons as NTU's. Both sides run in turns on one thread and count processor time; read the ratio, the rest is the machine's.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F

from feeders.clip_store import ClipStore, write_store
from feeders.feeder_ntu import Feeder
from graph.ntu_rgb_d import SKELETON

BATCH, WINDOW, FRAMES, TWO_PERSONS = 64, 64, 300, 11 / 60  # 11 of NTU's 60 actions need two


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1024, help="clips in the synthetic store (1024)")
    parser.add_argument("--rounds", type=int, default=5, help="passes over the store on each side (5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = synthetic_store(Path(folder) / "synthetic.clips", args.clips)
        print(
            f"{'modality':<14}{'clip by clip':>14}{'whole batches':>15}{'ratio':>8}    (clips/s, median of {args.rounds})"
        )
        for modality in ("joint", "bone_motion"):
            plain, batched = clip_by_clip(path, modality), whole_batches(path, modality)
            seconds = [(timed(plain, args.clips), timed(batched, args.clips)) for _ in range(args.rounds)]
            slow, fast = (args.clips / statistics.median(side) for side in zip(*seconds, strict=True))
            print(f"{modality:<14}{slow:>14,.0f}{fast:>15,.0f}{fast / slow:>8.1f}")


def timed(make_batch, clips: int) -> float:
    order = torch.randperm(clips, generator=torch.Generator().manual_seed(0)).tolist()
    start = time.process_time()
    for begin in range(0, clips, BATCH):
        make_batch(order[begin : begin + BATCH])
    return time.process_time() - start


def synthetic_store(path: Path, clips: int) -> Path:
    """Clips of 32 to 300 frames, 85 on average, a sixth of them of two persons."""
    draw = np.random.default_rng(0)
    length = np.clip(draw.lognormal(np.log(75), 0.45, clips), 32, FRAMES).astype(np.int64)
    two = draw.random(clips) < TWO_PERSONS
    rows = length * (1 + two)
    index = {
        "name": np.arange(clips).astype(str),
        "label": np.arange(clips) % 60,
        "length": length,
        "persons": np.stack([np.zeros(clips, np.int64), np.where(two, 1, -1)], 1),
        "valid": length,
        "rows": rows,
    }
    splits = {"xsub": {"train": np.arange(clips), "test": np.arange(min(clips, 8))}}
    frames = (draw.normal(size=(n, 25, 3)).astype(np.float32) for n in rows)
    write_store(path, {"num_class": 60, "num_point": 25, "channels": 3}, index, splits, frames)
    return path


def whole_batches(path: Path, modality: str):
    feeder = Feeder(str(path), "xsub", "train", modality, window_size=WINDOW, p_interval=[0.5, 1], random_rot=True)
    return feeder.__getitems__


def clip_by_clip(path: Path, modality: str):
    """The usual data set: padded clips in memory, one call for each, stacked to a batch at the end."""
    store = ClipStore(path)
    data = np.zeros((len(store), 3, FRAMES, 25, 2), np.float32)
    for i in range(len(store)):
        data[i, :, : store.length[i]] = store.clip(i)

    def clip(i: int) -> torch.Tensor:
        x = np.array(data[i])
        valid = int((x.sum((0, 2, 3)) != 0).sum())
        p = np.random.rand() * 0.5 + 0.5
        length = min(max(int(valid * p), 64), valid)
        begin = np.random.randint(0, valid - length + 1)
        x = torch.from_numpy(x[:, begin : begin + length])
        x = x.permute(0, 2, 3, 1).reshape(1, 1, 3 * 25 * 2, length)
        x = F.interpolate(x, size=(3 * 25 * 2, WINDOW), mode="bilinear", align_corners=False)
        x = x.view(3, 25, 2, WINDOW).permute(0, 3, 1, 2).contiguous()
        x = turn(x, np.random.uniform(-0.3, 0.3, 3)).numpy()
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


def turn(x: torch.Tensor, angles: np.ndarray) -> torch.Tensor:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    rx = torch.tensor([[1, 0, 0], [0, cx, sx], [0, -sx, cx]], dtype=torch.float32)
    ry = torch.tensor([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]], dtype=torch.float32)
    rz = torch.tensor([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]], dtype=torch.float32)
    return (rz @ ry @ rx @ x.flatten(1)).view(x.shape)


if __name__ == "__main__":
    main()
