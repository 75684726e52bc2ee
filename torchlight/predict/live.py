"""The live loop: it passes poses to a stream and writes the resulting labels as JSON lines. It does not depend on a
specific network.

run(follow(estimate(camera, estimator), estimator.facts), stream, sys.stdout)
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import IO, Any, Protocol

import numpy as np

from data.poses.recording import Detection
from data.poses.video import Moment
from torchlight.predict.prediction import SCENE

KEPT = 10_000  # number of latest measurements for the percentiles
COMPUTED = ("label", "nothing")  # states for which a network ran
STAGES = ("capture_to_pose", "pose_to_label", "end_to_end")


class Stream(Protocol):
    """Converts the persons at successive times to labels."""

    def push(self, time: float, persons: list[Detection]) -> list[dict[str, Any]]:
        """The current results as values for JSON: state, track, label, p and others. Every person has an id. The list
        is empty if nothing was computed."""
        ...


class Display(Protocol):
    """Shows or records images with persons and their labels."""

    def show(self, moment: Moment, labels: dict[str, dict[str, Any]]) -> None: ...

    def close(self) -> None: ...


class Timing:
    """Latencies in seconds, and counts."""

    def __init__(self, now: float):
        self.start = self.last = now
        self.frames = self.updates = 0
        self.latency: dict[str, deque[float]] = {stage: deque(maxlen=KEPT) for stage in STAGES}

    def summary(self, dropped: int) -> dict[str, Any]:
        """Counts, rates per second, the share of dropped frames, and {stage: [p50, p95]} in milliseconds."""
        seconds = max(self.last - self.start, 1e-9)
        result: dict[str, Any] = {
            "seconds": round(seconds, 3),
            "frames": self.frames,
            "updates": self.updates,
            "frames_per_s": round(self.frames / seconds, 2),
            "updates_per_s": round(self.updates / seconds, 2),
            "dropped": dropped,
            "dropped_share": round(dropped / max(self.frames + dropped, 1), 4),
        }
        for stage, values in self.latency.items():
            if values:
                result[f"{stage}_ms"] = [round(float(x) * 1000, 1) for x in np.percentile(values, (50, 95))]
        return result


def sentence(summary: dict[str, Any], delay: float | None = None) -> str:
    """A summary of `Timing` as one readable line. delay: seconds that window and smoothing add on any computer."""
    parts = [f"{summary['frames']} frames in {summary['seconds']:.1f} s"]
    parts.append(f"{summary['frames_per_s']:.1f} frames/s, {summary['updates_per_s']:.1f} updates/s")
    parts.append(f"dropped {summary['dropped']} ({summary['dropped_share']:.1%})")
    for stage in STAGES:
        if (values := summary.get(f"{stage}_ms")) is not None:
            parts.append(f"{stage.replace('_', ' ')} p50 {values[0]:.0f} p95 {values[1]:.0f} ms")
    if delay is not None:
        parts.append(f"delay of window and smoothing {delay:.1f} s")
    return "; ".join(parts)


def run(
    moments: Iterable[Moment],
    stream: Stream,
    out: IO[str],
    header: dict[str, Any] | None = None,
    display: Display | None = None,
    dropped: Callable[[], int] = lambda: 0,
    delay: float | None = None,
    report_seconds: float = 5.0,
    log: IO[str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Write one JSON line per update of the stream until the moments end or Ctrl-C is pressed; returns the summary.

    Every line is flushed. It contains t (seconds), frame and latency_ms in addition to the result of the stream.
    header: the first line. dropped: number of frames that the camera dropped. delay: see `sentence`. The log (stderr)
    gets a line every `report_seconds` and at the end.
    """
    log = log or sys.stderr
    timing = Timing(clock())
    reported = timing.start
    try:
        if header is not None:
            write(out, header)
        labels: dict[str, dict[str, Any]] = {}
        for moment in moments:
            step(moment, stream, out, display, labels, timing, clock)
            if timing.last - reported >= report_seconds:
                reported = timing.last
                print(sentence(timing.summary(dropped()), delay), file=log, flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        if display is not None:
            display.close()
        summary = timing.summary(dropped())
        print(sentence(summary, delay), file=log, flush=True)
    return summary


def step(
    moment: Moment,
    stream: Stream,
    out: IO[str],
    display: Display | None,
    labels: dict[str, dict[str, Any]],
    timing: Timing,
    clock: Callable[[], float],
) -> None:
    """Process one moment. labels: the last update of each visible person, by id; it is updated here."""
    posed = clock()
    arrived = posed if moment.arrived is None else moment.arrived
    updates = stream.push(moment.time, moment.persons)
    labeled = clock()
    place = {"t": round(moment.time, 3), "frame": moment.number}
    for update in updates:
        write(out, place | update | {"latency_ms": round((labeled - arrived) * 1000, 1)})
    timing.last = clock()
    timing.frames += 1
    timing.updates += len(updates)
    timing.latency["capture_to_pose"].append(posed - arrived)
    if any(update.get("state") in COMPUTED for update in updates):
        timing.latency["pose_to_label"].append(labeled - posed)
        timing.latency["end_to_end"].append(timing.last - arrived)
    if display is not None:
        seen = {person.track for person in moment.persons}
        labels |= {str(update["track"]): update for update in updates if "track" in update}
        lost = {track for track, update in labels.items() if update.get("state") == "lost"}
        for gone in (labels.keys() - seen - {SCENE}) | lost:
            del labels[gone]
        display.show(moment, labels)


def write(out: IO[str], record: dict[str, Any]) -> None:
    """Write one JSON line and flush it, so that a reading program gets it immediately."""
    out.write(json.dumps(record, allow_nan=False) + "\n")
    out.flush()
