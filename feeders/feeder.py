"""What all feeders share: a data set whose unit is the batch."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from feeders.device import send
from feeders.draws import Draws
from feeders.modality import check_modality, derive, find_skeleton
from feeders.source import Source

# The field's files do not name their body; the number of joints tells which one it is.
BODIES = {25: "graph.ntu_rgb_d", 21: "graph.hand", 20: "graph.ucla", 18: "graph.kinetics", 17: "graph.coco"}

log = logging.getLogger(__name__)


class BatchFeeder(Dataset):
    """Clips as batches; a recipe is a subclass with `streams`.

    `feeder[[3, 1]]` in the words of a DataLoader (`__getitems__`) is one whole batch, so give the loader an identity `collate_fn`.
    Attributes: `name` (N,) str, `label` (N,) int64, `num_class`, `class_names` (list or None), `num_point`, `num_person`, `channels`,
    `shape` (C, T, V, M) of a clip as it is yielded.
    """

    def __init__(
        self, source: Source, skeleton: str, modality: str, also: Sequence[str], seed: int, repeat: int, window: int
    ):
        self.source = source
        self.skeleton = find_skeleton(skeleton or source.manifest.get("skeleton") or BODIES.get(source.num_point, ""))
        self.bone_parents = self.skeleton.bone_parents
        self.modality = check_modality(modality)
        self.also = tuple(check_modality(word, "also") for word in also)
        self.stored = source.manifest.get("modality", "joint")
        if self.stored != "joint" and {self.modality, *self.also} != {self.stored}:
            raise ValueError(
                f"modality: found {', '.join((modality, *also))}; the data holds {self.stored} and no other can be made of it; "
                f"give the file of the joints or modality {self.stored}"
            )
        if repeat < 1:
            raise ValueError(f"repeat: found {repeat}; allowed are whole numbers from 1; leave it out for one pass")
        if window < 1:
            raise ValueError(
                f"window_size: found {window}; allowed are whole numbers of frames from 1; give the window of the recipe"
            )
        if source.num_point != self.skeleton.num_joint:
            raise ValueError(
                f"data_path: found clips of {source.num_point} joints; the skeleton {self.skeleton.name} has {self.skeleton.num_joint}; "
                "name the data's own skeleton or prepare other data"
            )
        self.seed, self.repeat = seed, repeat
        self.name, self.label = source.name, source.label
        self.class_names = source.manifest.get("class_names")
        self.num_class = int(source.manifest.get("num_class") or self.label.max() + 1)
        self.num_point, self.num_person, self.channels = source.num_point, source.num_person, source.channels
        self.shape = (self.channels, window, self.num_point, self.num_person)
        self._epoch = torch.zeros(
            (), dtype=torch.int64
        ).share_memory_()  # shared: workers that live on see the next epoch too

    @property
    def manifest(self) -> dict:
        """What is known about the data as a whole, by the keys of a clip store's manifest."""
        return self.source.manifest

    def __len__(self) -> int:
        return self.repeat * len(self.source)

    def set_epoch(self, epoch: int) -> None:
        """Random numbers of another epoch, also in workers that are already running."""
        self._epoch.fill_(epoch)

    def to(self, device) -> "BatchFeeder":
        """Hold the clips in the memory of a device, so that batches are made there; they stay where they are if they do not fit."""
        size = self.source.bytes_to_move(device)
        if torch.device(device).type == "cuda" and size > torch.cuda.mem_get_info(device)[0] // 4:
            log.warning(
                "the clips (%.1f GB) do not fit beside a network on %s and stay in main memory", size / 1e9, device
            )
        else:
            self.source.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the clips are, and batches are made."""
        return self.source.device

    def batch(self, indices: Sequence[int], epoch: int, device=None) -> dict[str, Tensor]:
        """One batch, a pure function of its arguments: {"data": (N, C, T, V, M), "label": (N,), "index": (N,)}, and data_<modality>."""
        index = torch.as_tensor(indices)
        clip = index % len(self.source)
        index, clip, label = send(torch.stack([index, clip, torch.from_numpy(self.label)[clip]]), self.device)
        streams = self.streams(clip, Draws(self.seed, epoch, index), (self.modality, *self.also))
        batch = {"data": streams[self.modality].float().contiguous(), "label": label, "index": clip}
        batch |= {f"data_{word}": streams[word].float().contiguous() for word in self.also}
        return batch if device is None else {key: value.to(device) for key, value in batch.items()}

    def streams(self, clip: Tensor, draws: Draws, modalities: Sequence[str]) -> dict[str, Tensor]:
        """The recipe: clip numbers (N,) and their random numbers -> {modality: (N, C, T, V, M)}, all of the same augmented clips."""
        raise NotImplementedError

    def derive(
        self, x: Tensor, modality: str, last: Tensor | None = None, score: tuple[bool, bool] = (False, False)
    ) -> Tensor:
        """One modality of what is stored; see `feeders.modality.derive`."""
        return x if modality == self.stored else derive(x, modality, self.bone_parents, last, score)

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return self.batch(indices, int(self._epoch))

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"clip {i} of {len(self)}")
        return {key: value[0] for key, value in self.batch([i % len(self)], int(self._epoch)).items()}
