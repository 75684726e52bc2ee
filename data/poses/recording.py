"""The results of the readers of pose files: recordings of persons over time, and detections in single frames without
identity."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

ASSUMED_RATE = 30.0  # frames per second of files without a frame rate
SEEN_SHARE = 0.1  # minimum share of the frames of a recording that show a person
MAX_FRAMES = 10_000_000  # between the first and the last frame number: four days at 30 frames per second


class PoseFileError(ValueError):
    """A pose file that cannot be read as a recording. The message names the file and the reason."""


@dataclass
class Facts:
    """Facts about a recording besides its points.

    form: the format of the file. layout: name of a body layout, or None if only `joints` are known. axes: image,
    camera, kinect, smpl, y_up or world_z_up. units: px, share (of width and height), m, cm, mm or unknown. rate: frames
    per second or None. image_size: (width, height) in pixels or None. guessed: assumptions about facts that are not in
    the file, one sentence each. imputed: names of joints that no sensor measured. start: number of the first frame of
    the recording, even if it shows no person; None: the recording begins with the first person. cutoff: points with
    a lower score count as not seen. resampled: whether the frame rate is converted to that of the training clips.
    """

    form: str
    layout: str | None = None
    joints: tuple[str, ...] = ()
    axes: str = "image"
    units: str = "px"
    rate: float | None = None
    image_size: tuple[int, int] | None = None
    guessed: list[str] = field(default_factory=list)
    imputed: tuple[str, ...] = ()
    start: int | None = None
    cutoff: float | None = None
    resampled: bool = True


def rate_of(facts: Facts, rate: float | None = None, assumed: float | None = None) -> float:
    """Frames per second of a recording: `rate`, that of the file, or `assumed`, which is added to `facts.guessed`."""
    stated = facts.rate is not None and 0 < facts.rate < np.inf  # some programs write 0
    found = rate or (facts.rate if stated else None)
    if found is None:
        found = assumed or ASSUMED_RATE
        text = f"the file has no frame rate: {found:g} frames per second are assumed"
        if text not in facts.guessed:
            facts.guessed.append(text)
    return found


@dataclass
class Detection:
    """One person in one frame: points (V, C) float32 with NaN where a joint was not seen, score (V,) or None, and an
    id or None.

    image: (V, 2) float32, the joints in the image in pixels if the points are 3-D; otherwise None.
    """

    points: np.ndarray
    score: np.ndarray | None = None
    track: str | None = None
    confidence: float = 1.0
    image: np.ndarray | None = None


@dataclass
class Recording:
    """Persons over time.

    points: (M, T, V, C) float32, NaN where a joint was not seen. score: (M, T, V) float32 or None. tracks: the id of
    each person. frames: (T,) int64, the number of each frame in the file. facts: everything else. image: (M, T, V, 2)
    float32, the joints in the image in pixels if the points are 3-D; otherwise None.
    """

    points: np.ndarray
    score: np.ndarray | None
    tracks: tuple[str, ...]
    frames: np.ndarray
    facts: Facts
    image: np.ndarray | None = None

    @property
    def delay(self) -> int:
        """Number of frames without a person before the first frame."""
        return 0 if self.facts.start is None else max(int(self.frames[0]) - self.facts.start, 0)

    @property
    def seen(self) -> np.ndarray:
        """(M, T) bool: whether any joint of the person was seen in the frame."""
        return ~np.isnan(self.points).all((2, 3))

    def check(self) -> "Recording":
        """The recording itself.

        Raises:
            PoseFileError: it contains no person or infinite numbers.
        """
        if not self.points.size or not self.seen.any():
            raise PoseFileError(f"expected at least one person, got none in {len(self.frames)} frames")
        if np.isinf(self.points).any():
            raise PoseFileError("expected finite coordinates, got infinite ones")
        return self


@dataclass
class Detections:
    """Persons of each frame in no particular order: frame number -> persons. Missing numbers are frames without a
    person."""

    frames: dict[int, list[Detection]]
    facts: Facts

    @property
    def identified(self) -> bool:
        """Whether every person has an id."""
        persons = [person for found in self.frames.values() for person in found]
        return bool(persons) and all(person.track is not None for person in persons)

    def to_recording(self) -> Recording:
        """Group the detections by id; if an id occurs twice in a frame, the detection with the higher confidence is
        kept.

        All persons need ids: from the file (`identified`) or from `data.poses.tracking.track`. Frames without a person
        between the first and the last frame are kept, so that the timing is preserved.
        """
        numbers = sorted(self.frames)
        span = frame_range(np.array(numbers, np.int64))
        found = [person for number in numbers for person in self.frames[number]]
        tracks = tuple(dict.fromkeys(person.track for person in found))
        assert None not in tracks, "detections without ids"
        V, C = found[0].points.shape if found else (0, 0)
        points = np.full((len(tracks), len(span), V, C), np.nan, np.float32)
        scored = any(person.score is not None for person in found)
        score = np.zeros(points.shape[:3], np.float32) if scored else None
        pictured = any(person.image is not None for person in found)
        image = np.full((*points.shape[:3], 2), np.nan, np.float32) if pictured else None
        best = np.full(points.shape[:2], -np.inf)
        place = {track: m for m, track in enumerate(tracks)}
        for number in numbers:
            for person in self.frames[number]:
                m, t = place[person.track], number - span[0]
                if person.confidence > best[m, t]:
                    best[m, t], points[m, t] = person.confidence, person.points
                    if score is not None and person.score is not None:
                        score[m, t] = person.score
                    if image is not None and person.image is not None:
                        image[m, t] = person.image
        return Recording(points, score, tuple(map(str, tracks)), span, self.facts, image)


def frame_range(numbers: np.ndarray) -> np.ndarray:
    """All frame numbers from the first to the last of `numbers`.

    Raises:
        PoseFileError: there are more than MAX_FRAMES.
    """
    if not len(numbers):
        return numbers
    first, last = int(numbers.min()), int(numbers.max())
    if last - first >= MAX_FRAMES:
        raise PoseFileError(f"expected frame numbers within {MAX_FRAMES} frames, got {first} to {last}")
    return np.arange(first, last + 1)


def check_seen(seen: int, count: int) -> None:
    """Raise PoseFileError if too few of the `count` frames of a recording show a person."""
    if seen < SEEN_SHARE * count or not seen:
        raise PoseFileError(f"expected a person in at least {SEEN_SHARE:.0%} of the frames, got {seen} of {count}")


def flat_points(values: Sequence[float], width: int, origin: str, unseen_zero: bool = True) -> np.ndarray:
    """A flat list x, y, c, x, y, c, ... as (V, width) float32. unseen_zero: coordinates that are all zero become NaN.

    Raises:
        PoseFileError: the values are not numbers, or their count is not a multiple of `width`.
    """
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise PoseFileError(f"{origin}: expected a list of numbers as key points") from error
    if array.ndim != 1 or not len(array) or len(array) % width:
        raise PoseFileError(f"{origin}: expected a multiple of {width} numbers as key points, got {array.size}")
    points = array.reshape(-1, width)
    if unseen_zero:
        points[(points[:, :-1] == 0).all(1), :-1] = np.nan
    return points
