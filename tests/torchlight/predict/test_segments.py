"""Segments: frames get the mean of their windows, labels are the best path, and live labels follow the rules."""

import itertools
import math

import numpy as np
import pytest

from torchlight.predict.segments import BORDER, FLOOR, Hysteresis, Segment, find_segments, smooth, spread, viterbi

RATE = 10


def frames(*parts: tuple[float, list[float]], rate: int = RATE) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and times of frames: rows that are repeated for some seconds."""
    p = np.concatenate([np.tile(row, (round(seconds * rate), 1)) for seconds, row in parts])
    return p.astype(float), np.arange(len(p)) / rate


def spans(segments: list[Segment]) -> list[tuple[float, float, int]]:
    return [(round(s.start, 6), round(s.end, 6), s.label) for s in segments]


def find(p, times, threshold=0.5, switch_cost=0.1, shortest=0.0, **options):
    return find_segments(p, times, threshold, switch_cost, shortest, **options)


def test_a_frame_gets_the_weighted_mean_of_the_windows_that_cover_it():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.2, 80))
    begin = rng.uniform(0, times[-1], 15)
    end = begin + rng.uniform(0.1, 2, 15)
    scores = rng.dirichlet(np.ones(4), 15)
    p = spread(begin, end, scores, times)
    uncovered = 0
    for t, row in zip(times, p, strict=True):
        total, weights = np.zeros(4), 0.0
        for b, e, s in zip(begin, end, scores, strict=True):
            if b <= t <= e:
                distance = abs(t - (b + e) / 2) / ((e - b) / 2)
                total += (1 - (1 - BORDER) * distance) * s
                weights += 1 - (1 - BORDER) * distance
        uncovered += weights == 0
        np.testing.assert_allclose(row, total / weights if weights else np.full(4, np.nan), atol=1e-12)
    assert 0 < uncovered < 80


def test_the_frames_at_the_borders_of_a_window_are_covered():
    times = np.arange(7) * 0.1  # 0.30000000000000004 and its like
    p = spread([0.3], [0.6], [[0.7, 0.3]], times)
    assert np.isnan(p[:3]).all()
    np.testing.assert_allclose(p[3:], np.tile([0.7, 0.3], (4, 1)))
    np.testing.assert_allclose(spread([0.3, 0.2], [0.3, 0.4], [[1.0], [0.0]], times)[3], [0.5])  # one-frame window


def test_smoothing_follows_time_and_not_the_number_of_frames():
    slow, fast = [np.arange(0, 3.0001, 1 / rate) for rate in (10, 40)]
    responses = [smooth((t > 0)[:, None].astype(float), t, 0.5)[:, 0] for t in (slow, fast)]
    np.testing.assert_allclose(responses[0], 1 - np.exp(-slow / 0.5))
    np.testing.assert_allclose(responses[1][::4], responses[0])


def test_smoothing_uses_the_past_only_and_passes_unknown_frames():
    p = np.array([[1.0], [np.nan], [np.nan], [0.0], [0.0]])
    times = np.array([0, 1, 2, 3, 4.0])
    result = smooth(p, times, 2.0)[:, 0]
    np.testing.assert_allclose(result, [1, np.nan, np.nan, math.exp(-1.5), math.exp(-2)])
    np.testing.assert_allclose(smooth(p, times, 0.0), p)
    assert p[3, 0] == 0, "the argument stays as it is"


@pytest.mark.parametrize("seed", range(20))
def test_the_labels_are_the_best_of_all_paths(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(3, 0.5), 6)
    p[rng.random((6, 3)) < 0.1] = 0
    p[rng.random(6) < 0.1] = np.nan
    cost = rng.choice([0.0, 0.3, 1.0, 3.0, 100.0])

    def value(path):
        gains = [0.0 if np.isnan(p[t, k]) else math.log(max(p[t, k], FLOOR)) for t, k in enumerate(path)]
        return sum(gains) - cost * sum(a != b for a, b in itertools.pairwise(path))

    best = max(value(path) for path in itertools.product(range(3), repeat=6))
    assert value(viterbi(p, cost)) == pytest.approx(best, abs=1e-9)


def test_equal_paths_give_the_first_class_without_a_switch():
    assert viterbi(np.full((5, 3), 1 / 3), 0.0).tolist() == [0] * 5
    assert viterbi(np.zeros((0, 3)), 1.0).tolist() == []
    assert viterbi(np.array([[0.2, 0.8]]), 1.0).tolist() == [1]


def test_segments_are_half_open_and_the_last_frame_lasts_for_a_step():
    p, times = frames((1, [0.9, 0.1]), (2, [0.2, 0.8]))
    first, second = find(p, times)
    assert spans([first, second]) == [(0, 1, 0), (1, 3, 1)]
    assert (first.mean, second.highest) == pytest.approx((0.9, 0.8))
    assert find(p, times, person="p1")[0].person == "p1"


def test_no_segment_is_reported_where_no_class_reaches_the_threshold():
    p, times = frames((1, [0.4, 0.3]), (1, [0.9, 0.1]), (1, [0.3, 0.4]))
    assert spans(find(p, times)) == [(1, 2, 0)]
    assert spans(find(p, times, threshold=0.95)) == []
    assert spans(find(p, times, threshold=0.0)) == [(0, 2, 0), (2, 3, 1)]


def test_the_background_class_is_no_segment_even_below_the_threshold():
    p, times = frames((1, [0.9, 0.1]), (1, [0.3, 0.7]), (1, [0.65, 0.35]))
    assert spans(find(p, times)) == [(0, 1, 0), (1, 2, 1), (2, 3, 0)]
    assert spans(find(p, times, background=1)) == [(0, 1, 0), (2, 3, 0)]
    assert spans(find(p, times, background=0)) == [(1, 2, 1)]
    p, times = frames((1, [0.6, 0.1]), (1, [0.4, 0.45]))
    assert spans(find(p, times, threshold=0.3, background=1)) == [(0, 1, 0)], "the background wins below 1/2 too"
    assert p[15, 1] == 0.45, "the argument stays as it is"


def test_a_switch_is_made_if_the_evidence_is_more_than_twice_its_cost():
    seconds, ratio = 0.5, math.log(0.8 / 0.2)
    p, times = frames((2, [0.8, 0.2]), (seconds, [0.2, 0.8]), (2, [0.8, 0.2]), rate=40)
    for cost, switches in ((0.49 * seconds * ratio, True), (0.51 * seconds * ratio, False)):
        expected = [(0, 2, 0), (2, 2.5, 1), (2.5, 4.5, 0)] if switches else [(0, 4.5, 0)]
        assert spans(find(p, times, 0.0, cost)) == expected
        assert spans(find(p[::4], times[::4], 0.0, cost)) == expected, "the frame rate does not matter"


def test_the_shortest_segment_merges_into_the_stronger_neighbor():
    p, times = frames((1, [0.8, 0.1, 0.1]), (0.2, [0.1, 0.8, 0.1]), (1, [0.1, 0.1, 0.7]))
    assert spans(find(p, times, shortest=0.3)) == [(0, 1.2, 0), (1.2, 2.2, 2)]
    assert spans(find(p[::-1], times, shortest=0.3)) == [(0, 1, 2), (1, 2.2, 0)]
    assert len(find(p, times, shortest=0.2)) == 3, "exactly as long as required"
    p, times = frames((1, [0.9, 0.1]), (0.3, [0.3, 0.3]), (1, [0.9, 0.1]))
    (joined,) = find(p, times, shortest=0.5)
    assert spans([joined]) == [(0, 2.3, 0)] and joined.mean == pytest.approx((2 * 0.9 + 0.3 * 0.3) / 2.3)
    p, times = frames((1, [0.3, 0.3]), (0.3, [0.9, 0.1]), (1, [0.3, 0.3]))
    assert spans(find(p, times, shortest=0.5)) == [], "between nothing and nothing"


def test_a_segment_without_neighbors_is_removed_if_it_is_short():
    p, times = frames((0.4, [0.9, 0.1]))
    assert spans(find(p, times, shortest=0.4)) == [(0, 0.4, 0)]
    assert spans(find(p, times, shortest=0.5)) == []
    assert find(p[:1], times[:1]) == [] and find(p[:0], times[:0]) == []


def test_a_segment_that_merging_makes_improbable_is_removed():
    p, times = frames((1, [0.1, 0.1, 0.55]), (0.4, [0.1, 0.9, 0.1]))
    assert spans(find(p, times, shortest=0.0)) == [(0, 1, 2), (1, 1.4, 1)]
    assert spans(find(p, times, shortest=0.5)) == []


def test_unknown_frames_and_gaps_end_a_segment():
    p, times = frames((3, [0.9, 0.1]))
    p[10:12] = np.nan
    assert spans(find(p, times)) == [(0, 1, 0), (1.2, 3, 0)]
    p, times = frames((3, [0.9, 0.1]))
    times[20:] += 0.31
    assert spans(find(p, times)) == [(0, 2, 0), (2.31, 3.31, 0)]
    times[20:] -= 0.2
    assert spans(find(p, times)) == [(0, 3.11, 0)], "a short gap does not"
    times[1:] += 0.05
    assert spans(find(p, times)) == [(0, 3.16, 0)], "the last frame lasts for the median step"
    p, times = frames((3, [0.9, 0.1]), rate=40)
    times[60:] += 0.25
    assert spans(find(p, times)) == [(0, 3.25, 0)], "0.275 s, many frames"
    times[60:] += 0.05
    assert len(find(p, times)) == 2
    assert len(find(p[:4], np.array([0, 2, 4, 8.9]))) == 1, "less than 2.5 frames"
    assert len(find(p[:4], np.array([0, 2, 4, 9.1]))) == 2
    p, times = frames((3, [0.9, 0.1]))
    p[:] = np.nan
    assert find(p, times) == []


@pytest.mark.parametrize("seed", range(10))
def test_segments_have_their_documented_properties_on_random_probabilities(seed):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.03, 0.05, 600))
    p = rng.dirichlet(np.full(4, 0.3), 40).repeat(15, 0) * 0.8 + rng.dirichlet(np.ones(4), 600) * 0.2
    p[rng.random(600) < 0.005] = np.nan
    found = find_segments(p, times, 0.45, 0.05, 0.5, background=3)
    assert len(found) > 5
    for s in found:
        inside = (times >= s.start) & (times < s.end)
        assert s.end - s.start >= 0.5 - 1e-9 and s.label != 3
        assert s.mean >= 0.45 and (s.mean, s.highest) == pytest.approx(
            (p[inside, s.label].mean(), p[inside].max(0)[s.label])
        )
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert all(a.label != b.label for a, b in itertools.pairwise(found) if a.end == b.start)


def live(*results: tuple[float, list[float]], end: float | None = None, **options) -> list[Segment]:
    """The segments of a recording that is seen result by result."""
    state = Hysteresis(**{"tau": 0.0, "shortest": 0.0} | options)
    ended = [state.update(time, p) for time, p in results]
    return [s for s in (*ended, state.close(end) if end is not None else None) if s is not None]


def series(values: list[float]) -> list[tuple[float, list[float]]]:
    """One result per second, for one class of three."""
    return [(t, [v, 0.1, 0.0]) for t, v in enumerate(values)]


def test_a_live_label_starts_with_two_results_and_ends_with_two():
    values = [0.2, 0.5, 0.4, 0.5, 0.7, 0.6, 0.2, 0.4, 0.29, 0.2, 0.1]
    (segment,) = live(*series(values))
    assert spans([segment]) == [(3, 8, 0)], "one result alone neither starts nor ends it"
    assert segment.mean == pytest.approx(np.mean(values[3:8])) and segment.highest == 0.7
    assert live(*series([0.49, 0.49, 0.49])) == []
    assert spans(live(*series([0.5, 0.3, 0.3, 0.3]), updates=1, end=9)) == [(0, 9, 0)], "0.3 is not below 0.3"


def test_the_current_label_is_known_between_results():
    state = Hysteresis(tau=0.0)
    labels = []
    for time, p in series([0.9, 0.9, 0.1, 0.1]):
        state.update(time, p)
        labels.append(state.label)
        assert state.p.tolist() == p
    assert labels == [None, 0, 0, None]


def test_another_class_replaces_the_label_after_leading_twice():
    a, b, near = [0.6, 0.3, 0.0], [0.35, 0.65, 0.0], [0.48, 0.52, 0.0]
    found = live((0, a), (1, a), (2, near), (3, near), (4, b), (5, a), (6, b), (7, b), (8, b), end=10)
    assert spans(found) == [(0, 6, 0), (6, 10, 1)]
    assert found[0].mean == pytest.approx((3 * 0.6 + 2 * 0.48 + 0.35) / 6)
    assert found[1].mean == pytest.approx(0.65)
    found = live((0, a), (1, a), (2, near), (3, near), (4, b), (5, b), end=6)
    assert spans(found) == [(0, 4, 0), (4, 6, 1)], "the segments do not overlap"
    assert spans(live((0, a), (1, a), (2, a), (3, b), (4, b), lead=0.0, end=5)) == [(0, 3, 0), (3, 5, 1)]
    weak = [0.31, 0.45, 0.0]
    assert spans(live((0, a), (1, a), (2, weak), (3, weak), (4, weak), end=9)) == [(0, 2, 0)], (
        "below 0.5 nothing starts"
    )


def test_different_candidates_do_not_start_a_label_together():
    x, y = [0.6, 0.1, 0.0], [0.1, 0.6, 0.0]
    assert live((0, x), (1, y), (2, x), (3, y), end=4) == []


def test_background_ends_a_label_and_never_starts_one():
    a, idle = [0.45, 0.1, 0.1], [0.35, 0.1, 0.55]
    found = live((0, idle), (1, idle), (2, a), (3, a), (4, idle), (5, idle), end=6, on=0.4, background=2)
    assert spans(found) == [(2, 4, 0)]


def test_live_results_are_smoothed_as_whole_recordings_are():
    rng = np.random.default_rng(0)
    times, p = np.cumsum(rng.uniform(0.05, 0.4, 30)), rng.dirichlet(np.ones(3), 30)
    state, seen = Hysteresis(tau=0.5), []
    for time, row in zip(times, p, strict=True):
        state.update(time, row)
        seen.append(state.p)
    np.testing.assert_allclose(seen, smooth(p, times, 0.5))


def test_short_live_segments_are_not_reported_and_a_closed_track_starts_again():
    assert live(*series([0.9, 0.9, 0.9, 0.0, 0.0]), shortest=3.5) == []
    assert spans(live(*series([0.9, 0.9, 0.9, 0.0, 0.0]), shortest=3)) == [(0, 3, 0)]
    assert live(*series([0.9, 0.9, 0.1]), end=3)[0].mean == pytest.approx(1.9 / 3)
    state = Hysteresis(tau=0.0)
    assert [state.update(0, [0.9, 0.1]), state.close(1), state.update(2, [0.9, 0.1]), state.label] == [None] * 4
    state = Hysteresis(tau=10.0, shortest=0.0, person="p2")
    state.update(5, [0.9, 0.1])
    state.update(6, [0.9, 0.1])
    assert state.close(7) == Segment(5.0, 7.0, 0, 0.9, 0.9, "p2")
    assert state.close(8) is None
    assert state.update(1, [0.1, 0.9]) is None and state.label is None and state.p.tolist() == [0.1, 0.9]
