"""Persons in the images of a video or camera, one moment after the other, and a video as a recording."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.poses.body_path import GUESS, BodyPath, with_paths
from data.poses.camera import Camera, Frame
from data.poses.convert import MAX_GAP, between
from data.poses.estimator import PoseEstimator
from data.poses.recording import Detection, Detections, Facts, PoseFileError, Recording, check_seen, frame_range
from data.poses.tracking import Tracker, joint_sigmas, track


@dataclass
class Moment:
    """The persons at one time: seconds since the start, the number of the frame, the clock time when the image arrived,
    and the image, if there is one."""

    time: float
    number: int
    persons: list[Detection]
    arrived: float | None = None
    image: np.ndarray | None = None


def estimate(frames: Iterable[Frame], estimator: PoseEstimator) -> Iterator[Moment]:
    """The persons in each frame, without identity."""
    for frame in frames:
        persons = estimator.estimate(frame.image, round(frame.time * 1000))
        yield Moment(frame.time, frame.number, persons, frame.arrived, frame.image)


def follow(moments: Iterable[Moment], facts: Facts) -> Iterator[Moment]:
    """The same moments, in which every person has a persistent id: persons without ids are tracked (unconfirmed tracks
    are left out), and world landmarks of MediaPipe are moved to the position of the person.

    Raises:
        PoseFileError: only some persons of a moment have ids.
    """
    tracker = path = None
    for moment in moments:
        persons = moment.persons
        named = sum(person.track is not None for person in persons)
        if 0 < named < len(persons):
            raise PoseFileError(f"frame {moment.number}: expected ids of all persons or of none")
        if not named:
            if persons and tracker is None:
                tracker = Tracker(joint_sigmas(facts, len(persons[0].points)))
            if len(persons) > 1 and is_world(facts) and persons[0].image is None:
                raise PoseFileError(f"frame {moment.number}: expected ids: the hips of all persons are at the origin")
            found = tracker.update(moment.time, persons) if tracker else []
            persons = [replace(person, track=str(t.number)) for t, person in found]
        if is_world(facts) and any(person.image is not None for person in persons):
            if path is None:
                assert facts.image_size is not None
                path = BodyPath(facts.image_size)
                facts.guessed.append(GUESS)
            persons = [path.move(moment.time, person) for person in persons]
            for t in tracker.ended if tracker else ():
                path.forget(str(t.number))
        yield replace(moment, persons=persons)


def is_world(facts: Facts) -> bool:
    """Whether points are world landmarks of MediaPipe: their origin is between the hips in every frame."""
    return facts.layout == "mediapipe_pose_33" and facts.axes == "camera" and facts.units == "m"


def read_video(
    path: str | Path, models: Sequence[str | Path] = (), persons: int = 2, flat: bool = False
) -> tuple[str, Recording]:
    """(name, recording) of a video file; models, persons and flat as in `PoseEstimator`. Shows progress on a terminal.

    Raises:
        ValueError: the video cannot be read, a package is missing, or persons are seen in too few frames.
    """
    path = Path(path)
    with Camera(str(path)) as camera, PoseEstimator(models, persons, flat) as estimator:
        bar = tqdm(estimate(camera, estimator), path.name, camera.length or None, disable=not sys.stderr.isatty())
        found = [(moment.time, moment.persons) for moment in bar]
        facts = replace(estimator.facts, rate=camera.rate)
    times, frames = [time for time, _ in found], {number: persons for number, (_, persons) in enumerate(found)}
    try:
        check_seen(sum(map(bool, frames.values())), len(frames))
    except PoseFileError as error:
        raise PoseFileError(f"{path}: {error}") from None
    recording = at_constant_rate(track(Detections(frames, facts), times), np.array(times))
    if is_world(facts):
        recording = with_paths(recording)
        facts.guessed.append(GUESS)
    return path.stem, recording.check()


def at_constant_rate(recording: Recording, times: np.ndarray) -> Recording:
    """A recording whose frames have these times in seconds (T,), at its constant rate: linear between two frames, NaN
    between two frames that are more than MAX_GAP seconds apart. Deviations of less than a frame are ignored."""
    rate = recording.facts.rate
    assert rate is not None and len(times) == len(recording.frames), "a video without a rate"
    if (np.abs(times * rate - np.arange(len(times))) < 1).all():
        return recording
    frames = frame_range(np.array([0, int(times[-1] * rate + 1e-6)]))
    index = np.interp(frames / rate, times, np.arange(len(times)))
    pause = np.diff(times)[np.minimum(index.astype(int), len(times) - 2)] > MAX_GAP
    pause &= np.abs(frames / rate - times[np.rint(index).astype(int)]) > 0.5 / rate
    values = {"points": recording.points, "score": recording.score, "image": recording.image}
    values = {name: between(x, index) for name, x in values.items() if x is not None}
    for name, x in values.items():
        x[:, pause] = 0 if name == "score" else np.nan
    return replace(recording, frames=frames, **values)
