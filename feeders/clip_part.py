"""The clips of one part (train or test) of a benchmark in any kind of file, and reading many of them at once."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from feeders.clip_store import LARGEST, ClipStore, count_classes, valid_frames
from torchlight.system.text import quote

FRAMES_ON_DEVICE: WeakValueDictionary = WeakValueDictionary()  # (device, file, offset) -> frames; see `ClipPart.to`
BLOCK = 1 << 16  # rows that are checked at once


class ClipPart:
    """Clips of one part. Row `first[i, m] + t * stride` of `frames` is frame t of person m of clip i, if present.

    frames: (R, V, C) floats. first, present: (N, M). name, label: (N,). length: (N,) frames. valid: (N,) frames that
    are not zero; None: counted on demand. image: (N, 2) height and width in pixels, 0 for unknown, or None. target:
    (N, classes) labels or weights of labels, or None. group: (N,) names of subjects or recordings, or None. manifest:
    facts about the whole benchmark, by the keys of a clip store's manifest. is_finite: whether all coordinates are
    known to be finite.

    Coordinates of third-party files are checked where it is cheapest. In main memory, the frames that `take` and
    `tracks` gather are checked, so no file has to be read completely. For a GPU, all frames are checked before they are
    moved, so no batch waits for the device. Stores with a hash of their frames have been checked by `write_store`.

    Raises:
        ValueError: there is no clip or no frame.
    """

    def __init__(
        self,
        path: Path,
        frames: np.ndarray,
        first: Tensor,
        present: Tensor,
        name: Sequence[str] | np.ndarray,
        label: Sequence[int] | np.ndarray,
        length: Tensor,
        manifest: Mapping[str, Any],
        stride: int = 1,
        valid: Tensor | None = None,
        image: Tensor | None = None,
        is_finite: bool = False,
        target: np.ndarray | None = None,
        group: np.ndarray | None = None,
    ):
        if not len(name) or not len(frames):
            raise ValueError(f"{path}: expected at least one clip and one frame, got none")
        self.path, self.manifest, self.is_finite = path, manifest, is_finite
        self.frames, self.file = shared_tensor(frames), file_of(frames)
        self.first, self.present, self.stride = first, present, stride
        self.name, self.label = np.asarray(name), np.asarray(label, np.int64)
        self.length, self.image, self._valid = length, image, valid
        self.target, self.group = target, group
        self.num_point, self.channels, self.num_person = frames.shape[1], frames.shape[2], first.shape[1]
        self.most_frames = int(length.max())

    def __getstate__(self) -> dict:
        """A worker process maps the file again instead of receiving a copy of it."""
        return vars(self) | {"frames": None} if self.file else vars(self)

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        if self.frames is None:
            self.frames = shared_tensor(np.memmap(**self.file))

    def __len__(self) -> int:
        return len(self.name)

    @property
    def device(self) -> torch.device:
        """The device that stores the clips."""
        return self.length.device

    @property
    def valid(self) -> Tensor:
        """Frames of each clip that are not all zero (N,)."""
        if self._valid is None:
            chunks = torch.arange(len(self), device=self.device).split(64)
            self._valid = torch.cat([count_valid(self, clip) for clip in chunks])
        return self._valid

    def to(self, device: torch.device | str) -> "ClipPart":
        """Move the frames and their tables to another device; the parts of one file share its frames there.

        Raises:
            ValueError: a coordinate of a third-party file is not finite.
        """
        place = self.place(device)
        shared = FRAMES_ON_DEVICE.get(place) if place is not None else None
        if shared is not None:
            self.frames = shared
        elif torch.device(device).type != "cpu" and self.device.type == "cpu" and not self.is_finite:
            self.check_all_frames()
        for key, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, key, value.to(device))
        if place is not None:
            FRAMES_ON_DEVICE[place] = self.frames
        self.file = self.file if self.device.type == "cpu" else None
        return self

    def select(self, keep: np.ndarray) -> "ClipPart":
        """Only the clips where keep (N,) bool is true, in their order, or the clips of these numbers."""
        kept = torch.from_numpy(np.flatnonzero(keep) if keep.dtype == bool else keep)
        self.name, self.label = self.name[keep], self.label[keep]
        self.first, self.present, self.length = self.first[kept], self.present[kept], self.length[kept]
        self._valid = None if self._valid is None else self._valid[kept]
        self.image = None if self.image is None else self.image[kept]
        self.target = None if self.target is None else self.target[keep]
        self.group = None if self.group is None else self.group[keep]
        return self

    def place(self, device: torch.device | str) -> tuple | None:
        """The key of the frames in `FRAMES_ON_DEVICE`; None in main memory or if the frames are not in a file."""
        away = torch.device(device).type != "cpu"
        return (str(device), str(self.file["filename"]), self.file["offset"]) if self.file and away else None

    def bytes_to_move(self, device: torch.device | str) -> int:
        """How much memory `to` takes on a device."""
        return 0 if self.place(device) in FRAMES_ON_DEVICE else self.frames.nbytes

    def longest(self, clip: Tensor) -> int:
        """Frames of the longest of these clips (N,); on a GPU of the longest of all clips, to avoid a host sync."""
        return self.most_frames if clip.is_cuda else int(self.length[clip].max())

    def tracks(self, clip: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames of the persons in clips: clip (N,), time (N, T) -> (P, C, T, V, 1), owner (P,), slot (P,).

        time: frame numbers, -1 for an empty frame. owner: the clip of a person, from 0 to N - 1. slot: its person slot,
        from 0 to M - 1. Most clips have one person, so P is well below N M. Operations that map zeros to zeros can
        process only the persons and call `assemble` at the end. (On a GPU, P is N M.)
        """
        present = self.present[clip]
        if clip.is_cuda:  # without a host sync the filled slots are unknown, so all are used, empty ones without frames
            place = torch.arange(present.numel(), device=clip.device)
            owner, slot = place // self.num_person, place % self.num_person
            time = time[owner].masked_fill(~present.flatten()[:, None], -1)
        else:
            owner, slot = present.nonzero(as_tuple=True)
            time = time[owner]
        row = (self.first[clip[owner], slot][:, None] + time * self.stride).masked_fill(time < 0, 0)  # (P, T)
        x = self.frames.flatten(1).index_select(0, row.flatten()).view(*row.shape, self.num_point, self.channels, 1)
        if x.is_cuda or bool((time < 0).any()):
            x.masked_fill_((time < 0)[:, :, None, None, None], 0)
        self.check_finite(x, clip[owner])
        return x.permute(0, 3, 1, 2, 4), owner, slot  # (P, C, T, V, 1)

    def take(self, clip: Tensor, time: Tensor) -> Tensor:
        """Frames of whole clips: clip (N,), time (N, T) -> (N, C, T, V, M); empty frames (-1) and slots are 0."""
        x, owner, slot = self.tracks(clip, time)
        return assemble(x, owner, slot, len(clip), self.num_person)

    def check_finite(self, x: Tensor, clip: Tensor) -> None:
        """Raise ValueError unless coordinates (P, ...) of clips (P,) are finite; those on a GPU were checked before."""
        if self.is_finite or x.is_cuda or not x.numel() or is_finite(x):
            return
        broken = ~(x.abs() < LARGEST).flatten(1).all(1)
        name = self.name[int(clip[broken][0])]
        raise ValueError(f"{self.path}: clip {name}: expected finite coordinates below {LARGEST:g}, got {worst(x)}")

    def check_all_frames(self) -> None:
        """Raise ValueError unless all coordinates of the file are finite."""
        for block in self.frames.split(BLOCK):
            if not is_finite(block):
                raise ValueError(f"{self.path}: expected finite coordinates below {LARGEST:g}, got {worst(block)}")
        self.is_finite = True


