"""Poses as JSON lines on standard input: valid lines, and errors of damaged ones."""

import io
import json

import numpy as np
import pytest

from data.poses.pose_lines import PoseLines
from data.poses.recording import PoseFileError

BODY = [[10.0 * v, 5.0 * v, 0.9] for v in range(17)]


def lines(*values) -> io.StringIO:
    return io.StringIO("".join(f"{v if isinstance(v, str) else json.dumps(v)}\n" for v in values))


def frame(t: float, *bodies, **extra) -> dict:
    return {"t": t, "persons": [{"keypoints": body} | extra for body in bodies]}


def test_persons_are_read_with_scores_ids_gaps_and_times():
    body = [*BODY[:3], None, [1, 2], *BODY[5:]]
    source = PoseLines(lines(frame(0.5, body, id=7), "", frame(0.6), frame(0.7, [None] * 17)), clock=lambda: 3.0)
    first, second, third = source
    assert (first.time, first.number, first.arrived) == (0.5, 0, 3.0) and second.number == 1 and not second.persons
    (person,) = first.persons
    assert person.track == "7" and person.points.shape == (17, 2) and not third.persons
    np.testing.assert_allclose(person.score[[0, 3, 4]], [0.9, 0, 1], rtol=1e-6)
    assert np.isnan(person.points[3]).all() and person.points[4].tolist() == [1, 2]
    assert source.facts.layout == "coco_17" and len(source.facts.guessed) == 1


def test_the_first_line_describes_the_points():
    head = {"layout": "ntu", "axes": "kinect", "units": "m"}
    body = [[0.1, 0.2, 3.0]] * 24 + [[0.1, 0.2, 3.0, 0.5]]
    source = PoseLines(lines(head, frame(0, body)))
    (moment,) = source
    assert (source.facts.layout, source.facts.axes, source.facts.units) == ("kinect_v2_25", "kinect", "m")
    assert moment.persons[0].points.shape == (25, 3) and moment.persons[0].score[-1] == 0.5
    source = PoseLines(lines({"joints": ["head", "tail"], "image_size": [640, 480]}, frame(0, [[1, 2], [3, 4]])))
    assert source.facts.joints == ("head", "tail") and source.facts.image_size == (640, 480) and len(list(source)) == 1


def test_an_empty_stream_has_no_frames():
    assert list(PoseLines(io.StringIO())) == [] == list(PoseLines(lines({"layout": "coco_17"})))


DAMAGED = {
    "half a line": ('{"t": 0.2, "pers', "not valid JSON"),
    "no object": ("[1, 2]", "expected a JSON object"),
    "no time": ({"persons": []}, "t: expected seconds"),
    "a time that is text": ({"t": "0.2", "persons": []}, "t: expected seconds"),
    "a time that went back": (frame(0.1), "t: expected more than 0.1"),
    "no persons": ({"t": 0.2}, "persons: expected a list"),
    "too many persons": (frame(0.2, *[[]] * 101), "persons: expected a list of at most 100"),
    "a missing joint": (frame(0.2, BODY[:16]), "keypoints: expected a list of 17 joints, got 16"),
    "one coordinate": (frame(0.2, [[1]] * 17), "keypoints: expected 2 coordinates and an optional score"),
    "text as coordinate": (frame(0.2, [["1", 2]] * 17), "keypoints: expected 2 coordinates"),
    "NaN": ('{"t": 0.2, "persons": [{"keypoints": [[NaN, 1]]}]}', "not valid JSON"),
    "a huge number": (frame(0.2, [[1e300, 2]] * 17), "keypoints: expected 2 coordinates"),
    "an id that is a list": (frame(0.2, BODY, id=[1]), "id: expected a number or text"),
    "an id twice": (frame(0.2, BODY, BODY, id=1), "id: expected one person per id"),
    "a person that is a number": ({"t": 0.2, "persons": [4]}, "keypoints: expected a list of 17 joints"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_line_is_reported_after_the_frames_before_it(damage):
    line, words = DAMAGED[damage]
    source = iter(PoseLines(lines(frame(0, BODY), frame(0.1, BODY), line, frame(0.3, BODY))))
    assert [next(source).time, next(source).time] == [0, 0.1]
    with pytest.raises(PoseFileError, match="^standard input: line 3: ") as error:
        next(source)
    assert words in str(error.value)


HEADS = {
    "an unknown key": ({"layout": "coco_17", "colour": 1}, "got colour"),
    "an unknown layout": ({"layout": "cocoa"}, "did you mean"),
    "unknown axes": ({"layout": "coco_17", "axes": "up"}, "axes: expected image, camera"),
    "axes that are a list": ({"layout": "coco_17", "axes": []}, "axes: expected image, camera"),
    "no names": ({"joints": [1]}, "joints: expected a list of names"),
    "no size": ({"layout": "coco_17", "image_size": [0, 4]}, "image_size: expected"),
    "a frame of unknown joints": (frame(0, BODY[:5]), "expected a first line with the layout"),
}


@pytest.mark.parametrize("damage", HEADS)
def test_a_wrong_first_line_is_refused(damage):
    line, words = HEADS[damage]
    with pytest.raises(PoseFileError, match="^standard input: line 1: ") as error:
        PoseLines(lines(line))
    assert words in str(error.value)


def test_a_line_without_end_and_bytes_that_are_not_text_are_refused(monkeypatch):
    monkeypatch.setattr("data.poses.pose_lines.MAX_LINE", 1000)
    with pytest.raises(PoseFileError, match="line 1: expected at most 1000 characters"):
        PoseLines(io.StringIO("[" * 10_000))
    with pytest.raises(PoseFileError, match="expected UTF-8 text"):
        PoseLines(io.TextIOWrapper(io.BytesIO(b'{"t": "\xff"}\n'), encoding="utf-8"))
