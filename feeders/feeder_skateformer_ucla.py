"""Northwestern-UCLA in the recipe of SkateFormer (Do, Kim, ECCV 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from feeders import feeder_ucla
from feeders import skateformer_transforms as skate
from feeders.arguments import bounded
from feeders.clip_store import MAX_WINDOW
from feeders.random_numbers import RandomNumbers

JOINTS, FRAMES = (4, 12), (0.25, 0.5)  # that are set to 0: how many joints; share of the frames


@dataclass(eq=False, repr=False)
class Feeder(feeder_ucla.Feeder):
    """As CTR-GCN's, with 64 frames and the time of each frame: -1 at the start of the clip, 1 at its end.

    drop_prob: training only, probability that one axis becomes 0, and that 4 to 12 joints become 0 in a quarter to half
    of the frames.
    """

    window_size: int = bounded(64, 1, MAX_WINDOW)
    drop_prob: float = bounded(0.5, 0, 1)

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        x, frame = self.sample(clip, random)
        if self.train:
            x = self.drop(x, random)
        time = skate.times(frame, self.clips.length[clip])
        return {word: self.derive(x, word) for word in modalities} | {"time": time}

    def drop(self, x: Tensor, random: RandomNumbers) -> Tensor:
        """Set a random axis, and random joints in random frames, to 0: (N, C, T, V, M) -> same."""
        (_, C, T, V, _), acts = x.shape, random.uniform(2) < self.drop_prob
        x = skate.zero_axis(x, random.integer(0, C)[:, 0], acts[:, 0])
        joints = skate.smallest(random.integer(JOINTS[0], JOINTS[1] + 1), random.uniform(V))
        low, high = (int(share * T) for share in FRAMES)
        frames = skate.smallest(random.integer(low, high + 1), random.uniform(T))
        return skate.zero_joints(x, joints, frames, acts[:, 1])