class ArrayPart(ClipPart):
    """Clips of equal length in one array (N, C, T, V, M), as ST-GCN and 2s-AGCN store them."""

    def __init__(self, path: Path, data: np.ndarray, name, label, manifest: Mapping[str, Any]):
        N, C, T, V, M = data.shape
        present = torch.ones(N, M, dtype=torch.bool)
        rows = torch.arange(0, N * C * T, C * T)[:, None].expand(N, M)
        super().__init__(path, data.reshape(N * C * T, V, M), rows, present, name, label, torch.full((N,), T), manifest)
        self.channels, self.num_person, self.T = C, M, T

    def tracks(self, clip: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, M = self.take(clip, time), self.num_person
        person = torch.arange(len(clip) * M, device=clip.device)
        return x.permute(0, 4, 1, 2, 3).flatten(0, 1)[..., None], person // M, person % M  # (P, C, T, V, 1)

    def take(self, clip: Tensor, time: Tensor) -> Tensor:
        (N, T), C = time.shape, self.channels
        row = self.first[clip, :1] + torch.arange(C, device=clip.device) * self.T
        row = row[:, :, None] + time.clamp(min=0)[:, None]  # (N, C, T)
        x = self.frames.flatten(1).index_select(0, row.flatten()).view(N, C, T, self.num_point, self.num_person)
        x.masked_fill_((time < 0)[:, None, :, None, None], 0)
        self.check_finite(x, clip)
        return x


def assemble(x: Tensor, owner: Tensor, slot: Tensor, N: int, M: int) -> Tensor:
    """Persons (P, C, T, V, 1) in their slots of N clips -> (N, C, T, V, M), zeros in empty slots."""
    y = x.new_zeros(N, *x.shape[1:4], M)
    y.permute(0, 4, 1, 2, 3)[owner, slot] = x[..., 0]
    return y


def count_valid(part: ClipPart, clip: Tensor) -> Tensor:
    """Frames of clips (N,) whose float32 sum over channels, persons and joints is not 0 (N,), as `valid_frames`."""
    length = part.length[clip]
    time = torch.arange(part.longest(clip), device=clip.device).expand(len(clip), -1)
    x = part.take(clip, time.masked_fill(time >= length[:, None], -1))
    return x.float().sum(1).sum(3).sum(2).count_nonzero(1)


def is_finite(x: Tensor) -> bool:
    """Whether all numbers are finite and below `LARGEST` in absolute value, in one pass over memory."""
    low, high = x.aminmax()  # NaN if there is one, and NaN fails every comparison
    return bool(low > -LARGEST) and bool(high < LARGEST)


def worst(x: Tensor) -> float:
    """A number that `is_finite` refuses."""
    low, high = x.aminmax()
    return float(low) if not low > -LARGEST else float(high)


def from_store(store: ClipStore, split: str, part: str) -> ClipPart:
    """One part of a clip store; raises ValueError if the store has no such part or the part is empty."""
    i = store.part(split, part)
    start, length, valid, persons = (
        torch.from_numpy(x[i]) for x in (store.start, store.length, store.valid, store.persons)
    )
    first = start[:, None] + persons.clamp(min=0) * length[:, None]
    return ClipPart(
        store.path,
        store.frames,
        first,
        persons >= 0,
        store.name[i],
        store.label[i],
        length,
        store.manifest,
        valid=valid,
        image=None if store.image is None else torch.from_numpy(store.image[i]),
        is_finite=store.is_finite,
        target=None if store.target is None else store.target[i],
        group=None if store.group is None else store.group[i],
    )


def keep_classes(part: ClipPart, classes: Sequence[int]) -> None:
    """Keep only the clips of these classes, which become the classes 0, 1, ... in this order.

    Raises:
        ValueError: a class is named twice or does not exist, no clip is left, or clips have several labels.
    """
    if part.target is not None:
        raise ValueError("classes: expected none for clips with several or soft labels, got at least one")
    count, names = count_classes(part.manifest) or int(part.label.max()) + 1, part.manifest.get("class_names")
    if len(set(classes)) < len(classes) or not all(0 <= k < count for k in classes):
        raise ValueError(f"classes: expected different numbers from 0 to {count - 1}, got {quote(list(classes))}")
    keep = np.isin(part.label, classes)
    if not keep.any():
        raise ValueError(f"classes: expected classes with clips, got none of {quote(list(classes))} in {part.path}")
    number = {k: i for i, k in enumerate(classes)}
    part.select(keep)
    part.label = np.array([number[k] for k in part.label.tolist()], np.int64)
    kept = {"num_class": len(classes)} | ({} if names is None else {"class_names": [names[k] for k in classes]})
    part.manifest = {**part.manifest, **kept}


def draw_clips(part: ClipPart, number: int, seed: int) -> None:
    """Keep at most `number` random clips of each class, in their order.

    The clips of a class depend only on the seed and on the clips of this class. Those that are kept with a smaller
    number are also kept with a larger one.

    Raises:
        ValueError: clips have several labels.
    """
    if part.target is not None:
        raise ValueError("clips_per_class: expected 0 for clips with several or soft labels, got another number")
    keep = np.zeros(len(part), bool)
    for k in np.unique(part.label):
        clips = np.flatnonzero(part.label == k)
        keep[np.random.default_rng(seed % 2**64).permutation(clips)[:number]] = True
    part.select(keep)


def pack_clips(
    clips: Sequence[np.ndarray], facts: Mapping[str, Any], images: Sequence[tuple[int, int] | None] = ()
) -> ClipPart:
    """Clips in memory, each (M, T, V, C) float32 with zeros for absent persons, as a part without labels.

    facts: entries of a manifest. images: height and width in pixels of the image of each clip; None: unknown.

    Raises:
        ValueError: there is no clip, the clips differ in the number of persons, joints or channels, or a coordinate is
            not finite.
    """
    shapes = {(clip.shape[0], *clip.shape[2:]) for clip in clips}
    if len(shapes) != 1 or not all(clip.ndim == 4 and clip.size for clip in clips):
        got = ", ".join(map(str, [clip.shape for clip in clips][:3])) or "none"
        raise ValueError(f"expected clips (M, T, V, C) of equal M, V and C, got {got}")
    if not all(is_finite(torch.from_numpy(clip)) for clip in clips):
        raise ValueError(f"expected finite coordinates below {LARGEST:g}, got other values")
    (M, V, C), length = shapes.pop(), np.array([clip.shape[1] for clip in clips])
    start = np.cumsum(M * length) - M * length
    return ClipPart(
        Path("clips in memory"),
        np.concatenate([clip.reshape(-1, V, C) for clip in clips]).astype(np.float32, copy=False),
        torch.from_numpy(start[:, None] + np.arange(M) * length[:, None]),
        torch.from_numpy(np.stack([clip.any((1, 2, 3)) for clip in clips])),
        [str(i) for i in range(len(clips))],
        np.zeros(len(clips), np.int64),
        torch.from_numpy(length),
        facts,
        valid=torch.from_numpy(np.array([valid_frames(clip) for clip in clips])),
        image=image_sizes(images),
        is_finite=True,
    )


def image_sizes(images: Sequence[Sequence[int] | None]) -> Tensor | None:
    """Height and width of the image of each clip (N, 2), 0 for unknown; None if all are unknown."""
    known = any(image is not None for image in images)
    return torch.tensor([(0, 0) if image is None else tuple(image) for image in images]) if known else None


def file_of(array: np.ndarray) -> dict | None:
    """Arguments for mapping the same part of the same file again; None for an array that is only in memory."""
    if not isinstance(array, np.memmap) or array.filename is None:
        return None
    return {"filename": array.filename, "dtype": array.dtype, "mode": "r", "offset": array.offset, "shape": array.shape}


def shared_tensor(array: np.ndarray) -> Tensor:
    """A tensor on the pages of a read-only memory map; nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
