"""Any skeletons with the recipe of PYSKL (Duan et al., 2022), the toolbox of ST-GCN++ and DG-STGCN."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from feeders.arguments import bounded, check_interval
from feeders.batch_feeder import BatchFeeder
from feeders.clip_store import MAX_SLOTS, MAX_WINDOW
from feeders.pyskl_transforms import (
    add_middle_joints,
    gaussian_noise,
    normalize_2d,
    normalize_2d_fixed,
    normalize_2d_in_place,
    normalize_3d,
    random_rotate,
    random_scale,
)
from feeders.random_numbers import RandomNumbers, normal
from feeders.sampling import uniform_test, uniform_train
from feeders.transforms import choose_frames, pad_map
from graph import coco, coco20, hand, kinetics, ntu_rgb_d, uav, ucla
from graph.body import Skeleton

SCORE_MEANS = {  # body layouts of 2-D poses: streams with mean scores; other scores are subtracted
    "coco": ("bone", "kbone", "motion"),
    "kinetics": ("bone", "kbone", "motion"),
    "hand": ("bone", "kbone"),
    "coco20": ("bone",),
    "uav": (),
}
KINECT = ("ntu_rgb_d", "ucla")  # skeletons whose spine and shoulders have the joint numbers that `align` uses
BODIES = {body.SKELETON.name: body.SKELETON for body in (coco, coco20, hand, kinetics, ntu_rgb_d, uav, ucla)}
DEFAULT_IMAGE = (1080, 1920)  # height and width in pixels


@dataclass(eq=False, repr=False)
class Feeder(BatchFeeder):
    """Whole clips are normalized and augmented, bones and motions are derived, then `window_size` frames are sampled.

    pre_normalize: `3d` (PreNormalize3D), `2d` (PreNormalize2D, by the size of the image), `2d_mmaction2` (the same in
    the precision of the data, independent of the scores), `2d_mmaction2_0` (mmaction2 0.x) or "" for none.
    align_spine: see `align`. Augmentation, all off by default: random_scale (largest change of each axis), random_rot
    (largest angle in radians), random_noise (sigma), in this order.
    sampling: `uniform` (UniformSample), `uniform_decode` (DG-STGCN), `uniform_mmaction2` (other random
    numbers in tests, the whole clip), `pad` (the first frames, zeros appended), `loop` (the first frames, looped).
    p_interval: share of the clip that is sampled from, `[p]` or `[low, high]`. sample_first: bones and motions are
    computed from the sampled frames of all `num_clips` samples, concatenated (ProtoGCN on Kinetics).
    subtract_scores: scores of bones and motions are subtracted like coordinates (SkeletonAgent); by default some are
    means, see `SCORE_MEANS`. middle_joints: add the three additional joints of `graph.coco20` to COCO's 17 joints.
    Testing makes `num_clips` samples of each clip with PYSKL's own random numbers, as rows of one batch: "data" is
    (N num_clips, C, T, V, M) and "clips" is num_clips; label and index are still (N,).
    """

    window_size: int = bounded(100, 1, MAX_WINDOW)
    num_clips: int = bounded(1, 1, 1000)
    num_person: int = bounded(2, 1, MAX_SLOTS)
    pre_normalize: Literal["3d", "2d", "2d_mmaction2", "2d_mmaction2_0", ""] = "3d"
    align_spine: bool = True
    random_scale: float = bounded(0.0, 0.0, 10.0)
    random_rot: float = bounded(0.0, 0.0, 6.3)
    random_noise: float = bounded(0.0, 0.0, 10.0)
    sampling: Literal["uniform", "uniform_decode", "uniform_mmaction2", "pad", "loop"] = "uniform"
    p_interval: Sequence[float] = (1,)
    sample_first: bool = False
    subtract_scores: bool = False
    middle_joints: bool = False

    def __post_init__(self):
        num_person = self.num_person
        super().__post_init__()
        self.num_person = num_person  # of a batch, not of the data
        check_interval(self.p_interval)
        name, is_flat = self.builtin, self.has_2d_poses
        has_means = is_flat and self.channels == 3 and not self.subtract_scores
        self.means = SCORE_MEANS.get(name, ("bone", "kbone", "motion")) if has_means else ()
        self.kbone_parents = uav.KBONE_PARENTS if name == "uav" else None
        self._check_recipe(is_flat)
        default = torch.tensor(DEFAULT_IMAGE).expand(len(self.clips), 2)
        self.image = (
            default if self.clips.image is None else torch.where(self.clips.image > 0, self.clips.image, default)
        )

    @property
    def builtin(self) -> str:
        """The name of the skeleton if it is that of a module in graph/; "" for another one, even of the same name."""
        own = BODIES.get(self.skeleton.name)
        return self.skeleton.name if own is not None and own.joints == self.skeleton.joints else ""

    @property
    def has_2d_poses(self) -> bool:
        """Whether the recipe treats the channels as x, y and optionally a score."""
        return self.builtin in SCORE_MEANS or self.pre_normalize.startswith("2d")

    @property
    def dims(self) -> int:
        return 2 if self.has_2d_poses else super().dims

    def _check_recipe(self, is_flat: bool) -> None:
        """Raise ValueError for arguments that contradict each other or the data."""
        is_3d, skeleton, persons = self.pre_normalize == "3d", self.skeleton.name, self.clips.num_person
        for is_wrong, message in (
            (
                self.num_clips > 1 and (self.train or self.sampling in ("pad", "loop")),
                f"num_clips: expected 1 unless testing with uniform sampling, got {self.num_clips}",
            ),
            (
                (is_3d or self.random_rot) and (is_flat or self.channels != 3),
                f"pre_normalize, random_rot: expected 2d or '' and 0 for 2-D data, got other values for {skeleton} "
                f"data of {self.channels} channels",
            ),
            (
                is_3d and self.align_spine and self.builtin not in KINECT,
                f"align_spine: expected false for skeletons other than graph.{' and graph.'.join(KINECT)}, "
                f"got true for {skeleton}",
            ),
            (
                self.sampling == "uniform_mmaction2" and set(self.p_interval) != {1},
                f"p_interval: expected [1] for the sampling of mmaction2, got {list(self.p_interval)}",
            ),
            (
                is_3d and persons > 2,
                f"pre_normalize: expected 2d or '' for more than two persons, got 3d for {persons}",
            ),
            (
                self.pre_normalize.startswith("2d") and self.channels != 3,
                f"pre_normalize: expected '' for data without x, y and a score, got {self.pre_normalize} for "
                f"{self.channels} channels",
            ),
        ):
            if is_wrong:
                raise ValueError(message)

    def to(self, device: torch.device | str) -> "Feeder":
        super().to(device)
        self.image = self.image.to(self.device)
        return self

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
        batch = super().batch(indices, epoch, device)
        return batch | {"clips": self.num_clips} if self.num_clips > 1 else batch

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        length = self.clips.length[clip]
        x = self.clips.take(clip, pad_map(length, self.clips.longest(clip), "zero"))
        x = x if self.pre_normalize == "2d_mmaction2" else x.float()
        if self.pre_normalize == "3d":
            x, kept = normalize_3d(x, self.align_spine)
            length = torch.where(kept > 0, kept, length)
        elif self.pre_normalize == "2d":
            x = normalize_2d(x, self.image[clip])
        elif self.pre_normalize == "2d_mmaction2":
            x = normalize_2d_in_place(x, self.image[clip], self.clips.present[clip])
        elif self.pre_normalize == "2d_mmaction2_0":
            x = normalize_2d_fixed(x, self.clips.present[clip])
        time = self.sample(length, random)
        x = self.augment(add_middle_joints(x) if self.middle_joints else x, random)
        last = length - 1
        if self.sample_first:
            x, last = choose_frames(x, time), None
        out = {}
        for word in modalities:
            score = ("kbone" if word.startswith("kbone") else "bone") in self.means, "motion" in self.means
            y = self.derive(x, word, last, score)
            out[word] = self.split_clips(y if self.sample_first else choose_frames(y, time))
        return out

    def complete(self, skeleton: Skeleton) -> Skeleton:
        if not self.middle_joints:
            return skeleton
        if skeleton.joints != coco.JOINTS:
            raise ValueError(f"middle_joints: expected clips of the skeleton coco, got {skeleton.name}")
        return coco20.SKELETON

    def augment(self, x: Tensor, random: RandomNumbers) -> Tensor:
        """Random scale, rotation and noise of normalized clips (N, C, T, V, M) -> same."""
        N, C, T, V, M = x.shape
        if self.random_scale:
            x = random_scale(x, 1 + random.uniform(C, -self.random_scale, self.random_scale))
        if self.random_rot:
            x = random_rotate(x, random.uniform(3, -self.random_rot, self.random_rot))
        if self.random_noise:
            # frames first, so that the numbers of a frame do not depend on the length of the longest clip of the batch
            u = random.uniform(T * V * M * (C + 2)).view(N, T, V, M, C + 2)
            direction = (2 * u[..., 2:] - 1).permute(0, 4, 1, 2, 3)
            x = gaussian_noise(x, self.random_noise, normal(u[..., 0], u[..., 1]), direction)
        return x

    def sample(self, length: Tensor, random: RandomNumbers) -> Tensor:
        """The sampled frames of clips of `length` frames: (N,) -> (N, num_clips window_size), -1 for an empty one."""
        L, inside = self.window_size, self.sampling == "uniform_decode"
        interval = (self.p_interval[0], self.p_interval[-1])
        if self.sampling in ("pad", "loop"):
            return pad_map(length, L, "zero" if self.sampling == "pad" else "repeat")
        if self.train:
            return uniform_train(length, L, random, interval, inside)
        draws = self.sampling != "uniform_mmaction2"
        rows = [uniform_test(T, L, self.num_clips, interval, inside, draws) for T in length.tolist()]
        return torch.stack([torch.from_numpy(row) for row in rows]).to(length.device)

    def split_clips(self, x: Tensor) -> Tensor:
        """(N, C, clips T, V, M) -> (N clips, C, T, V, num_person): empty slots are added or further persons dropped."""
        N, C, _, V, M = x.shape
        x = torch.nn.functional.pad(x, (0, self.num_person - M))
        return x.unflatten(2, (self.num_clips, self.window_size)).transpose(1, 2).flatten(0, 1)
