"""Segments of a recording from probabilities over time.

`find_segments` processes a whole recording; `Hysteresis` processes one result at a time, for live use. All times are in
seconds; segments and frames are half-open, [start, end).
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FLOOR = 1e-6  # lower bound of a probability in the logarithm, so that a single frame does not exclude a class
BORDER = 0.1  # weight of a window at its borders; it is 1 in the center
MAX_GAP = 0.3  # seconds between two frames; a longer gap ends a segment
TINY = 1e-9  # seconds, rounding errors of times


@dataclass(frozen=True)
class Segment:
    """One label from `start` to `end` (seconds, half-open); `mean` and `highest` probability of the label."""

    start: float
    end: float
    label: int
    mean: float
    highest: float
    person: str = ""


def spread(begin: np.ndarray, end: np.ndarray, scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Convert probabilities of windows to probabilities of frames.

    The probabilities of a frame are the mean over all windows that cover it, begin <= time <= end, with triangular
    weights: 1 in the center of a window, `BORDER` at its borders.

    Args:
        begin, end: (n,) seconds.
        scores: (n, K) probabilities.
        times: (T,) seconds, increasing.

    Returns:
        (T, K); NaN rows where no window covers the frame.
    """
    begin, end, times, scores = (np.asarray(x, np.float64) for x in (begin, end, times, scores))
    assert len(begin) == len(end) == len(scores) and (begin <= end).all() and (np.diff(times) > 0).all()
    first = np.searchsorted(times, begin - TINY, "left")
    last = np.searchsorted(times, end + TINY, "right")
    total, weights = np.zeros((len(times), scores.shape[1])), np.zeros(len(times))
    for i, (a, b) in enumerate(zip(first, last, strict=True)):
        center, half = (begin[i] + end[i]) / 2, max((end[i] - begin[i]) / 2, TINY)
        weight = 1 - (1 - BORDER) * np.minimum(np.abs(times[a:b] - center) / half, 1)
        total[a:b] += weight[:, None] * scores[i]
        weights[a:b] += weight
    total[weights == 0] = np.nan
    return np.divide(total, weights[:, None], out=total, where=weights[:, None] > 0)


def smooth(p: np.ndarray, times: np.ndarray, tau: float) -> np.ndarray:
    """Exponential smoothing by time, which uses past frames only.

    s_t = a p_t + (1 - a) s_(t-1) with a = 1 - exp(-(time since the last known frame) / tau). Rows of NaN stay NaN.

    Args:
        p: (T, K) probabilities.
        times: (T,) seconds, increasing.
        tau: seconds; 0 changes nothing.
    """
    result = np.array(p, np.float64)
    last = None
    for t in np.flatnonzero(~np.isnan(result).any(1)):
        if last is not None:
            keep = _keep(times[t] - times[last], tau)
            result[t] += keep * (result[last] - result[t])
        last = t
    return result


def _keep(dt: float, tau: float) -> float:
    """The weight of the past after `dt` seconds."""
    return math.exp(-dt / tau) if tau > 0 else 0.0


def viterbi(p: np.ndarray, switch_cost: float) -> np.ndarray:
    """The labels (T,) with the largest sum of log p minus `switch_cost` (nats) for every change of the label.

    Args:
        p: (T, K) probabilities, at least `FLOOR` each; rows of NaN do not affect the label.

    Source: Viterbi 1967, for transitions that all cost the same: O(T K).
    """
    T, K = p.shape
    if T == 0:
        return np.zeros(0, np.int64)
    gain = np.nan_to_num(np.log(np.maximum(p, FLOOR, dtype=np.float64)))
    changed, origin = np.zeros((T, K), bool), np.zeros(T, np.int64)
    score = gain[0].copy()
    for t in range(1, T):
        origin[t] = k = score.argmax()
        after_change = score[k] - switch_cost
        np.less(score, after_change, out=changed[t])
        np.maximum(score, after_change, out=score)
        score += gain[t]
    labels = np.empty(T, np.int64)
    labels[-1] = label = score.argmax()
    for t in range(T - 1, 0, -1):
        if changed[t, label]:
            label = origin[t]
        labels[t - 1] = label
    return labels


