"""Northwestern-UCLA with the recipe of SkateFormer (Do, Kim, ECCV 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from feeders import feeder_ucla
from feeders import skateformer_transforms as skate
from feeders.arguments import bounded
from feeders.clip_store import MAX_WINDOW
from feeders.random_numbers import RandomNumbers


@dataclass(eq=False, repr=False)
class Feeder(feeder_ucla.Feeder):
    """The recipe of CTR-GCN with 64 frames, dropped axes and joints, and the time of each frame, from -1 (start of the
    clip) to 1 (end)."""

    window_size: int = bounded(64, 1, MAX_WINDOW)
    drop_axis: bool = True
    drop_joint: bool = True

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        x, frame = self.sample(clip, random)
        time = skate.times(frame, self.clips.length[clip])
        return {word: self.derive(x, word) for word in modalities} | {"time": time}
