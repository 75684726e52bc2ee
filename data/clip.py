"""A prepared clip, and the checks for every clip."""

from dataclasses import dataclass, replace

import numpy as np

from torchlight.system.text import quote

MAX_COORDINATE = 1e9  # in any unit; float32 arithmetic with larger numbers could overflow


class BadFile(ValueError):
    """A raw file that cannot be converted to a clip. The message states the reason without the file name."""


@dataclass
class Clip:
    """A prepared clip: tracks (K, T, V, C) float32, and the track of each of the M person slots (-1: absent).

    guessed: one sentence for each assumption about facts that are not in the raw file. image: height and width of the
    image if the coordinates are pixels and the store keeps the size. missing: share of the joints that were not seen in
    the frames with a person.
    """

    name: str
    label: int
    tracks: np.ndarray
    persons: tuple[int, ...]
    guessed: tuple[str, ...] = ()
    image: tuple[int, int] | None = None
    missing: float = 0.0


@dataclass(frozen=True)
class LeftOut:
    """A recording that cannot become a clip, one of several in a raw file, and the reason."""

    name: str
    reason: str


def without_empty_tracks(clip: Clip) -> Clip:
    """The same clip without tracks that are all zero; their person slots become empty."""
    filled = [bool(track.any()) for track in clip.tracks]
    new = [sum(filled[:k]) if filled[k] else -1 for k in range(len(filled))]
    return replace(clip, tracks=clip.tracks[filled], persons=tuple(new[k] if k >= 0 else -1 for k in clip.persons))


def coordinates(data: np.ndarray) -> np.ndarray:
    """Parsed numbers as float32; raises BadFile like `check_coordinates`."""
    check_coordinates(data)
    return data.astype(np.float32)


def check_coordinates(data: np.ndarray) -> None:
    """Raise BadFile if a number is not finite or larger than MAX_COORDINATE."""
    if not (np.abs(data) < MAX_COORDINATE).all():
        raise BadFile(f"expected finite coordinates below {MAX_COORDINATE:g}, got others")


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded as UTF-8; the lone surrogates that file names may contain cannot."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def check_clip(clip: Clip, facts: dict) -> None:
    """Raise BadFile unless the clip has the shape and a label of the benchmark, finite numbers and a name in UTF-8."""
    if not is_utf8(clip.name):
        raise BadFile("expected a file name in UTF-8, got other bytes; rename the file")
    K, T, V, C = clip.tracks.shape
    if (V, C) != (facts["num_point"], facts["channels"]):
        expected = f"{facts['num_point']} joints with {facts['channels']} numbers each"
        raise BadFile(f"expected {expected}, got {V} joints with {C} numbers")
    if T == 0:
        raise BadFile("expected at least one frame, got none")
    if not 0 <= clip.label < facts["num_class"]:
        raise BadFile(f"expected a label from 0 to {facts['num_class'] - 1}, got {quote(clip.label)}")
    if not (np.abs(clip.tracks) < MAX_COORDINATE).all():
        raise BadFile(f"expected finite coordinates below {MAX_COORDINATE:g}, got others")
    assert clip.tracks.dtype == np.float32 and len(clip.persons) == facts["num_person"] and max(clip.persons) < K, clip
