"""Figures of segments: by hand in small cases, against literal implementations in random ones."""

import math
from functools import cache

import numpy as np
import pytest

from torchlight.predict.evaluate import (
    average_precisions,
    by_person,
    class_table,
    distance,
    edit_score,
    evaluate,
    f1,
    frame_accuracy,
    frame_labels,
    iou,
    maximal,
    mean_ap,
    read_truth,
    table,
)
from torchlight.predict.output import write_segments
from torchlight.predict.segments import Segment

NAMES = ["wave", "clap", "sit down", "=1+1"]


def seg(start: float, end: float, label: int = 0, mean: float = 1.0, person: str = "") -> Segment:
    return Segment(start, end, label, mean, mean, person)


def overlap(a: Segment, b: Segment) -> float:
    """IoU as it is defined."""
    return max(0, min(a.end, b.end) - max(a.start, b.start)) / (max(a.end, b.end) - min(a.start, b.start))


def random_segments(rng, recordings: int = 3, apart: bool = False) -> dict[str, list[Segment]]:
    """Segments on a coarse grid, so that ties and duplicates occur; `apart`: without overlaps."""
    found = {}
    for r in range(recordings):
        starts = rng.integers(0, 12, rng.integers(0, 7))
        items = [seg(a, a + rng.integers(1, 4), int(rng.integers(3)), rng.integers(1, 5) / 4) for a in starts]
        if apart:
            borders = np.sort(rng.choice(15, 2 * (len(items) // 2), replace=False)).reshape(-1, 2)
            items = [seg(*b, s.label, s.mean) for b, s in zip(borders.tolist(), items, strict=False)]
        found[f"r{r}"] = items
    return found


def literal_f1(truth, predicted, k):
    tp = fp = fn = 0
    for name in sorted({*truth, *predicted}):
        true = sorted(truth.get(name, []), key=lambda s: (s.start, s.end))
        taken = [False] * len(true)
        for s in sorted(predicted.get(name, []), key=lambda s: (s.start, s.end)):
            best, best_overlap = None, 0.0
            for j, t in enumerate(true):
                if t.label == s.label and overlap(s, t) > best_overlap:
                    best, best_overlap = j, overlap(s, t)
            if best is not None and best_overlap >= k and not taken[best]:
                taken[best] = True
                tp += 1
            else:
                fp += 1
        fn += taken.count(False)
    if tp + fp + fn == 0:
        return math.nan
    precision, recall = (tp / n if n else 0.0 for n in (tp + fp, tp + fn))
    return 100 * 2 * precision * recall / (precision + recall) if tp else 0.0


def literal_ap(truth, predicted, theta):
    result = {}
    for label in sorted({s.label for items in truth.values() for s in items}):
        positives = {n: [s for s in items if s.label == label] for n, items in truth.items()}
        ranked = []
        for name in dict.fromkeys([*truth, *predicted]):
            in_time = sorted(predicted.get(name, []), key=lambda s: (s.start, s.end))
            ranked += [(name, s) for s in in_time if s.label == label]
        ranked.sort(key=lambda item: -item[1].mean)
        taken, tp, points = set(), 0, []
        n = sum(map(len, positives.values()))
        for rank, (name, s) in enumerate(ranked, 1):
            in_time = sorted(positives.get(name, []), key=lambda s: (s.start, s.end))
            free = [(overlap(s, t), -j) for j, t in enumerate(in_time) if (name, j) not in taken]
            free = [item for item in free if item[0] >= theta]
            if free:
                tp += 1
                taken.add((name, -max(free)[1]))
            points.append((tp / n, tp / rank))
        area = recall_before = 0.0
        for i, (recall, _) in enumerate(points):
            area += (recall - recall_before) * max(precision for _, precision in points[i:])
            recall_before = recall
        result[label] = 100 * area
    return result


def literal_distance(a, b):
    @cache
    def d(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


def test_overlaps_by_hand():
    a = [seg(0, 4), seg(4, 8)]
    np.testing.assert_allclose(iou(a, [seg(2, 6), seg(0, 4), seg(9, 10)]), [[1 / 3, 1, 0], [1 / 3, 0, 0]])
    assert iou([], a).shape == (0, 2) and iou(a, []).shape == (2, 0)


def test_frame_accuracy_counts_frames_of_all_recordings_together():
    times = {"a": np.arange(10.0), "b": np.arange(2.0)}
    truth = {"a": [seg(2, 6, 0), seg(6, 8, 1)], "b": []}
    predicted = {"a": [seg(3, 7, 0), seg(7, 10, 1)], "b": [seg(1, 2, 2)]}
    assert frame_labels(truth["a"], times["a"]).tolist() == [-1, -1, 0, 0, 0, 0, 1, 1, -1, -1]
    assert frame_accuracy(truth, predicted, times) == pytest.approx((100 * 7 / 12, 100 * 4 / 6))
    accuracy, without_background = frame_accuracy({}, {}, times)
    assert accuracy == 100 and math.isnan(without_background)
    assert all(math.isnan(value) for value in frame_accuracy({}, {}, {}))


def test_edit_score_by_hand():
    truth = {"a": [seg(0, 1, 0), seg(1, 2, 1), seg(2, 3, 2)]}
    assert edit_score(truth, {"a": [seg(0, 2, 0), seg(2, 9, 2)]}) == pytest.approx(100 * (1 - 1 / 3))
    assert edit_score(truth, {"a": truth["a"] + [seg(3, 4, 0), seg(4, 5, 0)]}) == pytest.approx(100 * (1 - 2 / 5))
    assert edit_score(truth, {}) == 0 and edit_score({}, truth) == 0
    assert edit_score({"a": []}, {"a": []}) == 100
    assert edit_score(truth | {"b": []}, {"a": truth["a"]}) == 100, "both empty count as equal"
    assert edit_score(truth | {"b": []}, {"b": truth["a"]}) == 0
    assert math.isnan(edit_score({}, {}))


def test_f1_only_counts_the_best_true_segment():
    truth = {"a": [seg(0, 4, 0), seg(4, 8, 0)]}
    twice = {"a": [seg(0, 4, 0), seg(0.5, 4.5, 0)]}
    assert f1(truth, twice, 0.1) == 50, "the second best is not tried: one TP, one FP, one FN"
    assert f1(truth, {"a": [seg(2, 6, 0)]}, 0.25) == pytest.approx(100 * 2 / 3), "of two equal ones the first"
    assert f1(truth, {"a": [seg(2, 6, 0), seg(4, 8, 0)]}, 0.25) == 100
    assert f1(truth, {"a": [seg(0, 2, 0)]}, 0.5) == pytest.approx(100 * 2 / 3), "an IoU of 0.5 reaches 0.5"
    assert f1(truth, {"a": [seg(0, 4, 1), seg(4, 8, 1)]}, 0.1) == 0
    assert f1(truth, {}, 0.1) == 0 and f1({}, truth, 0.1) == 0 and math.isnan(f1({"a": []}, {}, 0.1))
    assert f1({"a": [seg(0, 4)]}, {"b": [seg(0, 4)]}, 0.1) == 0, "another recording"


def test_average_precision_by_hand():
    truth = {"a": [seg(0, 4, 0), seg(4, 8, 0)], "b": [seg(0, 4, 0), seg(5, 6, 1)]}
    predicted = {"a": [seg(0, 4, 0, 0.9), seg(0, 4, 0, 0.8), seg(4, 8, 0, 0.7)], "b": [seg(8, 9, 2, 1.0)]}
    # hits 1, 0, 1: precision 1, 1/2, 2/3, monotone 1, 2/3, 2/3; recall 1/3, 1/3, 2/3
    assert average_precisions(truth, predicted, 0.5) == pytest.approx({0: 100 * (1 + 2 / 3) / 3, 1: 0.0})
    assert mean_ap(truth, predicted, 0.5) == pytest.approx(100 * (1 + 2 / 3) / 6), "class 2 has no true segments"
    next_best = {"a": [seg(0, 4, 0, 0.9), seg(1, 5, 0, 0.8)]}
    two = {"a": [seg(0, 4, 0), seg(3, 6, 0)]}
    assert average_precisions(two, next_best, 0.3) == {0: 100.0}, "the best one is taken, the second best is not"
    assert mean_ap(truth, {}, 0.5) == 0 and math.isnan(mean_ap({}, predicted, 0.5))


@pytest.mark.parametrize("seed", range(40))
def test_figures_equal_literal_implementations(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = random_segments(rng), random_segments(rng)
    if seed % 4 == 0:
        truth["only true"], predicted["only predicted"] = [seg(0, 1)], [seg(0, 1)]
    for k in (0.1, 0.25, 0.5, 0.75):
        assert f1(truth, predicted, k) == pytest.approx(literal_f1(truth, predicted, k), nan_ok=True)
        assert average_precisions(truth, predicted, k) == pytest.approx(literal_ap(truth, predicted, k))
    a, b = (rng.integers(0, 3, rng.integers(0, 9)).tolist() for _ in range(2))
    assert distance(a, b) == literal_distance(a, b)


@pytest.mark.parametrize("seed", range(5))
def test_a_perfect_prediction_has_perfect_figures(seed):
    truth = random_segments(np.random.default_rng(seed), 5, apart=True)
    times = {name: np.arange(0, 15, 0.25) for name in truth}
    figures = evaluate(truth, truth, times)
    assert {v for k, v in figures.items() if isinstance(v, float)} == {100.0}
    assert figures["recordings"] == 5 and figures["frames"] == 300
    assert figures["true segments"] == sum(len(maximal(s)) for s in truth.values())


def test_all_figures_of_one_prediction():
    times = {"a": np.arange(10.0), "b": np.arange(10.0)}
    truth = {"a": [seg(0, 4, 0), seg(4, 8, 1), seg(8, 10, 2)]}
    predicted = {"a": [seg(0, 2, 0, 0.9), seg(2, 4, 0, 0.5), seg(4, 7, 1, 0.8)], "b": [seg(0, 1, 1, 0.9)]}
    figures = evaluate(truth, predicted, times, background=2)
    assert figures["true segments"] == 2 and figures["predicted segments"] == 3
    assert figures["frame accuracy"] == 90 and figures["frame accuracy without background"] == 87.5
    assert figures["edit score"] == 50 and figures["F1@50"] == pytest.approx(80)
    # class 0: 100; class 1: the false one of "b" ranks first, IoU of the other one 0.75
    assert figures["mAP@0.7"] == pytest.approx(75) and figures["mAP@0.3:0.7"] == pytest.approx(75)
    assert figures["mAP@0.5:0.95"] == pytest.approx((6 * 75 + 4 * 50) / 10)
    text = table(figures | {"undefined": math.nan})
    assert "| frame accuracy | 90.00 |" in text and "| recordings | 2 |" in text and "| undefined | - |" in text
    rows = class_table(truth, predicted, NAMES, background=2).splitlines()
    assert rows[2:] == ["| wave | 1 | 1 | 100.00 |", "| clap | 1 | 2 | 50.00 |"]


def test_touching_segments_of_a_class_are_one():
    joined = maximal([seg(2, 3, 0, 0.4), seg(0, 2, 0, 0.7), seg(4, 5, 0), seg(5, 6, 1)])
    assert [(s.start, s.end, s.label) for s in joined] == [(0, 3, 0), (4, 5, 0), (5, 6, 1)]
    assert joined[0].mean == pytest.approx(0.6) and joined[0].highest == 0.7
    rounded = maximal([seg(0, 2, 0, 0.5), seg(1.9991, 1.9999, 0, 0.8)])  # a millisecond may be due to rounding
    assert [(s.end, s.highest) for s in rounded] == [(2, 0.8)]


def test_overlapping_segments_are_refused_unless_they_belong_to_different_persons():
    both = {"a": [seg(0, 3, 0, person="1"), seg(2, 4, 1, person="2")], "b": [seg(0, 1)]}
    times = {"a": np.arange(4.0), "b": np.arange(4.0)}
    with pytest.raises(ValueError, match=r"a: expected segments that do not overlap, got 0-3 s and 2-4 s"):
        evaluate(both, {}, times)
    alone = by_person(both)
    assert sorted(alone) == ["a/1", "a/2", "b"]
    assert evaluate(alone, alone, {name: np.arange(4.0) for name in alone})["frame accuracy"] == 100


def test_a_recording_without_a_prediction_is_an_error_with_the_nearest_name():
    with pytest.raises(ValueError, match="recording: 'vidoe1' was not predicted; did you mean video1?"):
        evaluate({"vidoe1": [seg(0, 1)]}, {}, {"video1": np.arange(3.0)})


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_truth_is_read_with_its_recordings_and_persons(tmp_path):
    path = write(
        tmp_path / "t.csv", '\ufeffrecording,start_s,end_s,label,person\nv1,0,1.5,wave,\n\nv2,2,3,"sit down",p1\n'
    )
    truth = read_truth(path, NAMES)
    assert truth == {"v1": [seg(0, 1.5, 0)], "v2": [seg(2, 3, 2, person="p1")]}
    assert read_truth(write(path, "start_s,end_s,label\n1,2, clap \n"), NAMES) == {"": [seg(1, 2, 1)]}
    assert read_truth(write(path, "start_s,end_s,label\n"), NAMES) == {}


def test_written_segments_can_be_read_as_truth(tmp_path):
    segments = [seg(0, 1.25, 3, 0.5, person="7"), seg(2, 3, 1)]
    write_segments(tmp_path / "s.csv", segments, NAMES)
    (read,) = read_truth(tmp_path / "s.csv", NAMES).values()
    assert [(s.start, s.end, s.label, s.person) for s in read] == [(0, 1.25, 3, "7"), (2, 3, 1, "")]


@pytest.mark.parametrize(
    "text, message",
    [
        ("start_s,end_s,label\n0,1,wave\n1,2,wafe\n", "line 3: label: unknown class 'wafe'; did you mean wave?"),
        ("start_s,end_s,label\n0,one,wave\n", "line 2: end_s: expected seconds, got 'one'"),
        ("start_s,end_s,label\nnan,1,wave\n", "line 2: start_s: expected seconds, got 'nan'"),
        ("start_s,end_s,label\n2,2,wave\n", "line 2: expected 0 <= start_s < end_s, got 2 and 2"),
        ("start_s,end_s,label\n-1,2,wave\n", "line 2: expected 0 <= start_s < end_s, got -1 and 2"),
        ("start_s,end_s,label\n0,1\n", "line 2: expected 3 values, got 2"),
        ("start_s,end,label\n", "line 1: unknown column 'end'; did you mean end_s?"),
        ("start_s,label\n", "line 1: expected the columns start_s, end_s, label, missing: end_s"),
        ("start_s,end_s,label,label\n", "line 1: expected each column once"),
        ("start_s,end_s,label,person,track\n", "person or track"),
        ('start_s,end_s,label\n0,1,"wave\n', "not a CSV file"),
        ("", "line 1: expected the columns"),
    ],
)
def test_mistakes_in_a_truth_file_are_reported_with_the_line(tmp_path, text, message):
    path = write(tmp_path / "truth.csv", text)
    with pytest.raises(ValueError) as error:
        read_truth(path, NAMES)
    assert str(error.value).startswith(f"{path}: line ") and message in str(error.value)
    assert "\n" not in str(error.value)
