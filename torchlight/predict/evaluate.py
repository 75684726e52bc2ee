"""Comparison of predicted segments with true ones, over several recordings.

Frame accuracy, edit score and F1@k as in Lea et al., Temporal Convolutional Networks for Action Segmentation and
Detection (CVPR 2017); mean average precision as in ActivityNet (Caba Heilbron et al., CVPR 2015). All values are in
percent; NaN if a value is not defined.

A collection of segments maps the name of a recording to its segments. If a recording is missing in a collection, it has
no segments there. Segments of several persons are evaluated one person at a time: `by_person`.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from torchlight.predict.segments import TINY, Segment
from torchlight.report.safe_text import shorten, to_cell
from torchlight.system.files import read_text
from torchlight.system.text import counted, markdown_table, nearest, printable, quote

Segments = Mapping[str, Sequence[Segment]]

OVERLAPS = (10, 25, 50)  # of F1, percent
THUMOS = (30, 40, 50, 60, 70)  # IoU thresholds of the mean average precision, percent
ACTIVITYNET = (50, 55, 60, 65, 70, 75, 80, 85, 90, 95)
REQUIRED = ("start_s", "end_s", "label")
OPTIONAL = ("recording", "person", "track", "p_mean", "p_max")  # the last ones: of written segments


def read_truth(path: str | Path, class_names: Sequence[str]) -> dict[str, list[Segment]]:
    """True segments from a CSV file with the columns start_s, end_s, label and, if needed, recording and person.

    The recording is "" without that column. Segments written as CSV by `torchlight.predict.output` are accepted: their
    column `track` is the person, the probabilities are not used.

    Raises:
        ValueError: the file is invalid; the message contains the file, the line and the problem.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    found: dict[str, list[Segment]] = {}
    try:
        head = [name.strip() for name in next(reader, [])]
        _check_head(path, head)
        known = {to_cell(str(name)): i for i, name in reversed(list(enumerate(class_names)))}
        known |= {str(name): i for i, name in reversed(list(enumerate(class_names)))}
        for cells in reader:
            if cells:
                where = f"{path}: line {reader.line_num}"
                if len(cells) != len(head):
                    raise ValueError(f"{where}: expected {counted(len(head), 'value')}, got {len(cells)}")
                row = dict(zip(head, cells, strict=True))
                found.setdefault(row.get("recording", "").strip(), []).append(_segment(where, row, known))
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: not a CSV file ({error})") from error
    return found


def _check_head(path: str | Path, head: list[str]) -> None:
    allowed = (*REQUIRED, *OPTIONAL)
    for name in head:
        if name not in allowed:
            raise ValueError(f"{path}: line 1: unknown column {quote(name)}; {printable(nearest(name, allowed))}")
    missing = [name for name in REQUIRED if name not in head]
    if missing:
        raise ValueError(f"{path}: line 1: expected the columns {', '.join(REQUIRED)}, missing: {', '.join(missing)}")
    if len(set(head)) < len(head) or {"person", "track"} <= set(head):
        raise ValueError(f"{path}: line 1: expected each column once, and person or track, got {', '.join(head)}")


def _segment(where: str, row: dict[str, str], known: dict[str, int]) -> Segment:
    limits = []
    for key in ("start_s", "end_s"):
        try:
            limits.append(float(row[key]))
        except ValueError:
            limits.append(math.nan)
        if not math.isfinite(limits[-1]):
            raise ValueError(f"{where}: {key}: expected seconds, got {quote(row[key])}")
    if not 0 <= limits[0] < limits[1]:
        raise ValueError(f"{where}: expected 0 <= start_s < end_s, got {limits[0]:g} and {limits[1]:g}")
    label = row["label"] if row["label"] in known else row["label"].strip()
    if label not in known:
        raise ValueError(f"{where}: label: unknown class {quote(label)}; {printable(nearest(label, known))}")
    person = row.get("person", row.get("track", "")).strip()
    return Segment(*limits, known[label], 1.0, 1.0, person)


def by_person(segments: Segments) -> dict[str, list[Segment]]:
    """The same segments with one entry per recording and person, "recording/person", or "recording" without one."""
    found: dict[str, list[Segment]] = {}
    for recording, items in segments.items():
        for s in items:
            found.setdefault(f"{recording}/{s.person}" if s.person else recording, []).append(s)
    return found


