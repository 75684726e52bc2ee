"""Recordings with their predictions as pictures: moving skeletons with labels and probabilities over time."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data.poses.recording import ASSUMED_RATE, Recording
from graph.body import Skeleton
from torchlight.predict.output import file_names
from torchlight.predict.prediction import Prediction
from torchlight.predict.segments import Segment, spread
from torchlight.system.clip_view import ClipView, render, to_viewer, without_empty, write_page

MAX_ROWS, MAX_CLASSES, MAX_POINTS = 10, 5, 500  # curves in all and of a person, points of a curve

log = logging.getLogger("torchlight")
MAX_VIEWS = 200  # recordings on a page


class Labeled(Protocol):
    """The predictions for a recording; segments and times only with windows."""

    predictions: Sequence[Prediction]
    segments: Sequence[Segment]
    times: np.ndarray


def save_pictures(path: Path, found: Sequence[Labeled], shown: Iterable[Recording], skeleton: Skeleton) -> None:
    """Write a .gif for each recording, or one page (.html) with all of them. Raises OSError.

    shown: the recordings in the joints of `skeleton`.
    """
    if path.suffix.lower() == ".html":
        write_views(path, found, shown, skeleton)
        return
    from data.pictures import animate  # matplotlib is slow to import

    files = file_names(path, [one.predictions[0].source for one in found])
    for one, recording, file in zip(found, shown, files, strict=True):
        animate(recording, skeleton.inward, lambda time, one=one: caption(one, time), file)
        log.info("wrote %s", file)


def caption(found: Labeled, time: float) -> str:
    """The caption for a time in seconds."""
    names = found.predictions[0].class_names
    if not len(found.times):
        return "\n".join(f"{names[p.label]} {100 * p.probability:.0f} %" for p in found.predictions[:3])
    now = [s for s in found.segments if s.start <= time < s.end]
    return "\n".join(f"{s.person or ''} {names[s.label]} {100 * s.mean:.0f} %" for s in now[:3]) or "nothing"


def write_views(path: Path, found: Sequence[Labeled], shown: Iterable[Recording], skeleton: Skeleton) -> None:
    """Write a page with the recordings, each in the joints of `skeleton`; at most MAX_VIEWS. Raises OSError."""
    if len(found) > MAX_VIEWS:
        log.warning("%s shows the first %d of %d recordings", path, MAX_VIEWS, len(found))
    pairs = zip(found[:MAX_VIEWS], shown, strict=False)
    views = [view_of(recording, one.predictions, one.segments, one.times, skeleton) for one, recording in pairs]
    write_page(path, "Predictions", render(views, play=True))
    log.info("wrote %s", path)


def view_of(
    recording: Recording,
    predictions: Sequence[Prediction],
    segments: Sequence[Segment],
    times: np.ndarray,
    skeleton: Skeleton,
) -> ClipView:
    """A recording in the joints of `skeleton` with its predictions.

    segments, times: those of `--window`; without times, each prediction is one label of the whole recording.
    """
    rate = recording.facts.rate or ASSUMED_RATE
    flat = recording.facts.axes == "image"
    points = recording.points.transpose(1, 0, 2, 3)  # (T, M, V, C)
    points = without_empty(to_viewer(points, "-y" if flat else "y", 2 if flat else 3))
    names = predictions[0].class_names
    windows = len(times) > 0
    if windows:
        times = times[:: -(-len(times) // MAX_POINTS)]
        found = [(s.start, s.end, f"{names[s.label]} {100 * s.mean:.0f} %", s.person) for s in segments]
    else:
        times, end = np.zeros(1), len(points) / rate
        found = [(0.0, end, f"{p.name} {100 * p.probability:.0f} %", p.person) for p in predictions]
    curves = _curves(predictions, times, windows)
    sides, persons, source = (skeleton.left, skeleton.right), recording.tracks, predictions[0].source
    return ClipView(source, points, skeleton.inward, rate, *sides, persons, found, times.tolist(), curves)


def _curves(predictions: Sequence[Prediction], times: np.ndarray, windows: bool) -> list[tuple[str, np.ndarray]]:
    """The probabilities of the most probable classes of each person at these times."""
    persons: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        persons.setdefault(prediction.person, []).append(prediction)
    names, top = predictions[0].class_names, max(1, min(MAX_CLASSES, MAX_ROWS // len(persons)))
    found = []
    for person, own in persons.items():
        p = np.stack([prediction.probabilities for prediction in own])
        if windows:
            p = spread(np.array([one.begin for one in own]), np.array([one.end for one in own]), p, times)
        for k in np.argsort(-np.nan_to_num(p).max(0), kind="stable")[:top]:
            found.append((f"{person} {names[k]}".strip(), p[:, k]))
    return found
