"""Identity over time for detections without ids: Hungarian assignment by object keypoint similarity (OKS).

OKS as in the COCO evaluation: the mean of exp(-d^2 / (2 A k^2)) over the joints that are seen in both poses, where A is
0.53 times the area of the box and k is twice the standard deviation of the joint. There is no appearance model, so the
ids of people who cross each other may be swapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from data.poses.recording import ASSUMED_RATE, Detection, Detections, Facts, PoseFileError, Recording
from graph.layouts import layouts

SIGMAS = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
OTHER_SIGMA = 0.08
ACCEPT, GHOST = 0.3, 0.7  # minimum OKS to continue a track; OKS above which two detections are the same person
BORN_HITS, BORN_SECONDS, DEAD_SECONDS, JUMP_SECONDS = 3, 0.3, 1.0, 0.1


@dataclass
class Track:
    """A person who is being tracked. name: a number from 1 in the order of the first detections. number: a number from
    1 in the order of confirmation, 0 before."""

    name: int
    first: float  # time of the first detection
    last: Detection
    time: float  # of the last detection
    velocity: np.ndarray  # (C,) per unit of time
    hits: int = 1
    number: int = 0

    @property
    def confirmed(self) -> bool:
        """Whether it has enough detections to be a person, not a false detection."""
        return self.number > 0


class Tracker:
    """Tracks persons from one frame to the next; keeps one detection per track and removes tracks that ended.

    sigma: (V,) from `joint_sigmas`. rate: units of time per second; times are frame numbers, or seconds with rate 1.

    >>> walk = np.array([[0, 0], [9, 0], [0, 9], [9, 9]], np.float32)
    >>> tracker = Tracker(np.full(4, 0.08))
    >>> [len(tracker.update(t / 30, [Detection(walk + t)])) for t in range(4)]
    [0, 0, 1, 1]
    """

    def __init__(self, sigma: np.ndarray, rate: float = 1.0):
        self.sigma, self.rate = sigma, rate
        self.alive: list[Track] = []
        self.ended: list[Track] = []  # confirmed tracks that ended at the last update
        self.count = self.confirmed = 0
        self.time: float | None = None  # of the last update

    def update(self, time: float, persons: Sequence[Detection]) -> list[tuple[Track, Detection]]:
        """The persons of the next frame who belong to confirmed tracks; times must increase."""
        return [(t, person) for t, person in self.follow(time, persons) if t.confirmed]

    def follow(
        self, time: float, persons: Sequence[Detection], pause: float | None = None
    ) -> list[tuple[Track, Detection]]:
        """Like `update`, but also returns the persons of tracks that are not confirmed yet. pause: time without
        observations; after a longer pause, poses may differ more. Default: the time since the last update."""
        expired = [t for t in self.alive if self._expired(t, time)]
        self.ended = [t for t in expired if t.confirmed]
        self.alive = [t for t in self.alive if all(t is not e for e in expired)]
        found = []
        if pause is None:
            pause = 0.0 if self.time is None else time - self.time
        self.time = time
        slow = pause / self.rate / JUMP_SECONDS
        wide = self.sigma * max(slow, 1) ** 0.5
        kept = without_ghosts(persons, self.sigma)
        for t, person in _assign(self.alive, kept, time, self.rate, wide, slow > 1):
            if t is None:
                self.count += 1
                t = Track(self.count, time, person, time, np.zeros(location(person).shape[1]))
                self.alive.append(t)
            else:
                assert time > t.time, f"time went back from {t.time} to {time}"
                t.velocity = shift(location(t.last), location(person)) / (time - t.time)
                t.last, t.time, t.hits = person, time, t.hits + 1
                if t.hits == BORN_HITS:
                    self.confirmed += 1
                    t.number = self.confirmed
            found.append((t, person))
        return found

    def _expired(self, t: Track, time: float) -> bool:
        """Whether a track ended: unseen for too long, or not confirmed in time. On slow computers the first detections
        may take longer, if they are in consecutive updates."""
        unseen = time - t.time
        late = time - t.first > BORN_SECONDS * self.rate
        missed = unseen > BORN_SECONDS * self.rate or (self.time is not None and t.time < self.time)
        return unseen > DEAD_SECONDS * self.rate or (not t.confirmed and late and missed)


def track(detections: Detections, times: Sequence[float] | None = None) -> Recording:
    """Track the persons without ids; they get unused numbers from 1 in the order of their first frame. All others keep
    their ids.

    times: of each frame in seconds; default: the numbers of the frames at the frame rate of the detections.

    Raises:
        PoseFileError: no person is seen often enough.
    """
    persons = [person for found in detections.frames.values() for person in found]
    sigma = joint_sigmas(detections.facts, len(persons[0].points) if persons else 0)
    rate, numbers = detections.facts.rate or ASSUMED_RATE, sorted(detections.frames)
    tracker, pause = Tracker(sigma, rate), 1 if times is None else None
    clock = numbers if times is None else [time * rate for time in times]
    found = {
        number: tracker.follow(time, [person for person in detections.frames[number] if person.track is None], pause)
        for number, time in zip(numbers, clock, strict=True)
    }
    ids = {person.track for person in persons} - {None}
    short = len(numbers) < BORN_HITS
    kept = sorted({t.name for pairs in found.values() for t, _ in pairs if t.confirmed or short})
    if tracker.count and not kept and not ids:
        raise PoseFileError(
            f"expected persons in at least {BORN_HITS} consecutive frames, got single images or brief detections"
        )
    unused = [name for name in map(str, range(1, len(kept) + len(ids) + 1)) if name not in ids]
    new = dict(zip(kept, unused, strict=False))
    frames = {
        number: [person for person in detections.frames[number] if person.track is not None]
        + [replace(person, track=new[t.name]) for t, person in pairs if t.name in new]
        for number, pairs in found.items()
    }
    who = "persons without an id" if ids else "persons"
    detections.facts.guessed.append(
        f"{who} were tracked by the similarity of their poses; the ids of people who cross each other may be swapped"
    )
    return Detections(frames, detections.facts).to_recording()


def joint_sigmas(facts: Facts, count: int) -> np.ndarray:
    """(V,) standard deviation of each of the `count` joints relative to the size of the person."""
    names = layouts()[facts.layout].skeleton.joints if facts.layout else facts.joints
    if len(names) != count:
        return np.full(count, OTHER_SIGMA)
    return np.array([next((s for word, s in SIGMAS.items() if word in name.lower()), OTHER_SIGMA) for name in names])


def location(person: Detection) -> np.ndarray:
    """The position of a person, (V, C): in the image if known, because 3-D points may be relative to the body."""
    return person.points if person.image is None else person.image


def shift(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The movement of a person between two poses (V, C) -> (C,): the median over the joints that are seen in both; if
    there are none, the difference of the means."""
    common = ~np.isnan(old).any(1) & ~np.isnan(new).any(1)
    if common.any():
        return np.median(new[common] - old[common], 0)
    return np.nanmean(new, 0) - np.nanmean(old, 0)


