"""The steps from a recording to the input of a recipe, shared by the preparation of training clips and prediction."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data.poses.convert import Body, fill, resample, to_body
from data.poses.recording import Recording, rate_of
from data.poses.sides import MIRRORED, is_mirrored


def complete(
    recording: Recording,
    body: Body,
    target: float | None,
    layout: str | None = None,
    rate: float | None = None,
    mirror: bool = False,
    missing: str = "interpolate",
) -> tuple[Recording, np.ndarray, float]:
    """The recording converted to a body, with missing joints filled; which joints were seen (M, T, V); its frame rate.

    target: frames per second of the clips; also assumed for a recording without a frame rate. layout, rate: override
    those of the recording. mirror: see `data.poses.convert.to_body`. missing: see `data.poses.convert.fill`; with
    `mask`, the scores of all joints that were not seen become 0. A recording without scores gets scores of 1 first.

    Raises:
        PoseFileError: there is no map from the layout of the recording to the body.
    """
    found = to_body(recording, body, layout, mirror)
    if is_mirrored(recording, layout):
        found.facts.guessed.append(MIRRORED)
    rate = rate_of(found.facts, rate, target)
    seen = ~np.isnan(found.points).any(-1)
    score = found.score
    if missing == "mask":
        score = np.where(seen, 1 if score is None else score, 0).astype(np.float32)
    elif score is None:
        score = np.ones(seen.shape, np.float32)  # `fill` sets those of missing joints to 0
    points = fill(found.points.copy(), score, rate, body.skeleton, body.is_flat, missing)
    return replace(found, points=points, score=score), seen, rate


def part_of(
    recording: Recording, persons: Sequence[int], begin: int, end: int, target: float | None, rate: float
) -> Recording:
    """Some persons in some frames, at the frame rate of the training clips. For a single person, frames without this
    person are left out."""
    points = recording.points[persons, begin:end]
    score = None if recording.score is None else recording.score[persons, begin:end]
    if len(persons) == 1:
        shown = ~np.isnan(points[0]).all((1, 2))
        points, score = points[:, shown], None if score is None else score[:, shown]
    if target is not None:
        points = resample(points, rate, target)
        score = None if score is None else np.where(np.isnan(points).any(-1), 0, resample(score, rate, target))
    tracks = tuple(recording.tracks[m] for m in persons)
    return Recording(points, score, tracks, np.arange(points.shape[1]), recording.facts)


def scored(recording: Recording, size: Sequence[int]) -> np.ndarray:
    """x, y as shares of the image size (width, height), and score: (M, T, V, 3) float64, 0 for missing joints."""
    score = recording.score
    if score is None:
        score = (~np.isnan(recording.points).any(-1)).astype(np.float64)
    data = np.concatenate([recording.points[..., :2] / np.array(size), score[..., None]], -1)
    data[np.isnan(data).any(-1)] = 0
    return data


def main_persons(recording: Recording, count: int) -> Recording:
    """The `count` persons who move the most: largest sum of the standard deviations of their coordinates over time."""
    points = recording.points
    if len(points) <= count:
        return recording
    seen = recording.seen
    spread = [
        points[m][seen[m]].reshape(-1, points.shape[-1]).std(0).sum() if seen[m].any() else 0
        for m in range(len(points))
    ]
    kept = np.sort(np.argsort(-np.array(spread), kind="stable")[:count])
    score = None if recording.score is None else recording.score[kept]
    tracks = tuple(recording.tracks[m] for m in kept)
    return Recording(points[kept], score, tracks, recording.frames, recording.facts)
