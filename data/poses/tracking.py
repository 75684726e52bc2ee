"""Identity over time for detections without ids: Hungarian assignment by object keypoint similarity (OKS).

OKS of the COCO evaluation: mean over the joints seen in both poses of exp(-d^2 / (2 A k^2)), with A = 0.53 times the
area of the box and k twice the standard deviation of the joint. No appearance model: people who cross may swap.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from data.poses.recording import Detection, Detections, PoseFileError, Recording

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
ACCEPT, GHOST = 0.3, 0.7  # OKS from which a detection continues a track, and above which two detections are one person
BORN_HITS, BORN_SECONDS, DEAD_SECONDS, JUMP_SECONDS = 3, 0.3, 1.0, 0.1
ASSUMED_RATE = 30.0


@dataclass
class Track:
    """A person who is being followed."""

    name: int
    last: Detection
    number: int  # frame of the last detection
    velocity: np.ndarray  # (C,) per frame
    hits: list[tuple[int, Detection]]
    confirmed: bool = False


def track(detections: Detections) -> Recording:
    """Follow the persons of detections without ids; ids are numbers from 1 in the order of their first frame."""
    rate = detections.facts.rate or ASSUMED_RATE
    sigma = joint_sigmas(detections)
    alive: list[Track] = []
    finished: list[Track] = []
    count = 0
    for number in sorted(detections.frames):
        expired = [
            t
            for t in alive
            if number - t.number > DEAD_SECONDS * rate or (not t.confirmed and _too_late(t, number, rate))
        ]
        finished += expired
        alive = [t for t in alive if all(t is not e for e in expired)]
        persons = without_ghosts(detections.frames[number], sigma)
        for t, person in _assign(alive, persons, number, rate, sigma):
            if t is None:
                count += 1
                alive.append(Track(count, person, number, np.zeros(person.points.shape[1]), [(number, person)]))
                continue
            t.velocity = shift(t.last.points, person.points) / max(number - t.number, 1)
            t.last, t.number = person, number
            t.hits.append((number, person))
            t.confirmed = t.confirmed or len(t.hits) >= BORN_HITS
    short = len(detections.frames) < BORN_HITS
    if count and not short and not any(t.confirmed for t in finished + alive):
        raise PoseFileError(
            f"expected persons in at least {BORN_HITS} consecutive frames, got single pictures or brief detections"
        )
    kept = sorted((t for t in finished + alive if t.confirmed or short), key=lambda t: (t.hits[0][0], t.name))
    frames: dict[int, list[Detection]] = {number: [] for number in detections.frames}
    for new, t in enumerate(kept, start=1):
        for number, person in t.hits:
            frames[number].append(Detection(person.points, person.score, str(new), person.confidence))
    detections.facts.guessed.append("persons were tracked by the similarity of their poses; crossing people may swap")
    return Detections(frames, detections.facts).to_recording()


def _too_late(t: Track, number: int, rate: float) -> bool:
    return number - t.hits[0][0] > BORN_SECONDS * rate and number - t.number > BORN_SECONDS * rate


def joint_sigmas(detections: Detections) -> np.ndarray:
    """(V,) standard deviation of each joint relative to the size of the person."""
    from graph.layouts import layouts

    person = next((person for found in detections.frames.values() for person in found), None)
    if person is None:
        return np.zeros(0)
    names = layouts()[detections.facts.layout].skeleton.joints if detections.facts.layout else detections.facts.joints
    if len(names) != len(person.points):
        return np.full(len(person.points), OTHER_SIGMA)
    return np.array([next((s for word, s in SIGMAS.items() if word in name.lower()), OTHER_SIGMA) for name in names])


def shift(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """How far a person moved between two poses (V, C): the median over the joints seen in both, else between the
    means; (C,)."""
    common = ~np.isnan(old).any(1) & ~np.isnan(new).any(1)
    if common.any():
        return np.median(new[common] - old[common], 0)
    return np.nanmean(new, 0) - np.nanmean(old, 0)


def similarity(one: np.ndarray, other: np.ndarray, sigma: np.ndarray) -> float:
    """OKS of two poses (V, C) in 0..1; with fewer than 4 common joints the overlap (IoU) of their boxes."""
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


def without_ghosts(persons: list[Detection], sigma: np.ndarray) -> list[Detection]:
    """Persons with any joint, the weaker of two nearly equal poses left out."""
    seen = [person for person in persons if not np.isnan(person.points).all()]
    seen.sort(key=lambda person: -(person.score.mean() if person.score is not None else person.confidence))
    kept: list[Detection] = []
    for person in seen:
        if all(similarity(person.points, other.points, sigma) <= GHOST for other in kept):
            kept.append(person)
    return kept


def _assign(
    alive: list[Track], persons: list[Detection], number: int, rate: float, sigma: np.ndarray
) -> list[tuple[Track | None, Detection]]:
    """Each person with the track it continues, or None."""
    owner: list[Track | None] = [None] * len(persons)
    if alive and persons:
        score = np.zeros((len(alive), len(persons)))
        for i, t in enumerate(alive):
            expected = t.last.points + t.velocity * (number - t.number)
            height = np.nanmax(t.last.points[:, 1]) - np.nanmin(t.last.points[:, 1])
            for j, person in enumerate(persons):
                jump = np.linalg.norm(shift(t.last.points, person.points))
                if jump > height * max((number - t.number) / rate, JUMP_SECONDS) / JUMP_SECONDS:
                    continue
                score[i, j] = similarity(person.points, expected, sigma)
        for i, j in zip(*linear_sum_assignment(-score), strict=True):
            if score[i, j] >= ACCEPT:
                owner[j] = alive[i]
    return list(zip(owner, persons, strict=True))
