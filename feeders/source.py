"""One part of a benchmark as the feeders read it, whatever file it lies in."""

import warnings
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from feeders.clips import ClipStore

ELSEWHERE: WeakValueDictionary = WeakValueDictionary()  # the frames of files that are held on other devices


class Source:
    """Clips of one part: what they are, and how to read frames of many at once.

    Frames lie as rows (V, C) of `frames`; frame t of person m of clip i is row `first[i, m] + t * stride`, if `present[i, m]`.
    Attributes: `name` (N,) str and `label` (N,) int64 arrays, `length`, `valid` (N,) int64 tensors in frames, `manifest`, `num_point`,
    `num_person`, `channels`. What depends on the benchmark and not on the clip stands in `manifest`, by the keys of a clip store.
    """

    def __init__(
        self,
        frames: np.ndarray,
        first: Tensor,
        present: Tensor,
        stride: int,
        name,
        label,
        length: Tensor,
        manifest: dict,
    ):
        self.frames, self.file = shared_tensor(frames), file_of(frames)
        self.first, self.present, self.stride = first, present, stride
        self.name, self.label, self.length, self.manifest = (
            np.asarray(name),
            np.asarray(label, np.int64),
            length,
            manifest,
        )
        self.num_point, self.channels, self.num_person = frames.shape[1], frames.shape[2], first.shape[1]
        self._valid: Tensor | None = None
        self.most_frames = int(length.max()) if len(length) else 0

    def __getstate__(self) -> dict:
        """A worker maps the file again and gets no copy of it."""
        return vars(self) | {"frames": None} if self.file else vars(self)

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        if self.frames is None:
            self.frames = shared_tensor(np.memmap(**self.file))

    def __len__(self) -> int:
        return len(self.name)

    @property
    def device(self) -> torch.device:
        return self.length.device

    @property
    def valid(self) -> Tensor:
        """Frames of each clip that are not all zero (N,); counted once if the file does not tell."""
        if self._valid is None:
            chunks = torch.arange(len(self), device=self.device).split(64)
            self._valid = torch.cat([count_valid(self, clip) for clip in chunks])
        return self._valid

    def to(self, device) -> "Source":
        """Move the frames and everything that finds them to another device; the parts of one file share its frames there."""
        place = self.place(device)
        if place is not None:
            self.frames = ELSEWHERE.get(place, self.frames)
        for key, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, key, value.to(device))
        if place is not None:
            ELSEWHERE[place] = self.frames
        self.file = self.file if self.device.type == "cpu" else None
        return self

    def select(self, keep: np.ndarray) -> "Source":
        """Only the clips where keep (N,) bool is true, in their order."""
        kept = torch.from_numpy(np.flatnonzero(keep))
        self.name, self.label = self.name[keep], self.label[keep]
        self.first, self.present, self.length = self.first[kept], self.present[kept], self.length[kept]
        self._valid = None if self._valid is None else self._valid[kept]
        if self.manifest.get("image"):
            self.manifest = self.manifest | {"image": [self.manifest["image"][i] for i in kept]}
        return self

    def place(self, device) -> tuple | None:
        """The name of the frames on another device; None for frames that come from no file or stay in main memory."""
        away = torch.device(device).type != "cpu"
        return (str(device), str(self.file["filename"]), self.file["offset"]) if self.file and away else None

    def bytes_to_move(self, device) -> int:
        """How much memory `to` takes on a device."""
        return 0 if self.place(device) in ELSEWHERE else self.frames.nbytes

    def longest(self, clip: Tensor) -> int:
        """A number of frames that holds each of these clips (N,): that of the longest, on a GPU of all, as it need not be waited for."""
        return self.most_frames if clip.is_cuda else int(self.length[clip].max())

    def tracks(self, clip: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames of the persons that are there: clip (N,), time (N, T), -1: an empty frame -> (P, C, T, V, 1), owner (P,), slot (P,).

        owner: which of the N clips a person belongs to, slot: which of its M places. Most clips are of one person, so P is well
        below N M; what moves no zeros can work on the persons and `assemble` them at the end. (On a GPU P is N M.)
        """
        here = self.present[clip]
        if clip.is_cuda:  # to find who is there would be to wait: everybody is taken, the absent ones without a frame
            place = torch.arange(here.numel(), device=clip.device)
            owner, slot = place // self.num_person, place % self.num_person
            time = time[owner].masked_fill(~here.flatten()[:, None], -1)
        else:
            owner, slot = here.nonzero(as_tuple=True)
            time = time[owner]
        row = (self.first[clip[owner], slot][:, None] + time * self.stride).masked_fill(time < 0, 0)  # (P, T)
        x = self.frames.flatten(1).index_select(0, row.flatten()).view(*row.shape, self.num_point, self.channels, 1)
        if x.is_cuda or bool((time < 0).any()):
            x.masked_fill_((time < 0)[:, :, None, None, None], 0)
        return x.permute(0, 3, 1, 2, 4), owner, slot  # (P, C, T, V, 1)

    def take(self, clip: Tensor, time: Tensor) -> Tensor:
        """Frames of whole clips: clip (N,), time (N, T), -1: an empty frame -> (N, C, T, V, M); absent persons are 0."""
        x, owner, slot = self.tracks(clip, time)
        return assemble(x, owner, slot, len(clip), self.num_person)


class ArraySource(Source):
    """Clips of equal length in one array (N, C, T, V, M), as ST-GCN and 2s-AGCN store them."""

    def __init__(self, data: np.ndarray, name, label, manifest: dict):
        N, C, T, V, M = data.shape
        everybody = torch.ones(N, M, dtype=torch.bool)
        rows = torch.arange(0, N * C * T, C * T)[:, None].expand(N, M)
        super().__init__(data.reshape(N * C * T, V, M), rows, everybody, 1, name, label, torch.full((N,), T), manifest)
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
        return x.masked_fill_((time < 0)[:, None, :, None, None], 0)


def assemble(x: Tensor, owner: Tensor, slot: Tensor, N: int, M: int) -> Tensor:
    """Persons (P, C, T, V, 1) in their places of N clips -> (N, C, T, V, M), zeros where nobody is."""
    y = x.new_zeros(N, *x.shape[1:4], M)
    y.permute(0, 4, 1, 2, 3)[owner, slot] = x[..., 0]
    return y


def count_valid(source: Source, clip: Tensor) -> Tensor:
    length = source.length[clip]
    time = torch.arange(source.longest(clip), device=clip.device).expand(len(clip), -1)
    x = source.take(clip, time.masked_fill(time >= length[:, None], -1))
    return (x != 0).permute(0, 2, 1, 3, 4).flatten(2).any(2).sum(1)


def from_store(store: ClipStore, split: str, part: str) -> Source:
    """One part of a clip store; raises ValueError for a part that it does not have."""
    i = store.part(split, part)
    start, length, valid, persons = (
        torch.from_numpy(x[i]) for x in (store.start, store.length, store.valid, store.persons)
    )
    first = start[:, None] + persons.clamp(min=0) * length[:, None]
    source = Source(store.frames, first, persons >= 0, 1, store.name[i], store.label[i], length, store.manifest)
    source._valid = valid
    return source


def file_of(array: np.ndarray) -> dict | None:
    """How to map the same part of the same file again; None for an array that is in memory only."""
    if not isinstance(array, np.memmap) or array.filename is None:
        return None
    return {"filename": array.filename, "dtype": array.dtype, "mode": "r", "offset": array.offset, "shape": array.shape}


def shared_tensor(array: np.ndarray) -> Tensor:
    """A tensor on the pages of a read-only memory map; nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
