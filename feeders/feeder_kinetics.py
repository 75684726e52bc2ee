"""Kinetics-Skeleton and NTU RGB+D with the recipes of ST-GCN (AAAI 2018), 2s-AGCN (CVPR 2019), MS-G3D (CVPR 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from feeders.arguments import bounded
from feeders.batch_feeder import BatchFeeder
from feeders.clip_store import MAX_WINDOW
from feeders.random_numbers import RandomNumbers
from feeders.transforms import choose_frames, choose_map, extent, pad_map, random_move, shift_map

ANGLES = [-10.0, -5.0, 0.0, 5.0, 10.0]  # degrees
SCALES = [0.9, 1.0, 1.1]
SHIFTS = [-0.2, -0.1, 0.0, 0.1, 0.2]  # fractions of the image size, or meters


@dataclass(eq=False, repr=False)
class Feeder(BatchFeeder):
    """Clips padded to the number of frames of the benchmark (`window` of the store, 300), with zeros or by looping.

    window_size: frames of a clip in a batch. With random_choose, this is a window at a random position; otherwise,
    zeros are appended (0: all frames). random_shift: shift the clip to a random position in its padding. random_move:
    rotate, scale and move x and y, interpolated over time. Bones and motions are derived before these steps, as in the
    published files of bones and motions.
    """

    window_size: int = bounded(0, 0, MAX_WINDOW)
    random_choose: bool = False
    random_shift: bool = False
    random_move: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.pad = self.manifest.get("pad") or "zero"
        if self.random_choose and self.window_size == 0:
            raise ValueError("window_size: expected a number of frames from 1 with random_choose, got 0")
        if not self.random_choose and 0 < self.window_size < self.window:
            raise ValueError(
                f"window_size: expected at least {self.window} frames, the length of the padded clips, "
                f"got {self.window_size}; set random_choose to use fewer"
            )
        if self.random_move and self.channels < 2:
            raise ValueError(f"random_move: expected clips with x and y, got {self.channels} channel")
        if self.random_move and self.append_joints:
            raise ValueError("append_joints: expected false with random_move, which moves the first two channels only")
        self.window_size = self.window_size or self.window

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        x = self.clips.take(clip, pad_map(self.clips.length[clip], self.window, self.pad))
        time = self.frame_map(x, random)
        if self.random_move:
            angle, scale = random.choice(ANGLES, 2), random.choice(SCALES, 2)
            shift = random.choice(SHIFTS, 4).view(-1, 2, 2)
        out = {}
        for word in modalities:
            y = self.derive(x, word)
            y = y if time is None else choose_frames(y, time)
            out[word] = random_move(y, angle, scale, shift) if self.random_move else y
        return out

    def frame_map(self, x: Tensor, random: RandomNumbers) -> Tensor | None:
        """The frames to keep of padded clips (N, C, T, V, M) -> (N, T'), -1 for empty ones; None for all.

        `random_shift` moves the frames in which there are joints, also for bones and motions.
        """
        T, size = x.shape[2], self.window_size
        time = None
        if self.random_shift:
            first, last = extent(x)
            begin = random.integer(0, (T - (last - first) + 1)[:, None])[:, 0]
            time = shift_map(first, last, T, begin)
        if size != T:
            begin = random.integer(0, abs(T - size) + 1 if self.random_choose else 1)[:, 0]
            window = choose_map(T, size, begin)
            time = window if time is None else time.gather(1, window.clamp(min=0)).masked_fill(window < 0, -1)
        return time
