"""Long recordings with known segments, made of clips and idle parts, and what `find_segments` finds in them."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.poses.recording import Facts, Recording
from torchlight.predict import Recognizer, Settings
from torchlight.predict.evaluate import evaluate, f1, frame_labels
from torchlight.predict.segments import Segment, find_segments, spread

RATE = 30.0  # frames per second of NW-UCLA
STRIDE = 0.3  # seconds between two windows
SHORTEST = 0.5  # seconds of a segment, the default of the command
IDLE = (30, 60)  # frames between two clips
CROSSING = 9  # frames at the end of an idle part, in which the body moves to the first pose of the next clip
WINDOWS = (1.0, 2.0)  # in lengths of the median training clip
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SWITCH_COSTS = (0.02, 0.05, 0.1, 0.2, 0.4)
DEFAULTS = (0.5, 0.05)  # threshold and switch cost of the command
NamedClip = tuple[str, int, np.ndarray]  # name, label, frames (T, V, 3)


@dataclass
class Long:
    """A long recording: frames (T, V, 3), true segments, and the times of the frames."""

    frames: np.ndarray
    truth: list[Segment]
    times: np.ndarray


@dataclass(frozen=True)
class Windows:
    """Windows of `share` times `window` seconds. zeros: pad them with zeros to `window`, as in programs that need a
    fixed number of frames."""

    window: float
    share: float = 1.0
    zeros: bool = False


def long_recordings(clips: list[NamedClip], performers: list[str]) -> dict[str, Long]:
    """The clips of each performer and view, joined in random order with idle parts between them."""
    groups: dict[str, list[tuple[int, np.ndarray]]] = {}
    for name, label, x in clips:
        if performer(name) in performers:
            groups.setdefault(f"{performer(name)}_{name[12:15]}", []).append((label, x))
    draw = np.random.default_rng(0)
    return {name: join([group[i] for i in draw.permutation(len(group))], draw) for name, group in groups.items()}


def performer(name: str) -> str:
    """a01_s02_e00_v03 -> s02"""
    return name[4:7]


def join(clips: list[tuple[int, np.ndarray]], draw: np.random.Generator) -> Long:
    """Clips (label, frames) with idle parts between them, which repeat the last pose with the noise of its clip.

    Each clip is moved along the floor, so that the body continues where the previous clip ended.
    """
    parts: list[np.ndarray] = []
    truth, count = [], 0
    for label, x in clips:
        if parts:
            x = x + (parts[-1][-1, 0] - x[0, 0]) * np.array([1, 0, 1], np.float32)
            length = int(draw.integers(IDLE[0], IDLE[1], endpoint=True))
            noise = noise_of(parts[-1]) * draw.normal(size=(length, *x.shape[1:]))
            share = np.clip((np.arange(length) - length + CROSSING + 1) / (CROSSING + 1), 0, 1)[:, None, None]
            parts.append((parts[-1][-1] * (1 - share) + x[0] * share + noise).astype(np.float32))
            count += length
        truth.append(Segment(count / RATE, (count + len(x)) / RATE, label, 1.0, 1.0))
        parts.append(x)
        count += len(x)
    return Long(np.concatenate(parts), truth, np.arange(count) / RATE)


def noise_of(x: np.ndarray) -> np.ndarray:
    """Standard deviation of white noise (V, 3) in a clip (T, V, 3), from the median of its second differences."""
    if len(x) < 3:
        return np.zeros(x.shape[1:])
    return np.median(abs(np.diff(x, 2, axis=0)), 0) * 1.4826 / 6**0.5


def curves(recognizer: Recognizer, recordings: dict[str, Long], windows: Windows) -> dict[str, np.ndarray]:
    """{recording: probabilities (T, K)}."""
    stream, found = recognizer.streams[0], {}
    settings = Settings(window=windows.window * windows.share, stride=STRIDE)
    for name, long in recordings.items():
        facts = Facts("benchmark", stream.recipe.body.layout, axes="kinect", units="m", rate=RATE)
        recording = Recording(long.frames[None], None, ("1",), np.arange(len(long.frames)), facts)
        clips = recognizer.clips(stream, recording, settings)
        for clip in clips if windows.zeros else ():
            missing = max(0, round(windows.window * RATE) - clip.prepared.frames.shape[1])
            clip.prepared.frames = np.pad(clip.prepared.frames, ((0, 0), (0, missing), (0, 0), (0, 0)))
        predictions = recognizer.predict_clips([clips])
        begins, ends = (np.array([getattr(p, key) for p in predictions]) for key in ("begin", "end"))
        found[name] = spread(begins, ends, np.stack([p.probabilities for p in predictions]), long.times)
    return found


def labeled(
    recordings: dict[str, Long], found: dict[str, np.ndarray], options: tuple[float, float]
) -> dict[str, list[Segment]]:
    """The segments of each recording, for a threshold and a switch cost."""
    return {name: find_segments(found[name], long.times, *options, SHORTEST) for name, long in recordings.items()}


def best_options(recordings: dict[str, Long], found: dict[str, np.ndarray]) -> tuple[float, tuple[float, float]]:
    """The largest F1@50, and the threshold and switch cost that reach it."""
    truth = {name: long.truth for name, long in recordings.items()}
    grid = itertools.product(THRESHOLDS, SWITCH_COSTS)
    return max((f1(truth, labeled(recordings, found, options), 0.5), options) for options in grid)


def figures_of(
    title: str, test: dict[str, Long], found: dict[str, np.ndarray], windows: Windows, options: tuple[float, float]
) -> dict[str, Any]:
    """One row: figures of the segments, the share of idle frames without a label, and mean highest probabilities."""
    predicted = labeled(test, found, options)
    truth, times = {n: long.truth for n, long in test.items()}, {n: long.times for n, long in test.items()}
    true = np.concatenate([frame_labels(truth[n], times[n]) for n in test])
    shown = np.concatenate([frame_labels(predicted[n], times[n]) for n in test])
    highest = np.concatenate([found[n].max(1) for n in test])
    row = {"windows": title, "window": windows.window * windows.share, "threshold": options[0]}
    row |= {"switch_cost": options[1], "figures": evaluate(truth, predicted, times)}
    row |= {"idle": 100 * float((shown[true < 0] < 0).mean())}
    row |= {"probability of idle": float(np.nanmean(highest[true < 0]))}
    row |= {"probability of actions": float(np.nanmean(highest[true >= 0]))}
    print(f"{title}: F1@50 {row['figures']['F1@50']:.1f}", flush=True)
    return row


def measure(recognizer: Recognizer, train: list[NamedClip], test: list[NamedClip], performers: int) -> dict[str, Any]:
    """Figures on the test clips of the first performers; window, threshold and switch cost are chosen on the training
    clips of every fifth of them."""
    everyone = sorted({performer(name) for name, _, _ in test})[:performers]
    training, recordings = long_recordings(train, everyone[::5]), long_recordings(test, everyone)
    median = float(np.median([len(x) for _, _, x in train])) / RATE
    tried = {}
    for window in [factor * median for factor in WINDOWS]:
        tried[window] = best_options(training, curves(recognizer, training, Windows(window)))
        print(f"window {window:.2f} s: F1@50 {tried[window][0]:.1f} on training clips", flush=True)
    window = max(tried, key=lambda w: tried[w][0])
    found = curves(recognizer, recordings, Windows(median))
    rows = [figures_of("default options", recordings, found, Windows(median), DEFAULTS)]
    found = found if window == median else curves(recognizer, recordings, Windows(window))
    rows.append(figures_of("chosen options", recordings, found, Windows(window), tried[window][1]))
    for title, zeros in (("a quarter of the window", False), ("a quarter of the window, padded with zeros", True)):
        windows = Windows(window, 0.25, zeros)
        options = best_options(training, curves(recognizer, training, windows))[1]
        rows.append(figures_of(title, recordings, curves(recognizer, recordings, windows), windows, options))
    clips = [s for long in recordings.values() for s in long.truth]
    result = {"tuned_on": everyone[::5], "performers": everyone, "median": median, "stride": STRIDE}
    result |= {"seconds": sum(len(long.times) for long in recordings.values()) / RATE, "clips": len(clips)}
    result |= {"short": sum(s.end - s.start < SHORTEST for s in clips), "rows": rows}
    return result | {"tried": [{"window": w, "F1@50": score, "options": best} for w, (score, best) in tried.items()]}
