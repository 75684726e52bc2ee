"""Labels for a running recording: a ring buffer of poses per person and a prediction every stride."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data.poses.convert import MAX_GAP, assumed_size, to_joints
from data.poses.recording import Detection, Facts, PoseFileError, Recording
from torchlight.predict.clips import LEAST_SEEN, Clip, Settings, clips_of_recording, typical_window
from torchlight.predict.load import TrainedStream
from torchlight.predict.prediction import SCENE, Prediction
from torchlight.predict.segments import Hysteresis

FORGOTTEN = 1.0  # seconds after which a person who is not visible is lost
GRID_RATE = 30.0  # frames per second of the clips if the frame rate of the training is not known
LEAST_WINDOW = 0.5  # share of the window in which a person must have been visible for the first prediction


class Buffer:
    """The poses of one person in the last seconds."""

    def __init__(self) -> None:
        self.time: deque[float] = deque()
        self.points: deque[np.ndarray] = deque()
        self.score: deque[np.ndarray | None] = deque()

    def add(self, time: float, person: Detection, oldest: float) -> None:
        """Add a pose and remove those before `oldest`."""
        self.time.append(time)
        self.points.append(np.asarray(person.points, np.float32))
        self.score.append(person.score)
        while self.time[0] < oldest:
            for values in (self.time, self.points, self.score):
                values.popleft()

    def sample(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Points (T, V, C) and scores (T, V) at these times: linear between two poses, NaN in longer gaps."""
        known, points = np.array(self.time), np.stack(self.points)
        after = np.clip(np.searchsorted(known, times), 1, max(len(known) - 1, 1))
        before = after - 1 if len(known) > 1 else np.zeros_like(after)
        after = np.minimum(after, len(known) - 1)
        width = known[after] - known[before]
        share = np.clip((times - known[before]) / np.where(width > 0, width, 1), 0, 1)
        gap = np.where(width > MAX_GAP, np.minimum(abs(times - known[before]), abs(times - known[after])), 0)
        outside = np.maximum(known[0] - times, times - known[-1])
        share = share.astype(np.float32)[:, None, None]
        found = np.where(share == 0, points[before], np.where(share == 1, points[after], 0))
        inner = (share > 0) & (share < 1)
        found = np.where(inner, points[before] * (1 - share) + points[after] * share, found)
        found[(gap > 0.5 / GRID_RATE) | (outside > 1.5 / GRID_RATE)] = np.nan
        if any(score is None for score in self.score):
            return found, None
        scores = np.stack(self.score)
        return found, scores[before] * (1 - share[..., 0]) + scores[after] * share[..., 0]