def find_segments(
    p: np.ndarray,
    times: np.ndarray,
    threshold: float,
    switch_cost: float,
    shortest: float,
    background: int | None = None,
    person: str = "",
) -> list[Segment]:
    """Segments of one person from the probabilities of all frames.

    The labels of the frames come from `viterbi` with an additional state, "nothing". Its probability is `threshold`, or
    the probability of the background class if that is larger. The mean probability of a segment is therefore at least
    `threshold`. Then the shortest segment is merged into the neighbor with the larger mean, which may be "nothing",
    until no segment is shorter than `shortest`. A shorter segment without neighbors is removed, and so is every segment
    whose mean is below `threshold` after merging.

    A row of NaN or a gap of more than `MAX_GAP` seconds and 2.5 frames ends a segment. The last frame of a segment has
    the length of the median step, but ends at the next frame at the latest; the step needs two frames.

    Args:
        p: (T, K) probabilities, or rows of NaN.
        times: (T,) seconds, increasing.
        threshold: 0 to 1.
        switch_cost: nat seconds. A label replaces another one for some time if the integral of log(p / p_other) over
            this time in seconds is more than twice `switch_cost`. It does not depend on the frame rate.
        shortest: seconds.
        background: the class without an action.
    """
    p, times = np.array(p, np.float64), np.asarray(times, np.float64)
    assert p.ndim == 2 and times.shape == p.shape[:1] and (np.diff(times) > 0).all()
    if len(times) < 2:
        return []
    step = float(np.median(np.diff(times)))
    ends = np.minimum(times + step, np.append(times[1:], np.inf))
    nothing = np.full(len(p), float(threshold))
    if background is not None:
        nothing, p[:, background] = np.maximum(nothing, p[:, background]), 0
    p = np.column_stack([p, nothing])
    found = []
    for begin, end in _stretches(p, times, max(MAX_GAP, 2.5 * step)):
        q, borders = p[begin:end], np.append(times[begin:end], ends[end - 1])
        first, labels = _merge(*_runs(viterbi(q, switch_cost / step)), q, borders, shortest)
        for a, b, label in zip(first, first[1:], labels, strict=False):
            values = q[a:b, label]
            long_enough = borders[b] - borders[a] >= shortest - TINY
            if label != p.shape[1] - 1 and long_enough and values.mean() >= threshold - TINY:
                mean, highest = float(values.mean()), float(values.max())
                found.append(Segment(float(borders[a]), float(borders[b]), int(label), mean, highest, person))
    return found


def _stretches(p: np.ndarray, times: np.ndarray, gap: float) -> Iterator[tuple[int, int]]:
    """First and last + 1 of all maximal ranges of frames without NaN and without a longer gap."""
    known = ~np.isnan(p).any(1)
    cuts = 1 + np.flatnonzero((known[1:] != known[:-1]) | (np.diff(times) > gap + TINY))
    borders = [0, *cuts.tolist(), len(times)]
    return ((a, b) for a, b in zip(borders, borders[1:], strict=False) if known[a])


