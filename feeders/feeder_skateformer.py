"""NTU RGB+D and other body layouts with the recipe of SkateFormer (Do, Kim, ECCV 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from feeders import skateformer_transforms as skate
from feeders.arguments import bounded, check_interval
from feeders.batch_feeder import BatchFeeder
from feeders.random_numbers import RandomNumbers
from feeders.sampling import spread
from feeders.transforms import blend, drop, smallest
from graph import coco, coco20, kinetics, ntu_rgb_d

Step = Literal["swap", "shear", "rotate", "scale", "mirror", "axis", "joints"]
STEPS = ("swap", "shear", "rotate", "scale", "mirror", "axis", "joints")
DEPTH = {"shear", "rotate", "scale", "axis"}  # steps for clips with x, y and z
FLAT = (coco.SKELETON, coco20.SKELETON, kinetics.SKELETON)  # x, y and a score
LARGEST_SHEAR, LARGEST_ANGLE, LARGEST_SCALE = 0.5, 30.0, 0.2  # angle in degrees
JOINTS, FRAMES = (5, 15), (0.25, 0.5)  # that the last step sets to 0: number of joints, share of the frames


@dataclass(eq=False, repr=False)
class Feeder(BatchFeeder):
    """`window_size` frames of a crop of each clip, and the time of each frame, from -1 (start of the clip) to 1 (end).

    p_interval: `[p]` crops the middle share p of the frames and samples evenly spaced frames; `[low, high]` crops a
    random share at a random position and samples random frames. Crops shorter than the window are resized linearly.

    Training only: with probability intra_prob, a clip is augmented; with probability inter_prob, it gets the bone
    lengths of another clip of its class instead. steps: the steps of the augmentation; each one is applied to half of
    the augmented clips: `swap` the persons; `shear`, `rotate` about one axis and `scale` the coordinates; `mirror` left
    and right joints; set one `axis` to 0; set 5 to 15 `joints` to 0 in a quarter to half of the frames.
    """

    p_interval: Sequence[float] = (0.95,)
    intra_prob: float = bounded(0.5, 0, 1)
    inter_prob: float = bounded(0.2, 0, 1)
    steps: Sequence[Step] = STEPS

    def __post_init__(self):
        super().__post_init__()
        check_interval(self.p_interval)
        if self.skeleton == ntu_rgb_d.SKELETON:
            self.bone_parents = ntu_rgb_d.BONE_PARENTS_SKATEFORMER
        if self.intra_prob + self.inter_prob > 1:
            raise ValueError(f"inter_prob: expected at most 1 - intra_prob, got {self.inter_prob}")
        deep = sorted(DEPTH & set(self.steps)) if self.intra_prob else []
        deep += ["inter_prob"] if self.inter_prob else []
        if self.train and deep and (self.channels != 3 or self.skeleton in FLAT):
            raise ValueError(f"steps: expected clips with x, y and z for {', '.join(deep)}, got clips without depth")
        # the clips of a class are consecutive in `order`, starting at `first`
        self.order = torch.from_numpy(np.argsort(self.label, kind="stable"))
        _, inverse, count = np.unique(self.label, return_inverse=True, return_counts=True)
        self.first = torch.from_numpy((count.cumsum() - count)[inverse])
        self.count = torch.from_numpy(count[inverse])

    def to(self, device: torch.device | str) -> "Feeder":
        super().to(device)
        self.order, self.first, self.count = (x.to(self.device) for x in (self.order, self.first, self.count))
        return self

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        valid = self.clips.valid[clip].clamp(min=1)
        early, late, weight = self.pick_frames(valid, random)
        x = blend(*self.read(clip, torch.cat([early, late], 1)).chunk(2, 2), weight)
        time = skate.times(skate.frame_numbers(early, late, weight), valid)
        if self.train:
            x = self.augment(x, clip, time, random)
        return {word: self.derive(x, word) for word in modalities} | {"time": time}

    def pick_frames(self, valid: Tensor, random: RandomNumbers) -> tuple[Tensor, Tensor, Tensor]:
        """Earlier frames, later frames and their weights, of clips with `valid` frames: (N,) -> (N, T) each."""
        T = self.window_size
        if len(self.p_interval) == 1:
            (p,) = self.p_interval
            # for some clips of at most T frames, the last frame number is one past the end, as in the published code
            begin, length = ((1 - p) * valid.double() / 2).long(), skate.crop(valid, p, T)
            picked = torch.arange(T, device=valid.device) * length[:, None] // T
        else:
            length = skate.crop(valid, random.uniform(1, *self.p_interval)[:, 0], T)
            begin = random.integer(0, (valid - length + 1)[:, None])[:, 0]
            picked = spread(length[:, None], random.uniform(T + 1), random.uniform(T))
        return skate.pick_or_resize(begin, length, picked)

    def read(self, clip: Tensor, time: Tensor) -> Tensor:
        """Frames of clips, those after the end empty: (N,), (N, T) -> (N, C, T, V, M)."""
        return self.clips.take(clip, time.masked_fill(time >= self.clips.length[clip][:, None], -1))

    def augment(self, x: Tensor, clip: Tensor, time: Tensor, random: RandomNumbers) -> Tensor:
        """Apply one of the two kinds of augmentation, or none."""
        branch, place = random.uniform(2).unbind(1)
        intra = branch < self.intra_prob
        inter = ~intra & (branch < self.intra_prob + self.inter_prob)
        if self.inter_prob:
            other = self.order[self.first[clip] + (place * self.count[clip]).long()]
            y = skate.bone_lengths_of(x, self.reference(other, time), self.bone_parents)
            x = skate.where(inter, y, x)
        return self.change(x, intra, random) if self.intra_prob else x

    def reference(self, clip: Tensor, time: Tensor) -> Tensor:
        """Frames of whole clips at the same times: (N,), (N, T) -> (N, C, T, V, M)."""
        valid = self.clips.valid[clip]
        return self.read(clip, ((time + 1) * valid[:, None] / 2).round().long())

    def change(self, x: Tensor, act: Tensor, random: RandomNumbers) -> Tensor:
        """The steps of the augmentation for clips where `act` (N,)."""
        (_, C, T, V, _), coins = x.shape, random.uniform(len(STEPS)) < 0.5
        taken = {step: coins[:, i] & act for i, step in enumerate(STEPS) if step in self.steps}
        never = torch.zeros_like(act)
        shear, scale = random.uniform(6, -LARGEST_SHEAR, LARGEST_SHEAR), random.uniform(3, -1, 1)
        axes, degrees = random.integer(0, min(C, 3), 2), random.uniform(1, -LARGEST_ANGLE, LARGEST_ANGLE)
        low, high = (int(share * T) for share in FRAMES)
        joint = smallest(random.uniform(V), random.integer(JOINTS[0], JOINTS[1] + 1))
        frame = smallest(random.uniform(T), random.integer(low, high + 1))

        if "swap" in taken:
            x = skate.where(taken["swap"], x.flip(-1), x)
        if {"shear", "rotate", "scale"} & taken.keys():
            linear = torch.stack([taken.get(step, never) for step in ("shear", "rotate", "scale")], 1)
            x = skate.transform(
                x, skate.linear_map(shear, axes[:, 0], degrees[:, 0], 1 + LARGEST_SCALE * scale, linear)
            )
        if "mirror" in taken:
            x = skate.mirror(x, self.skeleton.left, self.skeleton.right, taken["mirror"])
        if "axis" in taken:
            x = drop(x, taken["axis"][:, None], axis=torch.arange(C, device=x.device) == axes[:, 1:])
        return drop(x, taken["joints"][:, None], frame=frame, joint=joint) if "joints" in taken else x
