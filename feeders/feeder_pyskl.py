"""Any skeletons in the manner of pyskl (Duan et al., 2022), the toolbox of ST-GCN++ and DG-STGCN: its pickles, or clip stores."""

from collections.abc import Sequence

import torch
from torch import Tensor

from feeders.draws import Draws, normal
from feeders.feeder import BatchFeeder
from feeders.feeder_ntu import check_interval
from feeders.field_files import open_source
from feeders.normalise import gaussian_noise, normalise_2d, normalise_3d, random_scale, random_turn
from feeders.sampling import uniform_test, uniform_train
from feeders.transforms import choose_frames, pad_map

SAMPLINGS = ("uniform", "uniform_decode", "pad")
SCORE_MEANS = {
    "coco": (True, True),
    "kinetics": (True, True),
    "hand": (True, False),
}  # bones, motions; pyskl forgets hands in motions
KINECT = ("ntu_rgb_d", "ucla")  # bodies whose spine and shoulders have the numbers that the normalisation turns by
DEFAULT_IMAGE = (1080, 1920)


class Feeder(BatchFeeder):
    """Whole clips are normalised and augmented, bones and motions taken, then `window_size` frames sampled.

    pre_normalize: `3d` (PreNormalize3D), `2d` (PreNormalize2D, by the image) or nothing. Augmentation, all off by default:
    random_scale (largest change of each axis), random_rot (largest angle in radians), random_noise (sigma), in this order.
    sampling: `uniform` (UniformSample), `uniform_decode` (DG-STGCN's), `pad` (the first frames, zeros behind).
    p_interval: share of the clip that is sampled from, `[p]` or `[low, high]`.
    Testing draws `num_clips` samples of each clip with pyskl's own numbers and yields them as rows of one batch: "data" is
    (N num_clips, C, T, V, M) and "clips" is num_clips; label and index stay (N,).
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
        window_size: int = 100,
        num_clips: int = 1,
        num_person: int = 2,
        pre_normalize: str = "3d",
        align_spine: bool = True,
        random_scale: float = 0.0,
        random_rot: float = 0.0,
        random_noise: float = 0.0,
        sampling: str = "uniform",
        p_interval: Sequence[float] = (1,),
        skeleton: str = "",
        hold_out: Sequence[str] = (),
    ):
        source = open_source(data_path, split, part, hold_out=hold_out)
        super().__init__(source, skeleton, modality, also, seed, repeat, window_size)
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling: found {sampling!r}; allowed are {', '.join(SAMPLINGS)}; choose one")
        if pre_normalize not in ("3d", "2d", ""):
            raise ValueError(f"pre_normalize: found {pre_normalize!r}; allowed are 3d, 2d or nothing; choose one")
        for key, value in (("num_clips", num_clips), ("num_person", num_person)):
            if value < 1:
                raise ValueError(f"{key}: found {value}; allowed are whole numbers from 1; correct it")
        if num_clips > 1 and (part == "train" or sampling == "pad"):
            raise ValueError(
                f"num_clips: found {num_clips}; only testing with uniform sampling takes several clips; leave it out"
            )
        flat = self.skeleton.name in SCORE_MEANS or pre_normalize == "2d"  # x, y and perhaps a score
        self.score = (
            SCORE_MEANS.get(self.skeleton.name, (True, True)) if flat and self.channels == 3 else (False, False)
        )
        if (pre_normalize == "3d" or random_rot) and (flat or self.channels != 3):
            raise ValueError(
                f"pre_normalize, random_rot: found {self.skeleton.name} data; only 3-D data is turned; write 2d and random_rot: 0"
            )
        if pre_normalize == "3d" and align_spine and self.skeleton.name not in KINECT:
            raise ValueError(
                f"align_spine: found the skeleton {self.skeleton.name}; spine and shoulders are known of {', '.join(KINECT)}; write false"
            )
        if pre_normalize == "3d" and source.num_person > 2:
            raise ValueError(
                f"pre_normalize: found {source.num_person} persons; 3d is for one or two; prepare other data or choose 2d"
            )
        if pre_normalize == "2d" and self.channels != 3:
            raise ValueError(
                f"pre_normalize: found {self.channels} channels; 2d needs x, y and a score; prepare other data or choose nothing"
            )
        self.window_size, self.num_clips, self.num_person = window_size, num_clips, num_person
        self.pre_normalize, self.align_spine, self.sampling, self.train = (
            pre_normalize,
            align_spine,
            sampling,
            part == "train",
        )
        self.random_scale, self.random_rot, self.random_noise = random_scale, random_rot, random_noise
        p = check_interval(p_interval)
        self.p_interval = (p[0], p[-1])
        image = source.manifest.get("image")
        self.image = torch.tensor(image if image and None not in image else [DEFAULT_IMAGE] * len(source))
        self.shape = (self.channels, window_size, self.num_point, num_person)

    def to(self, device) -> "Feeder":
        super().to(device)
        self.image = self.image.to(self.device)
        return self

    def batch(self, indices: Sequence[int], epoch: int, device=None) -> dict[str, Tensor]:
        batch = super().batch(indices, epoch, device)
        return batch | {"clips": self.num_clips} if self.num_clips > 1 else batch

    def streams(self, clip: Tensor, draws: Draws, modalities: Sequence[str]) -> dict[str, Tensor]:
        length = self.source.length[clip]
        x = self.source.take(clip, pad_map(length, self.source.longest(clip), "zero")).float()
        if self.pre_normalize == "3d":
            x, kept = normalise_3d(x, self.align_spine)
            length = torch.where(kept > 0, kept, length)
        elif self.pre_normalize == "2d":
            x = normalise_2d(x, self.image[clip])
        time = self.sample(length, draws)
        x = self.augment(x, draws)
        out = {}
        for word in modalities:
            out[word] = self.split_clips(choose_frames(self.derive(x, word, length - 1, self.score), time))
        return out

    def augment(self, x: Tensor, draws: Draws) -> Tensor:
        N, C, T, V, M = x.shape
        if self.random_scale:
            x = random_scale(x, 1 + draws.uniform(C, -self.random_scale, self.random_scale))
        if self.random_rot:
            x = random_turn(x, draws.uniform(3, -self.random_rot, self.random_rot))
        if (
            self.random_noise
        ):  # frames first: the numbers of a frame must not depend on how long the longest clip of the batch is
            u = draws.uniform(T * V * M * (C + 2)).view(N, T, V, M, C + 2)
            direction = (2 * u[..., 2:] - 1).permute(0, 4, 1, 2, 3)
            x = gaussian_noise(x, self.random_noise, normal(u[..., 0], u[..., 1]), direction)
        return x

    def sample(self, length: Tensor, draws: Draws) -> Tensor:
        """Frames to yield of clips of so many frames: (N,) -> (N, num_clips window_size), -1 for an empty one."""
        L, inside = self.window_size, self.sampling == "uniform_decode"
        if self.sampling == "pad":
            return pad_map(length, L, "zero")
        if self.train:
            return uniform_train(length, L, draws, self.p_interval, inside)
        rows = [uniform_test(T, L, self.num_clips, self.p_interval, inside) for T in length.tolist()]
        return torch.stack([torch.from_numpy(row) for row in rows]).to(length.device)

    def split_clips(self, x: Tensor) -> Tensor:
        """(N, C, clips T, V, M) -> (N clips, C, T, V, num_person), absent persons zero, persons beyond num_person left out."""
        N, C, _, V, M = x.shape
        x = torch.nn.functional.pad(x, (0, self.num_person - M))
        return x.unflatten(2, (self.num_clips, self.window_size)).transpose(1, 2).flatten(0, 1)