def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximal runs of one label: their first frames with the number of frames at the end (R + 1,), and labels (R,)."""
    first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    return np.append(first, len(labels)), labels[first]


def _merge(
    first: np.ndarray, labels: np.ndarray, p: np.ndarray, borders: np.ndarray, shortest: float
) -> tuple[np.ndarray, np.ndarray]:
    """The runs after the short ones are merged, the shortest first; ties: the earlier run, the earlier neighbor."""
    while len(labels) > 1:
        lengths = np.diff(borders[first])
        i = int(lengths.argmin())
        if lengths[i] >= shortest - TINY:
            break
        beside = [j for j in (i - 1, i + 1) if 0 <= j < len(labels)]
        stronger = max(beside, key=lambda j: p[first[j] : first[j + 1], labels[j]].mean())
        labels[i] = labels[stronger]
        keep = np.append(True, labels[1:] != labels[:-1])
        first, labels = first[np.append(keep, True)], labels[keep]
    return first, labels


class Hysteresis:
    """Labels of one person in a running recording, updated with each result.

    Probabilities are smoothed by time as in `smooth`. A label starts when its smoothed probability is the largest and
    at least `on` in `updates` consecutive results. It ends when in `updates` consecutive results its probability is
    below `off`, or another class, background included, leads by `lead`; the other class starts at the same time if it
    meets the condition for starting. Start and end of a segment are the times of the first of these results. A
    segment shorter than `shortest` is not reported.

    After an update, `label` is the current label or None, and `p` (K,) are the smoothed probabilities.

    >>> live = Hysteresis(tau=0, shortest=0)
    >>> for time, wave in [(0, 0.9), (1, 0.9), (2, 0.8), (3, 0.1)]:
    ...     assert live.update(time, [wave, 0.1]) is None
    >>> live.label
    0
    >>> segment = live.update(4, [0.1, 0.1])
    >>> segment.start, segment.end, segment.label, live.label
    (0.0, 3.0, 0, None)

    Args:
        on, off, lead: probabilities.
        updates: number of results.
        tau, shortest: seconds.
        background: the class without an action; it never starts.
        person: the name in the segments.
    """

    def __init__(
        self,
        on: float = 0.5,
        off: float = 0.3,
        updates: int = 2,
        lead: float = 0.1,
        tau: float = 0.5,
        shortest: float = 0.5,
        background: int | None = None,
        person: str = "",
    ):
        assert updates >= 1 and off <= on
        self.on, self.off, self.updates, self.lead = on, off, updates, lead
        self.tau, self.shortest, self.background, self.person = tau, shortest, background, person
        self.label: int | None = None
        self.p: np.ndarray | None = None
        self._time = -math.inf
        self._candidate: int | None = None
        self._rising: deque[tuple[float, float]] = deque(maxlen=updates)  # time and p of the candidate
        self._falling: list[tuple[float, float]] = []  # time and p of the label
        self._start = self._total = self._highest = 0.0
        self._count = 0

    def update(self, time: float, p: np.ndarray) -> Segment | None:
        """Add the probabilities p (K,) at `time`, later than before; returns the segment that ended, if one did."""
        assert time > self._time
        p = np.array(p, np.float64)
        self.p = p if self.p is None else p + _keep(time - self._time, self.tau) * (self.p - p)
        self._time = float(time)
        best = int(self.p.argmax())
        self._follow_candidate(best)
        ended = None
        if self.label is not None:
            own = float(self.p[self.label])
            if own < self.off or (best != self.label and self.p[best] - own >= self.lead):
                self._falling.append((self._time, own))
            else:
                self._include([p for _, p in self._falling] + [own])
                self._falling.clear()
            if len(self._falling) >= self.updates:
                ended = self._end(self._falling[0][0])
        if self.label is None and len(self._rising) >= self.updates:
            self.label, self._start = self._candidate, self._rising[0][0]
            self._include([p for _, p in self._rising])
        return ended

    def close(self, time: float) -> Segment | None:
        """End the current label at `time`, because the recording or the track ended; returns its segment, if any."""
        self._include([p for _, p in self._falling])
        ended = self._end(time) if self.label is not None else None
        self.p, self._time = None, -math.inf
        self._rising.clear()
        return ended

    def _follow_candidate(self, best: int) -> None:
        """Count the consecutive results in which a class that is not the label may start."""
        may_start = best not in (self.label, self.background) and self.p[best] >= self.on
        if not may_start or best != self._candidate:
            self._rising.clear()
        self._candidate = best
        if may_start:
            self._rising.append((self._time, float(self.p[best])))

    def _include(self, values: list[float]) -> None:
        """Add probabilities to the mean and the maximum of the current segment."""
        self._total += sum(values)
        self._count += len(values)
        self._highest = max([self._highest, *values])

    def _end(self, time: float) -> Segment | None:
        mean = self._total / max(self._count, 1)
        segment = Segment(self._start, float(time), self.label, mean, self._highest, self.person)
        self.label, self._total, self._highest, self._count = None, 0.0, 0.0, 0
        self._falling.clear()
        return segment if segment.end - segment.start >= self.shortest - TINY else None
