"""Preparation of new recordings with the same steps that the prepare.py scripts apply to the clips of a benchmark.

A benchmark is described by the facts in its clip store (manifest.json): body, recipe, number of persons.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.clip import BadFile, coordinates
from data.custom.own_files import as_recording, own_facts, own_frames, own_recording, read_own
from data.deeplabcut import prepare as deeplabcut
from data.kinetics import poses as kinetics
from data.ntu import recipe_ctrgcn
from data.ntu.benchmark import NTU120, recipe_tracks
from data.ntu.skeleton_file import Recording as BodyRecording
from data.ntu.skeleton_file import read_recording
from data.poses.convert import Body
from data.poses.parts import complete, main_persons, part_of, scored
from data.poses.read import form_of, read_each
from data.poses.recording import Facts, PoseFileError, Recording
from data.raw_files import number_array, read_raw_json
from graph.body import Skeleton
from graph.layouts import find_layout

MAX_BYTES = 64 << 20
CUSTOM = ("centered", "plain")  # recipes of data/custom, for any body
RATES = {"ntu_rgb_d": 30.0, "kinetics": 30.0, "ucla": 30.0}  # frames per second of the benchmarks, by their body
KINDS = {  # (body, recipe): which script prepared the clips
    ("ntu_rgb_d", "ctrgcn"): "ntu",
    ("ntu_rgb_d", "agcn"): "ntu",
    ("ntu_rgb_d", "stgcn"): "ntu",
    ("kinetics", "agcn"): "kinetics",
    ("kinetics", "stgcn"): "kinetics",
    ("own", "stgcn"): "deeplabcut",
}


@dataclass
class Prepared:
    """A clip as in a clip store. frames: (M, T, V, C) float32, absent persons zero. image: (height, width). missing:
    share of the joints that were not seen. rate: frames per second, if it may differ from that of the recipe."""

    name: str
    frames: np.ndarray
    image: tuple[int, int] | None = None
    missing: float = 0.0
    rate: float | None = None


class Failed(NamedTuple):
    """A recording of a file that cannot become a clip, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Recipe:
    """The preparation of one benchmark.

    skeleton: the skeleton of the clips. facts: the facts in the clip store.
    """

    skeleton: Skeleton
    facts: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The script that prepared the clips: "ntu", "kinetics", "deeplabcut" or "custom"; "plain" for all others."""
        body, name = self.skeleton.name if not self.is_own else "own", self.facts.get("recipe")
        if name in CUSTOM:
            return "custom"
        return KINDS.get((body, name), "plain")

    @property
    def known(self) -> list[str]:
        """The recipes of the body."""
        return [name for body, name in KINDS if body == ("own" if self.is_own else self.skeleton.name)]

    @property
    def is_own(self) -> bool:
        """Whether the body is custom, not a layout of graph/layouts.yaml."""
        try:
            return find_layout(self.skeleton.name).skeleton.joints != self.skeleton.joints
        except ValueError:
            return True

    @property
    def body(self) -> Body:
        """What the coordinates mean."""
        if self.is_own:
            return Body(self.skeleton, self._is_flat_own, True)
        return Body(self.skeleton, find_layout(self.skeleton.name).dims == 2 or self.facts.get("channels") == 2)

    @property
    def _is_flat_own(self) -> bool:
        scores = 1 if self.facts.get("score") else 0
        return self.facts.get("channels", 3) - scores == 2 or self.kind == "deeplabcut"

    @property
    def missing(self) -> str:
        """How joints that were not seen are handled, one of `data.poses.convert.MISSING`."""
        return self.facts.get("missing", "interpolate")

    @property
    def keeps_zeros(self) -> bool:
        """Whether joints at 0 stay there; for other clips they count as missing and are filled."""
        return self.kind == "custom"

    @property
    def rate(self) -> float | None:
        """Frames per second of the training clips, if known."""
        return self.facts.get("rate") or RATES.get(self.skeleton.name)

    @property
    def layout(self) -> str | None:
        """The body layout that was assumed for all pose files, overriding the one in the files."""
        return self.facts.get("layout")

    @property
    def repeats_person(self) -> bool:
        """Whether the only person of a clip is copied to both slots."""
        known = self.facts.get("benchmark") == NTU120.title  # of stores without this fact, and of published files
        return self.kind == "ntu" and self.facts["recipe"] == "ctrgcn" and self.facts.get("repeats_person", known)

    @property
    def origin(self) -> int | None:
        """The joint whose first position, in the first person, is the origin of a clip; None for other recipes."""
        if self.kind == "ntu" and self.facts["recipe"] == "ctrgcn":
            return recipe_ctrgcn.ORIGIN
        return self.skeleton.center if (self.kind, self.facts.get("recipe")) == ("custom", "centered") else None

    def whole(self, recording: Recording) -> tuple[Prepared, Recording]:
        """A recording in any layout as one clip of all its persons, and the recording converted to this body.

        Raises:
            PoseFileError: the recording does not fit the body, or the recipe refuses it.
        """
        recording = replace(recording, facts=self.with_size(recording.facts))
        found, seen, rate = complete(recording, self.body, self.rate, self.layout, missing=self.missing)
        everyone, shown = range(len(found.points)), seen[seen.any(-1)]
        prepared = self.prepare(part_of(found, everyone, 0, len(found.frames), self.target(found.facts), rate))
        prepared.missing = 1 - float(shown.mean()) if shown.size else 1.0
        return prepared, found

    def target(self, facts: Facts, stated: float | None = None) -> float | None:
        """The frame rate that a recording is converted to; None: its own. stated: its frame rate, given by the user."""
        return self.rate if facts.resampled or stated else None

    def prepare(self, recording: Recording) -> Prepared:
        """A recording of this body, without missing joints (see `data.poses.parts.complete`), as a clip.

        Raises:
            PoseFileError: the recipe refuses the recording.
        """
        try:
            frames = PREPARE[self.kind](self, recording)
        except BadFile as error:
            raise PoseFileError(str(error)) from error
        return Prepared("", self.slots(frames), self.image(recording.facts))

    def image(self, facts: Facts) -> tuple[int, int] | None:
        """Height and width of the image; None if it is not known, or if the clip store does not contain it."""
        if facts.image_size is None or (self.kind == "custom" and not self.facts.get("images")):
            return None
        return facts.image_size[1], facts.image_size[0]

    def with_size(self, facts: Facts, size: Sequence[int] | None = None) -> Facts:
        """Facts with an image size: their own, otherwise `size`, otherwise that of the training clips, if known."""
        size, known, notes = facts.image_size or size, self.facts.get("image_size"), []
        if not size and known:
            size, notes = known, [f"the file has no image size: {known[0]} x {known[1]} as in training is assumed"]
        return replace(facts, image_size=size and (size[0], size[1]), guessed=[*facts.guessed, *notes])

    def slots(self, frames: np.ndarray) -> np.ndarray:
        """Persons (K, T, V, C) in the M person slots of the benchmark; raises PoseFileError if all are zero."""
        M = self.facts.get("num_person") or len(frames)
        if self.repeats_person and len(frames) == 1:
            frames = frames.repeat(2, 0)
        if not frames[:M].any():
            raise PoseFileError("expected a person with a position other than zero, got none")
        filled = np.zeros((M, *frames.shape[1:]), np.float32)
        filled[: len(frames[:M])] = frames[:M]
        return filled

    def read_raw(self, path: Path) -> list[Prepared | Failed] | None:
        """The clips of a raw file of the benchmark itself, prepared as for training; None for any other file.

        Raises:
            PoseFileError: the recipe refuses the file.
        """
        try:
            read = READ_RAW.get(self.kind)
            found = None if read is None else read(self, path)
        except BadFile as error:
            raise PoseFileError(f"{path}: {error}") from error
        return found


def _from_ntu(recipe: Recipe, recording: Recording) -> np.ndarray:
    seen = recording.seen
    ids = [[str(m).encode() for m in np.flatnonzero(seen[:, t])] for t in range(seen.shape[1])]
    poses = recording.points.transpose(1, 0, 2, 3)[seen.T]  # frame by frame
    return recipe_tracks(recipe.facts["recipe"], BodyRecording(ids, poses.astype(np.float64)))


def _from_kinetics(recipe: Recipe, recording: Recording) -> np.ndarray:
    T = recording.points.shape[1]
    if T > kinetics.WINDOW:
        raise BadFile(f"expected at most {kinetics.WINDOW} frames for this recipe, got {T}; give --window SECONDS")
    data = scored(recording, recording.facts.image_size)
    data = data[np.argsort(-data[..., 2].sum((1, 2)), kind="stable")][: recipe.facts.get("persons_in") or 5]
    return _kinetics_tracks(recipe, data.swapaxes(0, 1))


def _kinetics_tracks(recipe: Recipe, data: np.ndarray) -> np.ndarray:
    facts = recipe.facts
    centered = kinetics.center(data, facts["recipe"] == "agcn")
    data = kinetics.most_confident(centered, facts.get("num_person") or 2)
    if facts.get("pose_matching"):
        data = kinetics.match(data)
    return coordinates(data.swapaxes(0, 1))


def _from_deeplabcut(recipe: Recipe, recording: Recording) -> np.ndarray:
    size = recipe.with_size(recording.facts).image_size  # most formats do not contain the size
    if size is None:
        raise BadFile("expected a recording with the size of its images, got none; give --image-size WIDTH HEIGHT")
    animals = scored(recording, size)
    likely = np.argsort(-animals[..., 2].sum((1, 2)), kind="stable")[: recipe.facts.get("num_person") or 1]
    return deeplabcut.to_tracks(animals[np.sort(likely)])


def _from_own(recipe: Recipe, recording: Recording) -> np.ndarray:
    return own_frames(_plain(recipe, recording), recipe.body, recipe.facts["recipe"])


def _plain(recipe: Recipe, recording: Recording) -> np.ndarray:
    """Coordinates unchanged, with the score as last channel where the clips have one."""
    return _with_score(recipe, main_persons(recording, recipe.facts.get("num_person") or 1))


def _with_score(recipe: Recipe, recording: Recording) -> np.ndarray:
    data, score = np.nan_to_num(recording.points), recording.score
    if recipe.facts.get("channels") == data.shape[-1] + 1:
        score = (~np.isnan(recording.points).any(-1)).astype(np.float32) if score is None else score
        data = np.concatenate([data, score[..., None]], -1)
    return coordinates(data)


PREPARE: dict[str, Callable[[Recipe, Recording], np.ndarray]] = {
    "ntu": _from_ntu,
    "kinetics": _from_kinetics,
    "deeplabcut": _from_deeplabcut,
    "custom": _from_own,
    "plain": _plain,
}


def _read_ntu(recipe: Recipe, path: Path) -> list[Prepared] | None:
    if form_of(path) != "ntu":
        return None
    tracks = recipe_tracks(recipe.facts["recipe"], read_recording(path))
    return [Prepared(path.stem, recipe.slots(tracks))]


def _read_kinetics(recipe: Recipe, path: Path) -> list[Prepared] | None:
    if form_of(path) != "kinetics":
        return None
    persons = kinetics.read_persons(kinetics.read_record(path)["data"], recipe.facts.get("persons_in") or 5)
    return [Prepared(path.stem.split(".")[0], recipe.slots(_kinetics_tracks(recipe, persons)))]


def _read_plain(recipe: Recipe, path: Path) -> list[Prepared] | None:
    form, V = form_of(path), recipe.skeleton.num_joint
    if form == "skeletons":
        data = number_array(read_raw_json(path, MAX_BYTES).get("skeletons"))
        if data.ndim != 3 or data.shape[1:] != (V, recipe.facts.get("channels")):
            return None
        return [Prepared(path.stem, recipe.slots(coordinates(data)[None]))]
    return _read_pyskl(recipe, path) if form == "pyskl" else None


def _read_pyskl(recipe: Recipe, path: Path) -> list[Prepared | Failed] | None:
    found: list[Prepared | Failed] = []
    for name, recording in read_each(path):
        try:
            if isinstance(recording, PoseFileError):
                raise recording
            frames = _with_score(recipe, recording)
            if frames.shape[2:] != (recipe.skeleton.num_joint, recipe.facts.get("channels")):
                return None
            found.append(Prepared(name, recipe.slots(frames), recipe.image(recording.facts)))
        except ValueError as error:
            found.append(Failed(name, str(error)))
    return found


def _read_own(recipe: Recipe, path: Path) -> list[Prepared] | None:
    data = None if recipe.layout else read_own(path, recipe.skeleton, recipe.facts.get("channels"))
    if data is None or not data.size:
        return None
    facts = own_facts(path, recipe.body)
    if np.isnan(data).any() or len(data) > (recipe.facts.get("num_person") or len(data)):
        return [replace(recipe.whole(as_recording(data, facts))[0], name=path.stem, rate=facts.rate)]
    frames = own_frames(data, recipe.body, recipe.facts["recipe"])
    return [Prepared(path.stem, recipe.slots(frames), recipe.image(recipe.with_size(facts)), rate=facts.rate)]


def _read_deeplabcut(recipe: Recipe, path: Path) -> list[Prepared] | None:
    if path.suffix.lower() != ".csv" or not recipe.facts.get("image_size"):
        return None
    try:
        points, _ = deeplabcut.read_animals(path, recipe.skeleton.joints, deeplabcut.reading(recipe.facts))
    except BadFile:
        return None
    image = deeplabcut.to_image(points, tuple(recipe.facts["image_size"]))
    return [Prepared(path.stem, recipe.slots(deeplabcut.to_tracks(image)))]


def read_recordings(recipe: Recipe, path: Path, layout: str | None) -> list[tuple[str, Recording | PoseFileError]]:
    """The recordings in a file or folder, with the joints of custom clips as in training; `layout` overrides theirs.
    For a recording that cannot be used, the result contains the error.

    Raises:
        ValueError: the file cannot be read or is in an unknown format.
    """
    found, is_same = None, layout is None or find_layout(layout).name == recipe.body.layout
    if recipe.kind == "custom" and not recipe.layout and is_same and path.is_file():
        found = own_recording(path, recipe.body, recipe.facts["channels"])
    if found is not None:
        return [(path.stem, found)]
    return read_each(path, recipe.facts.get("min_likelihood", 0.0) if recipe.kind == "deeplabcut" else None)


READ_RAW: dict[str, Callable[[Recipe, Path], Sequence[Prepared | Failed] | None]] = {
    "ntu": _read_ntu,
    "kinetics": _read_kinetics,
    "deeplabcut": _read_deeplabcut,
    "custom": _read_own,
    "plain": _read_plain,
}