def maximal(segments: Sequence[Segment], background: int | None = None, recording: str = "") -> list[Segment]:
    """Segments in time order as maximal runs of one label, without the background class.

    Raises:
        ValueError: two segments overlap by more than a millisecond.
    """
    runs: list[Segment] = []
    for s in sorted(segments, key=lambda s: (s.start, s.end)):
        if runs and s.start < runs[-1].end - 1e-3:
            raise ValueError(
                f"{printable(recording) or 'segments'}: expected segments that do not overlap, got "
                f"{runs[-1].start:g}-{runs[-1].end:g} s and {s.start:g}-{s.end:g} s; evaluate each person alone"
            )
        if runs and s.label == runs[-1].label and s.start <= runs[-1].end + TINY:
            runs[-1] = _join(runs[-1], s)
        else:
            runs.append(s)
    return [s for s in runs if s.label != background]


def _join(a: Segment, b: Segment) -> Segment:
    long_a, long_b = a.end - a.start, b.end - b.start
    mean = (a.mean * long_a + b.mean * long_b) / (long_a + long_b)
    return replace(a, end=max(a.end, b.end), mean=mean, highest=max(a.highest, b.highest))


def frame_labels(segments: Sequence[Segment], times: np.ndarray) -> np.ndarray:
    """The label (T,) of each frame at `times` (T,), in seconds, increasing; -1 where there is no segment."""
    labels = np.full(len(times), -1)
    for s in segments:
        first, last = np.searchsorted(times, [s.start - TINY, s.end - TINY])
        labels[first:last] = s.label
    return labels