class Stream:
    """Predictions for a stream of poses; created by `Recognizer.stream`.

    streams: the trained networks. predict: function that labels their clips, one list for each network. window, stride:
    seconds; default: the median length of a training clip, and a tenth of it. facts: layout, axes and units of the
    poses; default: those of the body of the network; assumptions are added to its `guessed`. persons: see `Settings`.

    Windows are defined by time, not by the number of frames: cameras with 12 and 30 frames per second give the same
    input.
    """

    def __init__(
        self,
        streams: Sequence[TrainedStream],
        predict: Callable[[list[list[Clip]]], list[Prediction]],
        facts: Facts | None = None,
        settings: Settings | None = None,
        hysteresis: dict[str, Any] | None = None,
        top_k: int = 5,
    ):
        settings = settings or Settings()
        self.streams, self.predict, self.top_k = streams, predict, top_k
        recipe = streams[0].recipe
        self.rate = recipe.rate or GRID_RATE
        self.window = settings.window or typical_window(recipe)
        self.stride = settings.stride or self.window / 10
        self.settings = replace(settings, window=self.window, stride=None, rate=self.rate, persons="each")
        self.is_scene = settings.persons == "scene"
        body = recipe.body
        flat = ("image", "px") if body.is_flat else ("kinect", "m")
        self.keeps_zeros = recipe.keeps_zeros and facts is None and settings.layout in (None, body.layout)
        self.facts = facts or Facts("frames", body.layout, recipe.skeleton.joints if body.is_own else (), *flat)
        size = self.facts.image_size or settings.image_size or recipe.facts.get("image_size")
        self.finds_size = body.is_flat and not body.is_own and self.facts.axes == "image" and size is None
        self.high = np.zeros(2)  # largest coordinates of all windows, to assume an image size
        self.buffers: dict[str, Buffer] = {}
        self.states: dict[str, Hysteresis] = {}
        self.hysteresis = hysteresis or {}
        self.due: float | None = None
        self.last: float | None = None

    @property
    def delay(self) -> float:
        """The delay of labels in seconds on any computer: half of the window, the smoothing and two updates."""
        options = Hysteresis(**self.hysteresis)
        return self.window / 2 + options.tau + options.updates * self.stride

    def push(self, time: float, persons: Sequence[Detection] | np.ndarray) -> list[dict[str, Any]]:
        """Add the poses at a time in seconds. Returns the current results if a stride has passed, else an empty list.

        persons: detections with ids, or an array (V, C) or (M, V, C) in which persons keep their index. Each result has
        track, state ("warming up", "label", "nothing" or "lost"), label, p, top, window, observed and imputed.

        Raises:
            ValueError: the time is not finite or not later than before, or the poses do not fit the network.
        """
        if not math.isfinite(time):
            raise ValueError(f"time: expected a finite number of seconds, got {time}")
        if self.last is not None and time <= self.last:
            raise ValueError(f"time: expected more than {self.last:g} seconds, got {time:g}")
        self.last = time
        if isinstance(persons, np.ndarray):
            persons = persons_of_array(persons, self.streams[0].recipe.body.is_flat, self.keeps_zeros)
        oldest = time - self.window - MAX_GAP
        if persons and not self.buffers:
            first = Recording(persons[0].points[None, None], None, ("",), np.zeros(1), replace(self.facts, guessed=[]))
            to_joints(first, first.facts, self.streams[0].recipe.body, self.settings.layout)
        shapes = {buffer.points[-1].shape for buffer in self.buffers.values()} | {p.points.shape for p in persons}
        if len(shapes) > 1:
            raise ValueError(f"poses: expected one number of joints and coordinates, got {sorted(shapes)}")
        for person in persons:
            assert person.track is not None, "a person without an id"
            self.buffers.setdefault(person.track, Buffer()).add(time, person, oldest)
        updates = self.forget(time)
        if self.due is None:
            self.due = time + self.stride
        if time >= self.due - 1e-9:
            self.due = max(self.due + self.stride, time)
            updates += self.update(time)
        return updates

    def forget(self, time: float) -> list[dict[str, Any]]:
        """Remove the persons who have not been seen for a while."""
        lost = [track for track, buffer in self.buffers.items() if time - buffer.time[-1] > FORGOTTEN]
        for track in lost:
            del self.buffers[track]
            self.states.pop(track, None)
        if lost and not self.buffers and self.states.pop(SCENE, None) is not None:
            lost.append(SCENE)
        return [{"track": track, "state": "lost"} for track in lost]

    def update(self, time: float) -> list[dict[str, Any]]:
        """A prediction for each person who was visible long enough, as one batch."""
        ready = [t for t, b in self.buffers.items() if time - b.time[0] >= LEAST_WINDOW * self.window - 1e-9]
        waiting = [{"track": t, "state": "warming up"} for t in self.buffers if t not in ready]
        if not ready:
            return waiting
        per_stream: list[list[Clip]] = [[] for _ in self.streams]
        for group in [ready] if self.is_scene else [[track] for track in ready]:
            of_group = [self.clips(time, group, stream) for stream in self.streams]
            if all(of_group):  # the preparation of one stream may need more of a person than that of another
                for clips, more in zip(per_stream, of_group, strict=True):
                    clips += more
        found = self.predict(per_stream) if per_stream[0] else []
        known = {prediction.person for prediction in found}
        if not self.is_scene:
            waiting += [{"track": track, "state": "warming up"} for track in ready if track not in known]
        return waiting + [self.result(time, prediction) for prediction in found]

    def clips(self, time: float, tracks: list[str], stream: TrainedStream) -> list[Clip]:
        """The clip of some persons in the window that ends now; none if they were not visible long enough."""
        begin = max(time - self.window, min(self.buffers[track].time[0] for track in tracks))
        times = time - np.arange(int((time - begin) * self.rate + 1e-6) + 1)[::-1] / self.rate
        sampled = [self.buffers[track].sample(times) for track in tracks]
        scores = None if any(s is None for _, s in sampled) else np.stack([s for _, s in sampled])
        points = np.stack([p for p, _ in sampled])
        if (~np.isnan(points).all((0, 2, 3))).mean() < LEAST_SEEN:
            return []
        if self.finds_size:
            self.assume_size(points)
        facts = replace(self.facts, guessed=[])
        recording = Recording(points, scores, tuple(tracks), np.arange(len(times)), facts)
        settings = replace(self.settings, persons="scene" if self.is_scene else "each", window=len(times) / self.rate)
        try:
            found = clips_of_recording("stream", recording, stream.recipe, settings, stream.repeated_to)
        except PoseFileError:  # too little of the person; that the layout fits was checked before
            return []
        for clip in found:
            clip.begin, clip.end = float(times[0]), float(time)
            self.facts.guessed += [note for note in clip.notes if note not in self.facts.guessed]
        return found

    def assume_size(self, points: np.ndarray) -> None:
        """Set an image size that contains the points of all windows: a smaller one would change their scale."""
        self.high = np.fmax(self.high, np.nanmax(points[..., :2].reshape(-1, 2), 0))
        size = assumed_size(self.high, self.facts)
        if size != self.facts.image_size:
            self.facts.image_size = size
            self.facts.guessed.append(f"the poses have no image size: {size[0]} x {size[1]} is assumed")

    def result(self, time: float, prediction: Prediction) -> dict[str, Any]:
        """An update of one person, with its label after smoothing and hysteresis."""
        track = prediction.person
        state = self.states.setdefault(track, Hysteresis(**self.hysteresis))
        state.update(time, prediction.probabilities)
        names = prediction.class_names
        known = {} if state.label is None else {"label": names[state.label], "p": round(float(state.p[state.label]), 4)}
        return {
            "track": track,
            "state": "nothing" if state.label is None else "label",
            **known,
            "top": [[name, round(p, 4)] for name, p in prediction.top(self.top_k)],
            "window": [round(prediction.begin, 3), round(prediction.end, 3)],
            "observed": round(prediction.observed, 3),
            "imputed": prediction.imputed,
        }


def persons_of_array(frame: np.ndarray, is_flat: bool, keeps_zeros: bool = False) -> list[Detection]:
    """Persons of a frame (V, C) or (M, V, C), named by their index; persons without any joint are omitted.

    keeps_zeros: whether joints at 0 stay there instead of being missing.

    Raises:
        ValueError: another shape.
    """
    frame = np.asarray(frame, np.float32)
    frame = frame[None] if frame.ndim == 2 else frame
    if frame.ndim != 3 or frame.shape[2] not in (2, 3):
        raise ValueError(f"expected a frame (V, C) or (M, V, C), got {frame.shape}")
    found = []
    for number, points in enumerate(frame, start=1):
        points = points.copy()
        score = points[:, 2] if is_flat and points.shape[1] == 3 else None
        points = points[:, :2] if score is not None else points
        missing = (points == 0).all(1)
        points[missing & (missing.all() or not keeps_zeros)] = np.nan
        if not np.isnan(points).all():
            found.append(Detection(points, score, str(number)))
    return found
