"""Kinetics-Skeleton, and NTU RGB+D in the recipes of ST-GCN (AAAI 2018), 2s-AGCN (CVPR 2019) and MS-G3D (CVPR 2020): 300 padded frames."""

from collections.abc import Sequence

from torch import Tensor

from feeders.draws import Draws
from feeders.feeder import BatchFeeder
from feeders.field_files import open_source
from feeders.transforms import choose_frames, choose_map, extent, pad_map, random_move, shift_map

ANGLES = [-10.0, -5.0, 0.0, 5.0, 10.0]  # degrees
SCALES = [0.9, 1.0, 1.1]
SHIFTS = [-0.2, -0.1, 0.0, 0.1, 0.2]  # of the image, or metres


class Feeder(BatchFeeder):
    """Clips padded to the frames of the benchmark (`window` of the store, 300), by zeros or by repetition as its recipe says.

    window_size: frames to yield, with random_choose a window at a random place, without it zeros behind (0: all frames).
    random_shift: a clip at a random place of its padding. random_move: turns, scales and moves x and y evenly over time.
    Bones and motions are taken before all of these, like the field's separate files of bones and motions.
    """

    def __init__(
        self,
        data_path: str,
        split: str = "",
        part: str = "train",
        modality: str = "joint",
        seed: int = 0,
        repeat: int = 1,
        also: Sequence[str] = (),
        label_path: str = "",
        window_size: int = 0,
        random_choose: bool = False,
        random_shift: bool = False,
        random_move: bool = False,
        skeleton: str = "",
        hold_out: Sequence[str] = (),
    ):
        source = open_source(data_path, split, part, label_path, hold_out)
        self.window = int(source.manifest.get("window") or source.length.max())
        self.pad = source.manifest.get("pad") or "zero"
        if window_size < 0 or (random_choose and window_size == 0):
            raise ValueError(
                f"window_size: found {window_size}; allowed are frames from 1, or 0 for all without random_choose; give a number"
            )
        if not random_choose and 0 < window_size < self.window:
            raise ValueError(
                f"window_size: found {window_size} for clips of {self.window} frames; fewer need random_choose; switch it on or leave "
                "window_size out"
            )
        self.window_size = window_size or self.window
        super().__init__(source, skeleton, modality, also, seed, repeat, self.window_size)
        self.random_choose, self.random_shift, self.random_move = random_choose, random_shift, random_move

    def streams(self, clip: Tensor, draws: Draws, modalities: Sequence[str]) -> dict[str, Tensor]:
        x = self.source.take(clip, pad_map(self.source.length[clip], self.window, self.pad))
        time = self.frame_map(x, draws)
        if self.random_move:
            angle, scale = draws.choice(ANGLES, 2), draws.choice(SCALES, 2)
            shift = draws.choice(SHIFTS, 4).view(-1, 2, 2)
        out = {}
        for word in modalities:
            y = self.derive(x, word)
            y = y if time is None else choose_frames(y, time)
            out[word] = random_move(y, angle, scale, shift) if self.random_move else y
        return out

    def frame_map(self, x: Tensor, draws: Draws) -> Tensor | None:
        """The frames to keep of padded clips (N, C, T, V, M) -> (N, T'), -1 for empty ones; None for all."""
        T, size = x.shape[2], self.window_size
        time = None
        if self.random_shift:
            first, last = extent(x)
            begin = draws.integer(0, (T - (last - first) + 1)[:, None])[:, 0]
            time = shift_map(first, last, T, begin)
        if size != T:
            begin = draws.integer(0, abs(T - size) + 1 if self.random_choose else 1)[:, 0]
            window = choose_map(T, size, begin)
            time = window if time is None else time.gather(1, window.clamp(min=0)).masked_fill(window < 0, -1)
        return time
