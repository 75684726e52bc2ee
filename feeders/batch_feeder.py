"""The base class of all feeders: a dataset that returns whole batches."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from feeders.arguments import MAX_REPEAT, bounded, check_arguments
from feeders.clip_part import draw_clips, keep_classes, pack_clips
from feeders.clip_store import MAX_WINDOW, check_joints, count_classes
from feeders.detections import PERSONS
from feeders.device import send
from feeders.modality import derive
from feeders.published_files import open_part
from feeders.random_numbers import RandomNumbers
from graph.body import Skeleton
from graph.layouts import is_flat
from graph.skeleton import find_skeleton
from torchlight.system.modalities import Coordinates

# Published files do not name their skeleton; the number of joints identifies it.
SKELETONS = {25: "graph.ntu_rgb_d", 21: "graph.hand", 20: "graph.ucla", 18: "graph.kinetics", 17: "graph.coco"}

log = logging.getLogger("torchlight")


@dataclass(eq=False, repr=False)
class BatchFeeder(Dataset):
    """Clips as batches. A recipe is a subclass with `streams`; its own arguments are the fields of a dataclass.

    `feeder[[3, 1]]` of a DataLoader (`__getitems__`) is one whole batch, so the loader needs an identity `collate_fn`.

    data_path, split, part, label_path, hold_out: see `feeders.published_files.open_part`. also: additional modalities
    of the same augmented clips, as `data_<modality>`. repeat: how often a training epoch contains each clip; the test
    part contains it once. window_size: frames of a clip in a batch. skeleton: a module of graph/, a body layout or a
    YAML file; "": the skeleton that is named in the data. relative: the modalities whose joints are relative to the
    center joint; the center joint and the root of the bones keep their coordinates. append_joints: append the channels
    of the augmented joints to those of the modality. classes: only the clips of these classes, which become the classes
    0, 1, ... in this order. clips_per_class: maximum number of clips of each class, drawn at random with the seed; 0:
    all.

    Attributes: `name` (N,) str, `label` (N,) int64, `target` (N, num_class) float32 or None, `group`
    (N,) str or None, `num_class`, `class_names` (list or None), `num_point`,
    `num_person`, `channels` of the data, `shape` (C, T, V, M) of a clip in a batch, `skeleton` (a Skeleton),
    `manifest`, `device`.

    Raises:
        ValueError: an argument has the wrong type or is out of range, or the data is damaged or does not fit the
            arguments.
    """

    data_path: str
    split: str = ""
    part: Literal["train", "test"] = "train"
    modality: Coordinates = "joint"
    seed: int = bounded(0, -(2**63), 2**63 - 1)
    repeat: int = bounded(1, 1, MAX_REPEAT)
    also: Sequence[Coordinates] = ()
    window_size: int = bounded(64, 1, MAX_WINDOW)
    skeleton: str = ""
    hold_out: Sequence[str] = ()
    label_path: str = ""
    relative: Sequence[Coordinates] = ()
    append_joints: bool = False
    classes: Sequence[int] = ()
    clips_per_class: int = bounded(0, 0, MAX_REPEAT)

    clips = None  # a ClipPart; `from_clips` sets it before the fields
    detected = PERSONS  # persons per frame that are kept from the detections of Kinetics-400

    def __post_init__(self):
        check_arguments(self)
        if self.clips is None:
            self.clips = open_part(self.data_path, self.split, self.part, self.label_path, self.hold_out, self.detected)
            if self.classes:
                keep_classes(self.clips, self.classes)
            if self.clips_per_class:
                draw_clips(self.clips, self.clips_per_class, self.seed)
        self.name, self.label, self.target = self.clips.name, self.clips.label, self.clips.target
        self.group = self.clips.group
        self.num_person, self.channels = self.clips.num_person, self.clips.channels
        self.class_names = self.manifest.get("class_names")
        self.num_class = count_classes(self.manifest) or int(self.label.max()) + 1
        self.skeleton = find_skeleton(
            self.skeleton or self.manifest.get("skeleton") or SKELETONS.get(self.clips.num_point, "")
        )
        self.stored = self.manifest.get("modality", "joint")
        self.train = self.part == "train"
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # shared with worker processes that stay alive
        wanted = {self.modality, *self.also, *(["joint"] if self.append_joints or self.relative else [])}
        if self.stored != "joint" and wanted != {self.stored}:
            raise ValueError(
                f"modality: expected {self.stored}, the modality of the data, from which no other can be derived, "
                f"got {', '.join(sorted(wanted))}"
            )
        if self.clips.num_point != self.skeleton.num_joint:
            raise ValueError(
                f"data_path: expected clips of {self.skeleton.num_joint} joints as in the skeleton "
                f"{self.skeleton.name}, got {self.clips.num_point}; name the skeleton of the data"
            )
        try:
            check_joints(self.manifest, self.skeleton.joints)
        except ValueError as error:
            raise ValueError(f"skeleton: {self.skeleton.name}: {error}") from error
        self.skeleton = self.complete(self.skeleton)
        self.num_point = self.skeleton.num_joint
        self.bone_parents, self.kbone_parents = self.skeleton.bone_parents, None

    @classmethod
    def from_clips(
        cls,
        clips: Sequence[np.ndarray],
        facts: Mapping[str, Any],
        images: Sequence[tuple[int, int] | None] = (),
        **arguments: Any,
    ) -> "BatchFeeder":
        """A feeder of clips in memory, see `torchlight.contract.ClipFeeder`. Arguments such as data_path have no
        effect."""
        feeder = cls.__new__(cls)
        feeder.clips = pack_clips(clips, facts, images)
        places = ("data_path", "label_path", "split", "hold_out", "skeleton", "classes")
        feeder.__init__(data_path="", **{key: value for key, value in arguments.items() if key not in places})
        return feeder

    def raw_clip(self, i: int) -> tuple[np.ndarray, tuple[int, int] | None]:
        """Clip i (M, T, V, C) as it is stored, and height and width of its image if known."""
        part, clip = self.clips, torch.tensor([i], device=self.device)
        frames = part.take(clip, torch.arange(int(part.length[i]), device=self.device)[None])[0]
        image = None if part.image is None or not part.image[i].all() else tuple(part.image[i].tolist())
        return frames.permute(3, 1, 2, 0).cpu().numpy(), image

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Facts about the data, by the keys of a clip store's manifest; read-only."""
        return MappingProxyType(self.clips.manifest)

    @property
    def frames(self) -> np.ndarray:
        """Frames of each clip (N,)."""
        return self.clips.length.cpu().numpy()

    @property
    def window(self) -> int:
        """Frames of the longest padded clip."""
        return self.manifest.get("window") or self.clips.most_frames

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, T, V, M) of a clip in a batch."""
        return self.channels * (2 if self.append_joints else 1), self.window_size, self.num_point, self.num_person

    @property
    def dims(self) -> int:
        """2 for points in an image (a third channel is a score), else 3."""
        coordinates = self.channels - bool(self.manifest.get("score"))
        return 2 if coordinates == 2 or "image_size" in self.manifest or is_flat(self.skeleton) else 3

    def __len__(self) -> int:
        return (self.repeat if self.train else 1) * len(self.clips)

    def set_epoch(self, epoch: int) -> None:
        """Use the random numbers of another epoch, also in worker processes that are already running."""
        self._epoch.fill_(epoch)

    def to(self, device: torch.device | str) -> "BatchFeeder":
        """Move the clips to a device, so that batches are made there. Clips that do not fit into its memory are not
        moved."""
        size = self.clips.bytes_to_move(device)
        if torch.device(device).type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 4:
            log.warning(
                "the clips (%.1f GB) and a network do not fit on %s together; the clips stay in main memory",
                size / 1e9,
                device,
            )
        else:
            self.clips.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """The device that stores the clips and makes batches."""
        return self.clips.device

    def batch(self, indices: Sequence[int], epoch: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """One batch, a pure function of its arguments.

        {"data": (N, C, T, V, M), "label": (N,), "index": (N,)}, data_<modality> for each of `also`, the "time" of each
        frame (N, T) if the recipe computes it, and "target" (N, num_class) if clips have several or soft labels.

        Raises:
            ValueError: a clip of a third-party file contains a coordinate that is not finite.
        """
        index = torch.as_tensor(indices)
        clip = index % len(self.clips)
        target = None if self.target is None else torch.from_numpy(self.target[clip.numpy()])
        index, clip, label = send(torch.stack([index, clip, torch.from_numpy(self.label)[clip]]), self.device)
        streams = self.streams(clip, RandomNumbers(self.seed, epoch, index), (self.modality, *self.also))
        batch = {"data": streams[self.modality].float().contiguous(), "label": label, "index": clip}
        batch |= {f"data_{word}": streams[word].float().contiguous() for word in self.also}
        if target is not None:
            batch["target"] = send(target, self.device)
        if "time" in streams:
            batch["time"] = streams["time"].float()
        return batch if device is None else {key: value.to(device) for key, value in batch.items()}

    def complete(self, skeleton: Skeleton) -> Skeleton:
        """The body layout of a batch: that of the data, to which a recipe may add joints; raises ValueError."""
        return skeleton

    def streams(self, clip: Tensor, random: RandomNumbers, modalities: Sequence[str]) -> dict[str, Tensor]:
        """The recipe: clip numbers (N,) and their random numbers -> {modality: (N, C, T, V, M)}.

        All modalities are derived from the same augmented clips. A recipe may add "time" (N, T), the position of
        each frame in its clip, for networks that use it.
        """
        raise NotImplementedError

    def derive(
        self, x: Tensor, modality: str, last: Tensor | None = None, score: tuple[bool, bool] = (False, False)
    ) -> Tensor:
        """One modality, derived from the stored data; see `feeders.modality.derive`. A mask of missing joints is a
        score."""
        score = (True, True) if self.manifest.get("missing") == "mask" else score
        center = self.skeleton.center if modality in self.relative else None
        is_stored = modality == self.stored and center is None
        y = x if is_stored else derive(x, modality, self.bone_parents, last, score, center, self.kbone_parents)
        return torch.cat([y, x], dim=1) if self.append_joints else y

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return self.batch(indices, int(self._epoch))

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"clip {i} of {len(self)}")
        return {key: value[0] for key, value in self.batch([i % len(self)], int(self._epoch)).items()}
