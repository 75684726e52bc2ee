"""Northwestern-UCLA as CTR-GCN reads it (Chen et al., ICCV 2021; TSGCNeXt's reader is the same)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from feeders.draws import Draws
from feeders.feeder import BatchFeeder
from feeders.field_files import open_source
from feeders.transforms import apply_matrix, choose_frames, linspace_map, min_max, rotation

COPIES = 100  # each frame stands this often in the urn that training frames are drawn from


class Feeder(BatchFeeder):
    """Every clip in a box: turned (training only), each axis scaled to -1 .. 1, then `window_size` frames.

    largest_angle: of the turns about x and about y, in whole degrees to either side.

    Training draws the frames and turns about x and y; testing takes evenly spread frames. The published reader also centres on the
    spine and draws a scale: the box cancels both exactly, so they are not here.
    """

    def __init__(
        self,
        data_path: str,
        split: str = "xview",
        part: str = "train",
        modality: str = "joint",
        seed: int = 0,
        repeat: int = 1,
        also: Sequence[str] = (),
        window_size: int = 52,
        largest_angle: int = 60,
        skeleton: str = "",
        hold_out: Sequence[str] = (),
    ):
        source = open_source(data_path, split, part, hold_out=hold_out)
        super().__init__(source, skeleton, modality, also, seed, repeat, window_size)
        shortest = int(source.length.min())
        if part == "train" and window_size > COPIES * shortest:
            raise ValueError(
                f"window_size: found {window_size}; the shortest clip allows {COPIES * shortest}; take a smaller window"
            )
        if not 0 <= largest_angle <= 180:
            raise ValueError(
                f"largest_angle: found {largest_angle}; allowed are whole degrees from 0 to 180; 60 is published"
            )
        self.window_size, self.largest_angle, self.train = window_size, largest_angle, part == "train"

    def streams(self, clip: Tensor, draws: Draws, modalities: Sequence[str]) -> dict[str, Tensor]:
        length = self.source.length[clip]
        whole = torch.arange(self.source.longest(clip), device=clip.device).minimum(
            length[:, None] - 1
        )  # the last frame again, so that
        x = self.source.take(clip, whole).double()  # minima and maxima are those of the clip
        if self.train:
            degrees = draws.integer(-self.largest_angle, self.largest_angle + 1, 2)
            x = turn(x, degrees)
            time = draws.subset(self.window_size, length * COPIES) // COPIES
        else:
            time = linspace_map(length, self.window_size)
        x = choose_frames(min_max(x), time)
        return {word: self.derive(x, word) for word in modalities}


def turn(x: Tensor, degrees: Tensor) -> Tensor:
    """Row vectors times Ry Rx: (N, 3, T, V, M) by whole degrees about x and y (N, 2) -> same."""
    angles = torch.nn.functional.pad(degrees.double() * (math.pi / 180), (0, 1))
    rx, ry, _ = rotation(angles)
    return apply_matrix((ry @ rx).transpose(1, 2), x)