def frame_accuracy(truth: Segments, predicted: Segments, times: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Share of the frames with the correct label: of all frames, and of the frames within true segments. Over all
    recordings of `times` together."""
    true = np.concatenate([np.zeros(0), *(frame_labels(truth.get(name, ()), t) for name, t in times.items())])
    found = np.concatenate([np.zeros(0), *(frame_labels(predicted.get(name, ()), t) for name, t in times.items())])
    equal, action = true == found, true >= 0
    return _percent(equal.sum(), len(equal)), _percent(equal[action].sum(), action.sum())


def _percent(part: float, whole: float) -> float:
    return 100.0 * float(part) / float(whole) if whole else math.nan


def _pairs(truth: Segments, predicted: Segments) -> list[tuple[list[Segment], list[Segment]]]:
    """True and predicted segments of each recording, in time order."""
    names = dict.fromkeys([*truth, *predicted])
    both = [(truth.get(name, ()), predicted.get(name, ())) for name in names]
    return [tuple(sorted(segments, key=lambda s: (s.start, s.end)) for segments in pair) for pair in both]


def distance(a: Sequence[int], b: Sequence[int]) -> int:
    """Levenshtein distance: the minimum number of insertions, deletions and substitutions that convert a to b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def edit_score(truth: Segments, predicted: Segments) -> float:
    """Mean over recordings of 100 (1 - distance / longer sequence) of the labels in time order; 100 if both are
    empty."""
    scores = []
    for true, found in _pairs(truth, predicted):
        longer = max(len(true), len(found))
        wrong = distance([s.label for s in found], [s.label for s in true])
        scores.append(100.0 * (1 - wrong / longer) if longer else 100.0)
    return float(np.mean(scores)) if scores else math.nan


def iou(a: Sequence[Segment], b: Sequence[Segment]) -> np.ndarray:
    """Intersection over union (len(a), len(b)) of segments in time."""
    (start_a, end_a), (start_b, end_b) = (
        np.array([(s.start, s.end) for s in segments]).reshape(-1, 2).T for segments in (a, b)
    )
    common = np.minimum(end_a[:, None], end_b) - np.maximum(start_a[:, None], start_b)
    return np.maximum(common, 0) / (np.maximum(end_a[:, None], end_b) - np.minimum(start_a[:, None], start_b))


def f1(truth: Segments, predicted: Segments, k: float) -> float:
    """F1 score with overlap k (0 to 1).

    In time order, each predicted segment is compared with the true segment of its class with the largest IoU (the
    first of equal ones). It is a true positive if the IoU is at least k and that segment has not been matched; the
    second best is not tried.
    """
    positive = n_true = n_found = 0
    for true, found in _pairs(truth, predicted):
        taken: set[int] = set()
        n_true, n_found = n_true + len(true), n_found + len(found)
        if not true:
            continue
        same = np.array([s.label for s in found])[:, None] == [s.label for s in true]
        for overlaps in np.where(same, iou(found, true), 0.0):
            best = int(overlaps.argmax())
            if overlaps[best] >= k:
                taken.add(best)  # a second segment for the same true one adds nothing: a false positive
        positive += len(taken)
    return _percent(2 * positive, n_true + n_found)


def average_precisions(truth: Segments, predicted: Segments, threshold: float) -> dict[int, float]:
    """Average precision of every class with true segments, at an IoU threshold (0 to 1).

    Predictions of all recordings are processed by descending `mean` (ties: in the order of the recordings and of time).
    Each is matched to the unmatched true segment of its recording and class with the largest IoU of at least the
    threshold.
    """
    hits: dict[int, list[tuple[float, bool]]] = {}
    counts: dict[int, int] = {}
    for true, found in _pairs(truth, predicted):
        for s in true:
            counts[s.label] = counts.get(s.label, 0) + 1
        for label in {s.label for s in found}:
            of_class = [s for s in found if s.label == label]
            overlaps = iou(of_class, [s for s in true if s.label == label])
            hits.setdefault(label, []).extend(_match(of_class, overlaps, threshold))
    return {label: _precision_area(hits.get(label, []), n) for label, n in sorted(counts.items())}


def _match(found: list[Segment], overlaps: np.ndarray, threshold: float) -> list[tuple[float, bool]]:
    """Score and success of the predictions of one recording and class, in time order."""
    free, success = overlaps.copy(), [False] * len(found)
    for i in sorted(range(len(found)), key=lambda i: -found[i].mean):
        if free.shape[1]:
            j = free[i].argmax()
            if free[i, j] >= threshold:
                success[i], free[:, j] = True, -1.0
    return [(s.mean, hit) for s, hit in zip(found, success, strict=True)]


def _precision_area(hits: list[tuple[float, bool]], n_true: int) -> float:
    """Area under the precision, made monotone from the right, over the recall."""
    success = np.array([hit for _, hit in sorted(hits, key=lambda hit: -hit[0])], bool)
    precision = success.cumsum() / np.arange(1, len(success) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return _percent(precision[success].sum(), n_true)


def mean_ap(truth: Segments, predicted: Segments, threshold: float) -> float:
    """Mean of `average_precisions` over the classes with true segments."""
    values = average_precisions(truth, predicted, threshold)
    return sum(values.values()) / len(values) if values else math.nan


def evaluate(
    truth: Segments, predicted: Segments, times: Mapping[str, np.ndarray], background: int | None = None
) -> dict[str, Any]:
    """All metrics by name, in percent, with the numbers of recordings, frames and segments.

    Args:
        times: (T,) times of the frames of every recording that was predicted, in seconds, increasing.
        background: a class that counts as no segment.

    Raises:
        ValueError: a recording of `truth` is missing in `times`, or segments of a recording overlap.
    """
    assert set(predicted) <= set(times)
    for name in truth:
        if name not in times:
            raise ValueError(f"recording: {quote(name)} was not predicted; {printable(nearest(name, times))}")
    truth, predicted = (
        {name: maximal(segments.get(name, ()), background, name) for name in times} for segments in (truth, predicted)
    )
    accuracy, without_background = frame_accuracy(truth, predicted, times)
    figures: dict[str, Any] = {
        "recordings": len(times),
        "frames": sum(len(t) for t in times.values()),
        "true segments": sum(map(len, truth.values())),
        "predicted segments": sum(map(len, predicted.values())),
        "frame accuracy": accuracy,
        "frame accuracy without background": without_background,
        "edit score": edit_score(truth, predicted),
    }
    figures |= {f"F1@{k}": f1(truth, predicted, k / 100) for k in OVERLAPS}
    maps = {k: mean_ap(truth, predicted, k / 100) for k in sorted({*THUMOS, *ACTIVITYNET})}
    figures |= {f"mAP@{k / 100:g}": maps[k] for k in THUMOS}
    figures["mAP@0.3:0.7"] = float(np.mean([maps[k] for k in THUMOS]))
    figures["mAP@0.5:0.95"] = float(np.mean([maps[k] for k in ACTIVITYNET]))
    return figures


def table(figures: Mapping[str, Any]) -> str:
    """Metrics of `evaluate` as a table; "-" if one is not defined."""
    return markdown_table(["figure", "value"], ([name, _cell(value)] for name, value in figures.items()))


def class_table(
    truth: Segments,
    predicted: Segments,
    class_names: Sequence[str],
    background: int | None = None,
    threshold: float = 0.5,
) -> str:
    """Numbers of segments and average precision at an IoU threshold, of every class that occurs, as a table.

    Raises:
        ValueError: segments of a recording overlap.
    """
    truth, predicted = (
        {name: maximal(items, background, name) for name, items in segments.items()} for segments in (truth, predicted)
    )
    counts = [Counter(s.label for items in segments.values() for s in items) for segments in (truth, predicted)]
    ap = average_precisions(truth, predicted, threshold)
    rows = (
        [shorten(str(class_names[i]), 40).replace("|", "\\|"), *(n[i] for n in counts), _cell(ap.get(i, math.nan))]
        for i in sorted(counts[0] | counts[1])
    )
    return markdown_table(["class", "true", "predicted", f"AP@{threshold:g}"], rows)


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.2f}"
