"""NTU RGB+D with the recipe of CTR-GCN (Chen et al., ICCV 2021), or of TSGCNeXt with 256 frames; 25 or 17 joints."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from feeders.arguments import bounded, check_interval
from feeders.batch_feeder import BatchFeeder
from feeders.clip_part import assemble
from feeders.device import constant
from feeders.random_numbers import RandomNumbers
from feeders.transforms import blend, crop_center, crop_random, drop_stretches, random_rotation, resize_map
from graph import coco, ntu_rgb_d

COMMON_JOINTS = {body.SKELETON.joints: body.COMMON_JOINTS for body in (ntu_rgb_d, coco)}
LARGEST_ANGLE = 0.3  # radians


@dataclass(eq=False, repr=False)
class Feeder(BatchFeeder):
    """A crop of each clip, resized to `window_size` frames.

    p_interval: `[p]` keeps the middle share p of the frames, `[low, high]` a random share at a random position (at
    least 64 frames). random_rot: rotate each clip by three random angles up to 0.3 radians. drop_joints: probability
    that a joint of a training clip is missing (0 in all channels) in a random range of frames. unify: only the 13
    joints that NTU RGB+D and COCO share. The motion is derived after resizing, so its magnitude depends on the length
    of the clip.
    """

    p_interval: Sequence[float] = (0.95,)
    random_rot: bool = False
    unify: bool = False
    drop_joints: float = bounded(0.0, 0.0, 1.0)

    def __post_init__(self):
        super().__post_init__()
        check_interval(self.p_interval)
        if self.skeleton == coco.SKELETON:
            self.bone_parents = coco.BONE_PARENTS_TSGCNEXT
        if self.random_rot and (self.dims != 3 or self.skeleton == coco.SKELETON):
            raise ValueError("random_rot: expected clips with x, y and z, got clips without depth")
        empty = self.name[(self.clips.valid == 0).numpy()]
        if len(empty):
            raise ValueError(
                f"data_path: expected clips with at least one joint, "
                f"got {len(empty)} without ({', '.join(empty[:3])} ...)"
            )
        self.joints = None
        if self.unify:
            if self.skeleton.joints not in COMMON_JOINTS:
                raise ValueError(
                    f"unify: expected the joints of graph.ntu_rgb_d or graph.coco, got those of {self.skeleton.name}"
                )
            self.joints = tuple(COMMON_JOINTS[self.skeleton.joints])
            self.num_point = len(self.joints)

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        valid = self.clips.valid[clip]
        if len(self.p_interval) == 1:
            begin, length = crop_center(valid, self.p_interval[0])
        else:
            low, high = self.p_interval
            begin, length = crop_random(valid, random.uniform(1, low, high)[:, 0], random.uniform(1)[:, 0])
        early, late, weight = resize_map(length, self.window_size)
        both, owner, slot = self.clips.tracks(clip, begin[:, None] + torch.cat([early, late], 1))
        x = blend(both[:, :, : self.window_size], both[:, :, self.window_size :], weight[owner])
        if self.random_rot:
            angles = random.uniform(3, -LARGEST_ANGLE, LARGEST_ANGLE)[owner]
            score = x[:, self.dims :]
            x = random_rotation(x[:, : self.dims], angles)
            x = torch.cat([x, score], 1) if score.shape[1] else x
        if self.train and self.drop_joints:
            V = self.skeleton.num_joint
            chosen, ends = random.uniform(V) < self.drop_joints, random.uniform(2 * V).view(-1, 2, V)
            x = drop_stretches(x, chosen[owner], ends.amin(1)[owner], ends.amax(1)[owner])
        derived = {word: self.derive(x, word) for word in modalities}
        out = {word: assemble(y, owner, slot, len(clip), self.num_person) for word, y in derived.items()}
        if self.joints is None:
            return out
        return {word: y.index_select(3, constant(self.joints, y.device)) for word, y in out.items()}
