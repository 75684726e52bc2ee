"""NTU RGB+D as CTR-GCN reads it (Chen et al., ICCV 2021); TSGCNeXt the same with 256 frames, for 25 joints or 17 (COCO)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from feeders.device import constant
from feeders.draws import Draws
from feeders.feeder import BatchFeeder
from feeders.field_files import open_source
from feeders.source import assemble
from feeders.transforms import blend, crop_centre, crop_random, random_rotation, resize_map
from graph import coco, ntu_rgb_d

COMMON_JOINTS = {body.SKELETON.name: body.COMMON_JOINTS for body in (ntu_rgb_d, coco)}
LARGEST_ANGLE = 0.3  # radians


class Feeder(BatchFeeder):
    """A crop of each clip resized to `window_size` frames, then perhaps turned.

    p_interval: `[p]` keeps the middle share p of the frames, `[low, high]` a random share at a random place (at least 64 frames).
    random_rot: three random angles up to 0.3 radians for each clip. unify: only the 13 joints that NTU RGB+D and COCO share.
    The motion is taken after resizing, so its size depends on the length of the clip.
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
        window_size: int = 64,
        p_interval: Sequence[float] = (0.95,),
        random_rot: bool = False,
        unify: bool = False,
        label_path: str = "",
        skeleton: str = "",
        hold_out: Sequence[str] = (),
    ):
        source = open_source(data_path, split, part, label_path, hold_out)
        super().__init__(source, skeleton, modality, also, seed, repeat, window_size)
        self.window_size, self.random_rot = window_size, random_rot
        self.p_interval = check_interval(p_interval)
        if self.skeleton is coco.SKELETON:
            self.bone_parents = coco.BONE_PARENTS_TSGCNEXT
        if random_rot and (self.channels != 3 or self.skeleton is coco.SKELETON):
            raise ValueError(
                "random_rot: found clips without depth (x, y and perhaps a score); a turn needs x, y, z; switch random_rot off"
            )
        empty = self.name[(source.valid == 0).numpy()]
        if len(empty):
            raise ValueError(
                f"data_path: found {len(empty)} clips without any joint ({', '.join(empty[:3])} ...); none is allowed; leave them out"
            )
        self.joints = None
        if unify:
            if self.skeleton.name not in COMMON_JOINTS:
                raise ValueError(
                    f"unify: found the skeleton {self.skeleton.name}; allowed are {', '.join(COMMON_JOINTS)}; switch unify off"
                )
            self.joints = tuple(COMMON_JOINTS[self.skeleton.name])
            self.num_point = len(self.joints)
            self.shape = (self.channels, window_size, self.num_point, self.num_person)

    def streams(self, clip: Tensor, draws: Draws, modalities: Sequence[str]) -> dict[str, Tensor]:
        valid = self.source.valid[clip]
        if len(self.p_interval) == 1:
            begin, length = crop_centre(valid, self.p_interval[0])
        else:
            low, high = self.p_interval
            begin, length = crop_random(valid, draws.uniform(1, low, high)[:, 0], draws.uniform(1)[:, 0])
        early, late, weight = resize_map(length, self.window_size)
        both, owner, slot = self.source.tracks(clip, begin[:, None] + torch.cat([early, late], 1))
        x = blend(both[:, :, : self.window_size], both[:, :, self.window_size :], weight[owner])
        if self.random_rot:
            x = random_rotation(x, draws.uniform(3, -LARGEST_ANGLE, LARGEST_ANGLE)[owner])
        out = {word: assemble(self.derive(x, word), owner, slot, len(clip), self.num_person) for word in modalities}
        return (
            out
            if self.joints is None
            else {word: y.index_select(3, constant(self.joints, y.device)) for word, y in out.items()}
        )


def check_interval(p: Sequence[float]) -> tuple[float, ...]:
    """One share or two, ascending, of (0, 1]; raises ValueError for anything else."""
    good = isinstance(p, list | tuple) and len(p) in (1, 2) and all(0 < x <= 1 for x in p) and list(p) == sorted(p)
    if not good:
        raise ValueError(
            f"p_interval: found {p!r}; allowed are [p] or [low, high] with 0 < low <= high <= 1; write [0.95] or [0.5, 1]"
        )
    return tuple(p)
