"""Northwestern-UCLA with the recipe of CTR-GCN (Chen et al., ICCV 2021), which TSGCNeXt also uses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feeders.arguments import bounded
from feeders.batch_feeder import BatchFeeder
from feeders.clip_store import MAX_WINDOW
from feeders.random_numbers import RandomNumbers
from feeders.transforms import apply_matrix, choose_frames, drop, linspace_map, min_max, rotation, smallest

COPIES = 100  # of each frame in the pool that training frames are sampled from without replacement


@dataclass(eq=False, repr=False)
class Feeder(BatchFeeder):
    """Clips are rotated (training only), each axis is scaled to -1 .. 1, then `window_size` frames are sampled.

    largest_angle: maximum angle of the rotations about x and about y, in whole degrees. drop_axis, drop_joint: set one
    axis to 0 in half of the training clips, and 4 to 12 joints in 16 to 32 frames in half of the training clips
    (Hyper-GCN).

    Training samples the frames and rotates about x and y; testing uses evenly spaced frames. The published reader also
    centers on the spine and draws a random scale. Scaling to -1 .. 1 cancels both exactly, so they are omitted.
    """

    split: str = "xview"
    window_size: int = bounded(52, 1, MAX_WINDOW)
    largest_angle: int = bounded(60, 0, 180)
    drop_axis: bool = False
    drop_joint: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.channels != 3:
            raise ValueError(f"data_path: expected clips with x, y and z, got {self.channels} channels")
        longest = COPIES * int(self.clips.length.min())
        if self.train and self.window_size > longest:
            raise ValueError(
                f"window_size: expected at most {longest} frames, {COPIES} times the shortest clip, "
                f"got {self.window_size}"
            )

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        x, _ = self.sample(clip, random)
        return {word: self.derive(x, word) for word in modalities}

    def sample(self, clip: Tensor, random: RandomNumbers) -> tuple[Tensor, Tensor]:
        """Scaled clips and their frame numbers: (N,) -> (N, C, T, V, M) float64, (N, T)."""
        length = self.clips.length[clip]
        # shorter clips repeat their last frame, which does not change the minima and maxima of the clip
        whole = torch.arange(self.clips.longest(clip), device=clip.device).minimum(length[:, None] - 1)
        x = self.clips.take(clip, whole).double()
        if self.train:
            degrees = random.integer(-self.largest_angle, self.largest_angle + 1, 2)
            x = rotate_xy(x, degrees)
            time = random.subset(self.window_size, length * COPIES) // COPIES
        else:
            time = linspace_map(length, self.window_size)
        x = choose_frames(min_max(x), time)
        if self.train and self.drop_axis:
            axis = random.integer(0, 3)
            x = drop(x, random.uniform(1) < 0.5, axis=torch.arange(3, device=x.device) == axis)
        if self.train and self.drop_joint:
            joint = smallest(random.uniform(self.num_point), random.integer(4, 13))
            frame = smallest(random.uniform(self.window_size), random.integer(16, 33))
            x = drop(x, random.uniform(1) < 0.5, frame=frame, joint=joint)
        return x, time


def rotate_xy(x: Tensor, degrees: Tensor) -> Tensor:
    """Row vectors times Ry Rx: (N, 3, T, V, M) by whole degrees about x and y (N, 2) -> same."""
    angles = torch.nn.functional.pad(degrees.double() * (math.pi / 180), (0, 1))
    rx, ry, _ = rotation(angles)
    return apply_matrix((ry @ rx).transpose(1, 2), x)
