"""Conversion of a file, an array or a recording to the clips for a network: whole recordings or windows, per person or
per scene."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from data.poses.convert import to_body
from data.poses.parts import complete, part_of
from data.poses.recording import Facts, PoseFileError, Recording, check_seen, rate_of
from data.recipes import Failed, Prepared, Recipe, read_recordings
from torchlight.system.text import quote

Persons = Literal["auto", "scene", "each"]
LEAST_SEEN = 0.5  # share of the frames of a window in which a person must be visible to get a label
ONE_WINDOW = 1e-6  # seconds of tolerance when the last window of a recording is placed


@dataclass(frozen=True)
class Settings:
    """How recordings become clips.

    persons: `scene`: one prediction for all persons, chosen as in training; `each`: one per person; `auto`: `scene` for
    whole recordings, `each` for windows. window, stride: seconds; None: a recording is one clip; a window of 0: the
    median length of a training clip. layout, rate, image_size: for files that do not state them. mirror: for mirrored
    images.

    Raises:
        ValueError: a value that is out of range or of the wrong type, or a stride without a window.
    """

    persons: Persons = "auto"
    window: float | None = None
    stride: float | None = None
    layout: str | None = None
    rate: float | None = None
    image_size: tuple[int, int] | None = None
    mirror: bool = False

    def __post_init__(self) -> None:
        for name, low in (("window", 0.0), ("stride", 1e-3), ("rate", 1e-3)):
            value = getattr(self, name)
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if value is not None and not (number and low <= value < 1e6):
                raise ValueError(f"{name}: expected a number from {low:g} to 1e6, got {quote(value)}")
        if self.persons not in get_args(Persons):
            raise ValueError(f"persons: expected {', '.join(get_args(Persons))}, got {quote(self.persons)}")
        size = self.image_size
        pair = isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(n, int | np.integer) for n in size)
        if size is not None and not (pair and all(0 < n <= 100_000 for n in size)):
            raise ValueError(f"image_size: expected width and height in pixels, got {quote(size)}")
        if self.stride is not None and self.window is None:
            raise ValueError("stride: expected a window as well, got none; give --window SECONDS")

    @property
    def is_plain(self) -> bool:
        """Whether files are used unchanged, one clip each."""
        return replace(self, persons="auto") == Settings() and self.persons != "each"


@dataclass
class Clip:
    """One input of the network.

    begin, end: seconds from the start of the recording, None if its frame rate is not known. observed: share of the
    joints of the body that were detected. imputed: number of joints that no sensor measured. notes: the assumptions
    that were made.
    """

    source: str
    person: str
    begin: float
    end: float
    prepared: Prepared
    observed: float = 1.0
    imputed: int = 0
    notes: tuple[str, ...] = ()


def clips_of_file(
    path: Path, recipe: Recipe, settings: Settings, pad: int | None, failed: dict[str, str] | None = None
) -> list[Clip]:
    """The clips of a file or of a folder that is one recording; see `clips_of_recording`.

    A raw file of the benchmark itself is prepared exactly as for training. failed: if other recordings of the file can
    be used, the reason for each one that cannot is added to it, by its source, instead of an error.

    Raises:
        PoseFileError: the file or a recording cannot be read, or does not fit the network.
    """
    raw = recipe.read_raw(path) if settings.is_plain and path.is_file() else None
    settings = replace(settings, layout=settings.layout or recipe.layout)
    clips, errors = [], {}
    for found in read_recordings(recipe, path, settings.layout) if raw is None else raw:
        try:
            clips += _clips_of(path, found, recipe, settings, pad)
        except PoseFileError as error:
            source = name_of(path, found[0] if isinstance(found, tuple) else found.name)
            errors[source] = f"{source}: {str(error).removeprefix(f'{path}: ')}"
    if errors and (failed is None or not clips):
        raise PoseFileError(next(iter(errors.values())))
    if failed is not None:
        failed |= errors
    return clips


def _clips_of(
    path: Path, found: Prepared | Failed | tuple[str, Recording], recipe: Recipe, settings: Settings, pad: int | None
) -> list[Clip]:
    """The clips of one recording of a file, prepared or not; raises PoseFileError."""
    if isinstance(found, Prepared):
        rate = rate_of(Facts("", rate=found.rate), assumed=recipe.rate)
        return [Clip(name_of(path, found.name), "", 0.0, found.frames.shape[1] / rate, found)]
    name, recording = found
    if not isinstance(recording, Recording):
        raise PoseFileError(str(recording))
    return clips_of_recording(name_of(path, name), recording, recipe, settings, pad)


def name_of(path: Path, name: str) -> str:
    """The source of a clip: the path, with the name of the recording if the file contains several."""
    return str(path) if name in ("", path.stem, path.name) else f"{path}#{name}"


def split_source(source: str) -> tuple[Path, str]:
    """The inverse of `name_of`, also if names contain `#`: the path, and the name of the recording or nothing."""
    places = [i for i, character in enumerate(source) if character == "#"]
    known = (place for place in (len(source), *places) if os.path.exists(source[:place]))  # False if it is too long
    place = next(known, places[0] if places else len(source))
    return Path(source[:place]), source[place + 1 :]


def recording_name(source: str) -> str:
    """The name of a recording: that within its file, otherwise that of the file without suffix, or of the folder."""
    path, name = split_source(source)
    return name or (path.name if path.is_dir() else path.stem)


def recording_of_array(data: np.ndarray, recipe: Recipe, settings: Settings) -> Recording:
    """An array (T, V, C) or (M, T, V, C) with the joints of the network; NaN or exact zeros for missing joints.

    C is 3 or 4 (x, y, z in meters, Kinect axes, score) or, for 2-D bodies, 2 or 3 (x, y in pixels, score).

    Raises:
        ValueError: another shape or type.
    """
    data = np.asarray(data)
    body, V = recipe.body, recipe.skeleton.num_joint
    data, counts = data[None] if data.ndim == 3 else data, (2, 3) if body.is_flat else (2, 3, 4)
    if data.dtype.kind not in "fiu" or data.ndim != 4 or data.shape[2] != V or data.shape[3] not in counts:
        if settings.layout is None or data.ndim != 4:
            raise PoseFileError(f"expected an array (T, {V}, C) or (M, T, {V}, C) of numbers, got {data.shape}")
    points = np.array(data, np.float32)
    score = None
    if points.shape[3] == (3 if body.is_flat else 4):
        points, score = points[..., :-1], points[..., -1]
    layout = settings.layout or body.layout
    missing = (points == 0).all(-1, keepdims=True)
    if recipe.keeps_zeros and layout == body.layout:
        missing = missing.all(2, keepdims=True)
    points = np.where(missing, np.float32(np.nan), points)
    facts = Facts("array", layout, axes="image" if body.is_flat else "kinect", units="px" if body.is_flat else "m")
    facts.joints = recipe.skeleton.joints if layout is None else ()
    tracks = tuple(str(m + 1) for m in range(len(points)))
    return Recording(points.copy(), score, tracks, np.arange(points.shape[1]), facts).check()


def clips_of_recording(
    source: str, recording: Recording, recipe: Recipe, settings: Settings, pad: int | None
) -> list[Clip]:
    """The clips of a recording: one, or one per window and person.

    pad: windows are repeated to this number of frames, for networks that were trained on padded clips. Windows are
    never padded with zeros, because networks then recognize the padding.

    Raises:
        PoseFileError: the recording does not fit the network, or shows a person in too few frames.
    """
    recording = replace(recording, facts=recipe.with_size(recording.facts, settings.image_size))
    found, seen, rate = complete(
        recording, recipe.body, recipe.rate, settings.layout, settings.rate, settings.mirror, recipe.missing
    )
    window, target, delay = settings.window, recipe.target(found.facts, settings.rate), recording.delay / rate
    if window is None:
        check_seen(int(seen.any((0, 2)).sum()), seen.shape[1])
    elif window == 0:
        window = typical_window(recipe)
    each = settings.persons == "each" or (settings.persons == "auto" and window is not None)
    clips, refused = [], []
    for begin, end in windows(len(recording.frames), rate, window, settings.stride):
        everyone = list(range(len(found.points)))
        chosen = [[m] for m in everyone] if each else [everyone]
        for persons in chosen:
            visible = seen[persons, begin:end].any(-1)
            if not visible.any() or (each and window is not None and visible.mean() < LEAST_SEEN):
                continue
            part = part_of(found, persons, begin, end, target, rate)
            try:
                prepared = recipe.prepare(part)
            except PoseFileError as error:
                refused.append(error)
                continue
            if pad is not None and window is not None and prepared.frames.shape[1] < pad:
                prepared.frames = prepared.frames[:, np.arange(pad) % prepared.frames.shape[1]]
            observed = float(seen[persons, begin:end][visible].mean())
            person = recording.tracks[persons[0]] if each else ""
            times = delay + begin / rate, delay + end / rate
            imputed, notes = len(found.facts.imputed), tuple(found.facts.guessed)
            clips.append(Clip(source, person, *times, prepared, observed, imputed, notes))
    if not clips:
        raise refused[0] if refused else PoseFileError("expected a person in half of the frames of a window, got none")
    return clips


def typical_window(recipe: Recipe) -> float:
    """Length of the median training clip in seconds; raises PoseFileError if the checkpoint does not contain it."""
    lengths, rate = recipe.facts.get("lengths"), recipe.rate
    if not lengths or not rate:
        raise PoseFileError(
            "window: expected a number of seconds, because the checkpoint does not hold that of its clips"
        )
    return lengths[1] / rate


def windows(T: int, rate: float, window: float | None, stride: float | None) -> Iterator[tuple[int, int]]:
    """(first frame, frame after the last) of each window; the last one ends with the recording."""
    if window is None or T <= round(window * rate):
        yield 0, T
        return
    length, step = max(1, round(window * rate)), max(1.0, (stride or window / 10) * rate)  # in frames
    count = int((T - length) / step + ONE_WINDOW) + 1
    begins = sorted({*(round(i * step) for i in range(count)), T - length})
    yield from ((begin, begin + length) for begin in begins if begin + length <= T)


def shown_recording(source: str | Path | np.ndarray | Recording, recipe: Recipe, settings: Settings) -> Recording:
    """The first recording of a source with the joints of the body, to draw it; raises PoseFileError."""
    if isinstance(source, str | Path):
        path, name = split_source(str(source))
        settings = replace(settings, layout=settings.layout or recipe.layout)
        found = {key: one for key, one in read_recordings(recipe, path, settings.layout) if isinstance(one, Recording)}
        source = found[name] if name in found else next(iter(found.values()))
    elif isinstance(source, np.ndarray):
        source = recording_of_array(source, recipe, settings)
    found = to_body(source, recipe.body, settings.layout, settings.mirror)
    before = ((0, 0), (source.delay, 0), (0, 0), (0, 0))  # frames without a person, as in the times of the predictions
    points = np.pad(found.points, before, constant_values=np.nan)
    facts = replace(found.facts, rate=rate_of(found.facts, settings.rate, recipe.rate))
    return Recording(points, None, found.tracks, np.arange(points.shape[1]), facts)