def similarity(one: np.ndarray, other: np.ndarray, sigma: np.ndarray) -> float:
    """OKS of two poses (V, C), from 0 to 1; with fewer than 4 common joints, the IoU of their boxes."""
    low, high = np.nanmin(other[:, :2], 0), np.nanmax(other[:, :2], 0)
    common = ~np.isnan(one).any(1) & ~np.isnan(other).any(1)
    if common.sum() < 4:
        return _box_overlap(one, low, high)
    area = 0.53 * max(float(np.prod(high - low)), 1e-12)
    squared = ((one[common] - other[common]) ** 2).sum(1)
    return float(np.exp(-squared / (2 * area * (2 * sigma[common]) ** 2)).mean())


def _box_overlap(one: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    a, b = np.nanmin(one[:, :2], 0), np.nanmax(one[:, :2], 0)
    inside = np.prod(np.clip(np.minimum(b, high) - np.maximum(a, low), 0, None))
    union = np.prod(b - a) + np.prod(high - low) - inside
    return float(inside / union) if union > 0 else 0.0


def without_ghosts(persons: Sequence[Detection], sigma: np.ndarray) -> list[Detection]:
    """Persons with at least one joint; of two nearly equal poses, the one with the lower score is removed."""
    seen = [person for person in persons if not np.isnan(location(person)).all()]
    seen.sort(key=lambda person: -(person.score.mean() if person.score is not None else person.confidence))
    kept: list[Detection] = []
    for person in seen:
        if all(similarity(location(person), location(other), sigma) <= GHOST for other in kept):
            kept.append(person)
    return kept


def _assign(
    alive: list[Track], persons: list[Detection], time: float, rate: float, sigma: np.ndarray, slow: bool
) -> list[tuple[Track | None, Detection]]:
    """Each person with the track that it continues, or None. slow: whether the pause since the last frame is long; the
    velocity is then uncertain, so the last position is accepted as well."""
    owner: list[Track | None] = [None] * len(persons)
    if alive and persons:
        score = np.zeros((len(alive), len(persons)))
        for i, t in enumerate(alive):
            last = location(t.last)
            expected = [last + t.velocity * (time - t.time), *([last] if slow else [])]
            height = np.nanmax(last[:, 1]) - np.nanmin(last[:, 1])
            for j, person in enumerate(persons):
                jump = np.linalg.norm(shift(last, location(person)))
                if jump > height * max((time - t.time) / rate, JUMP_SECONDS) / JUMP_SECONDS:
                    continue
                score[i, j] = max(similarity(location(person), pose, sigma) for pose in expected)
        for i, j in zip(*linear_sum_assignment(-score), strict=True):
            if score[i, j] >= ACCEPT:
                owner[j] = alive[i]
    return list(zip(owner, persons, strict=True))
