"""2-D poses as heatmaps, with the recipe of PoseConv3D (Duan et al., CVPR 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from feeders import heatmaps
from feeders.arguments import bounded
from feeders.batch_feeder import BatchFeeder
from feeders.clip_store import MAX_CLASSES, MAX_WINDOW
from feeders.detections import MOST_DETECTIONS
from feeders.random_numbers import RandomNumbers
from feeders.sampling import uniform_test, uniform_train
from graph import coco, kinetics

FLAT = (coco.SKELETON, kinetics.SKELETON)  # skeletons whose third channel is a score
LIMBS = {  # of COCO: limbs, and the numbers of those on the left and on the right
    "listed": (coco.LIMBS, coco.LEFT_LIMBS, coco.RIGHT_LIMBS),
    "default": (coco.LIMBS_DEFAULT, coco.LEFT_LIMBS_DEFAULT, coco.RIGHT_LIMBS_DEFAULT),
}
THRESHOLD = {"pyskl": 1e-3, "mmaction2": 1e-4}  # minimum score of a joint that is drawn
SHORT = 64  # pixels of the shorter side before the random crop of training
Heatmap = Literal["joint", "limb"]


@dataclass(eq=False, repr=False)
class Feeder(BatchFeeder):
    """`window_size` uniformly sampled frames; a map of `size` x `size` pixels for every joint or limb of all persons.

    "data" is (N, K, T, H, W). The box around all persons is cropped and scaled. Training uses a random part of it and
    mirrors half of the clips.

    Testing makes `num_clips` samples of each clip as rows of one batch, followed by their mirror images with `mirror`:
    "clips" is the number of rows of a clip; label and index are still (N,).

    pipeline: as in `pyskl` or as in `mmaction2`, which also draws joints with lower scores, and in tests samples other
    frames and, with `keep_ratio`, keeps the aspect ratio of the box. limbs: the order of the limbs of COCO, `listed` as
    in the published limb streams, or `default`. twice: [60, 120] uses the training clips of classes 60 to 119 twice in
    each epoch.

    Raises:
        ValueError: the data is not 2-D, the image sizes are unknown, or its body layout has no list of limbs.
    """

    modality: Heatmap = "joint"
    also: Sequence[Heatmap] = ()
    window_size: int = bounded(48, 1, MAX_WINDOW)
    size: int = bounded(64, 8, 1024)
    num_clips: int = bounded(1, 1, 1000)
    mirror: bool = False
    pipeline: Literal["pyskl", "mmaction2"] = "pyskl"
    keep_ratio: bool = True
    limbs: Literal["listed", "default"] = "listed"
    twice: Sequence[int] = ()

    detected = MOST_DETECTIONS  # all persons are in one map

    def __post_init__(self):
        super().__post_init__()
        self._check_data()
        if self.train and (self.num_clips > 1 or self.mirror):
            raise ValueError("num_clips, mirror: expected 1 and false for the training part, got other values")
        if self.twice and (len(self.twice) != 2 or not 0 <= self.twice[0] < self.twice[1] <= MAX_CLASSES):
            raise ValueError(f"twice: expected [first class, last class + 1], got {list(self.twice)}")
        if self.twice and self.train:
            again = np.flatnonzero((self.label >= self.twice[0]) & (self.label < self.twice[1]))
            self.clips.select(np.concatenate([np.arange(len(self.label)), again]))
            self.name, self.label = self.clips.name, self.clips.label
            self.target, self.group = self.clips.target, self.clips.group

    def _check_data(self) -> None:
        """Raise ValueError if no heatmaps can be drawn from the data."""
        if self.channels not in (2, 3) or (self.channels == 3 and self.skeleton not in FLAT):
            raise ValueError(
                f"data_path: expected 2-D poses (x, y, and a score for {' and '.join(body.name for body in FLAT)}), "
                f"got {self.channels} channels of {self.skeleton.name}; project 3-D joints to an image first"
            )
        if self.clips.image is None or not self.clips.image.all():
            raise ValueError(
                "data_path: expected poses in pixels and the image size of every clip (img_shape), got none; "
                "data/custom/prepare.py and prediction accept --image-size WIDTH HEIGHT"
            )
        if "limb" in (self.modality, *self.also) and self.skeleton != coco.SKELETON:
            raise ValueError(
                f"modality: expected joint for the skeleton {self.skeleton.name}, got limb; limbs are only defined for "
                "coco"
            )
        if self.append_joints or self.relative:
            raise ValueError("append_joints, relative: expected neither with heatmaps, got at least one")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(K, T, H, W) of a clip in a batch."""
        K = len(coco.LIMBS) if self.modality == "limb" else self.num_point
        return K, self.window_size, self.size, self.size

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
        batch, views = super().batch(indices, epoch, device), self.num_clips * (2 if self.mirror else 1)
        return batch | {"clips": views} if views > 1 else batch

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        x = self.clips.take(clip, self.sample(self.clips.length[clip], random)).float()
        points, score = x[:, :2], x[:, 2] if self.channels == 3 else (x != 0).any(1).float()
        points, score = self.place(points, score, self.clips.image[clip].long(), random)
        return {word: self.split_views(self.draw(points, score, word), word) for word in modalities}

    def joints(self, clip: int) -> Tensor:
        """A clip in pixels (2, T, V, M), y upwards, missing joints at 0, to draw it."""
        index = torch.tensor([clip], device=self.device)
        x = self.clips.take(index, torch.arange(int(self.clips.length[clip]), device=self.device)[None])[0, :2].float()
        return x * x.new_tensor([1, -1])[:, None, None, None]

    def sample(self, length: Tensor, random: RandomNumbers) -> Tensor:
        """The sampled frames of clips of `length` frames: (N,) -> (N, num_clips window_size)."""
        if self.train:
            return uniform_train(length, self.window_size, random)
        whole = self.pipeline == "pyskl"
        rows = [uniform_test(T, self.window_size, self.num_clips, draw_share=whole) for T in length.tolist()]
        return torch.stack([torch.from_numpy(row) for row in rows]).to(length.device)

    def place(self, points: Tensor, score: Tensor, size: Tensor, random: RandomNumbers) -> tuple[Tensor, Tensor]:
        """Points (N, 2, T, V, M) in the pixels of the maps, and their scores."""
        points, size = heatmaps.compact(points, size)
        if self.train:
            points, size = heatmaps.resize_short(points, size, SHORT)
            points, size = heatmaps.random_crop(points, size, random.uniform(20), random.uniform(2))
            points, size = heatmaps.resize(points, size, self.size, self.size)
            act, body = random.uniform(1)[:, 0] < 0.5, self.skeleton
            return heatmaps.flip(points, score, self.size, act, body.left, body.right)
        if self.pipeline == "pyskl" or not self.keep_ratio:
            return heatmaps.resize(points, size, self.size, self.size)[0], score
        points, size = heatmaps.resize_short(points, size, self.size)
        return heatmaps.center_crop(points, size, self.size)[0], score

    def draw(self, points: Tensor, score: Tensor, modality: str) -> Tensor:
        """Heatmaps of all frames (N, K, T, H, W)."""
        threshold = THRESHOLD[self.pipeline]
        if modality == "joint":
            return heatmaps.joint_maps(points, score, self.size, self.size, threshold)
        return heatmaps.limb_maps(points, score, LIMBS[self.limbs][0], self.size, self.size, threshold)

    def split_views(self, maps: Tensor, modality: str) -> Tensor:
        """(N, K, clips T, H, W) -> (N clips, K, T, H, W), or twice as many rows with the mirror images."""
        maps = maps.unflatten(2, (self.num_clips, self.window_size)).transpose(1, 2)  # (N, clips, K, T, H, W)
        if self.mirror:
            sides = LIMBS[self.limbs][1:] if modality == "limb" else (self.skeleton.left, self.skeleton.right)
            mirrored = heatmaps.mirror_maps(maps.flatten(0, 1), *sides)
            maps = torch.cat([maps, mirrored.unflatten(0, maps.shape[:2])], 1)
        return maps.flatten(0, 1)
