"""The live loop: JSON lines that are whole, latencies, and what is drawn; with stand-ins for camera, poses and
network."""

import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data.poses.recording import Detection, Facts
from data.poses.video import Moment, follow
from graph.layouts import find_layout
from tests.data.people import Clock
from torchlight.predict import live
from torchlight.predict.live import Timing, run, sentence
from torchlight.predict.overlay import Overlay, VideoFile, Window, color_of, overlay, pixels

BODY = np.random.default_rng(0).uniform(-1, 1, (17, 2)).astype(np.float32) * (20, 60) + (100, 100)
COCO = Facts("test", "coco_17")
IMAGE = np.zeros((240, 320, 3), np.uint8)


class Labels:
    """A stream that labels everybody in every second frame, in 0.1 s."""

    def __init__(self, clock=None):
        self.clock, self.count = clock or Clock(), 0

    def push(self, time, persons):
        self.count += 1
        if self.count % 2:
            return []
        self.clock.sleep(0.1)
        return [{"track": int(p.track), "state": "label", "label": "wave", "p": 0.75} for p in persons]


def poses(count: int, clock=None, image=None, seconds: float = 0.02):
    """One person who sways; each pose takes 0.02 s after its image arrived."""
    clock = clock or Clock()
    for number in range(count):
        arrived = clock()
        clock.sleep(seconds)
        persons = [Detection(BODY + (number % 5, 0), np.full(17, 0.9), "1")]
        yield Moment(number / 10, number, persons, arrived, image)


def test_every_update_is_a_whole_flushed_line_after_the_header():
    clock = Clock()

    class Out(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    out, log = Out(), io.StringIO()
    seen = []

    def watched():
        for moment in poses(4, clock):
            seen.append(out.flushed.count("\n"))
            yield moment

    summary = run(watched(), Labels(clock), out, {"form": "test"}, log=log, clock=clock)
    head, *records = map(json.loads, out.getvalue().splitlines())
    assert head == {"form": "test"} and seen == [1, 1, 2, 2] and out.flushed == out.getvalue()
    assert records[0] == {
        "t": 0.1, "frame": 1, "track": 1, "state": "label", "label": "wave", "p": 0.75, "latency_ms": 120.0
    }  # fmt: skip
    assert summary["frames"] == 4 and summary["updates"] == 2 == len(records)
    assert "4 frames in 0.3 s" in log.getvalue()


def test_latencies_rates_and_dropped_frames_are_measured():
    clock = Clock()
    log = io.StringIO()
    run(poses(100, clock), Labels(clock), io.StringIO(), dropped=lambda: 25, delay=1.5, log=log, clock=clock)
    lines = log.getvalue().splitlines()
    assert len(lines) == 2  # after 5 s, and at the end
    for words in (
        "100 frames in 7.0 s",
        "14.3 frames/s, 7.1 updates/s",
        "dropped 25 (20.0%)",
        "capture to pose p50 20 p95 20 ms",
        "pose to label p50 100 p95 100 ms",
        "end to end p50 120 p95 120 ms",
        "delay of window and smoothing 1.5 s",
    ):
        assert words in lines[-1]


def test_updates_without_a_prediction_do_not_count_as_fast_networks():
    class Waiting:
        def push(self, time, persons):
            return [{"track": 1, "state": "warming up"}]

    log = io.StringIO()
    summary = run(poses(5), Waiting(), io.StringIO(), log=log, clock=Clock())
    assert summary["updates"] == 5 and "pose_to_label_ms" not in summary and "pose to label" not in log.getvalue()


def test_without_measurements_there_are_no_numbers():
    assert sentence(Timing(0.0).summary(0)) == "0 frames in 0.0 s; 0.0 frames/s, 0.0 updates/s; dropped 0 (0.0%)"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_the_output_is_whole_and_the_display_closed_when_the_source_stops(error):
    class Display:
        shown, closed = 0, False

        def show(self, moment, labels):
            self.shown += 1

        def close(self):
            self.closed = True

    def broken():
        yield from poses(5)
        raise error("0: the camera stopped")

    out, log, display = io.StringIO(), io.StringIO(), Display()
    if error is OSError:
        with pytest.raises(OSError, match="camera stopped"):
            run(broken(), Labels(), out, display=display, log=log, clock=Clock())
    else:
        assert run(broken(), Labels(), out, display=display, log=log, clock=Clock())["frames"] == 5
    assert display.closed and display.shown == 5 and "5 frames" in log.getvalue()
    assert [json.loads(line)["frame"] for line in out.getvalue().splitlines()] == [1, 3]


def test_labels_are_shown_while_the_person_is_seen():
    shown = []

    class Display:
        def show(self, moment, labels):
            shown.append({track: update["label"] for track, update in labels.items()})

        def close(self):
            pass

    def leaving():
        yield from poses(3)
        yield Moment(0.4, 4, [])

    run(leaving(), Labels(), io.StringIO(), display=Display(), log=io.StringIO(), clock=Clock())
    assert shown == [{}, {"1": "wave"}, {"1": "wave"}, {}]


def test_a_label_of_the_whole_scene_is_shown():
    cv2 = pytest.importorskip("cv2")
    assert cv2
    picture = overlay(IMAGE, [], {"": {"label": "wave", "p": 0.5}}, COCO)
    assert picture[:40, :120].any() and not picture[60:].any()


def test_memory_does_not_grow_over_10_000_frames(monkeypatch):
    monkeypatch.setattr(live, "KEPT", 100)

    class Nowhere(io.StringIO):
        def write(self, text):
            return len(text)

    used = []

    def watched(moments):
        for moment in moments:
            if moment.number == 1000:
                tracemalloc.start()
            if moment.number in (2000, 9999):
                used.append(tracemalloc.get_traced_memory()[0])
            yield moment

    try:
        run(follow(watched(poses(10_000)), COCO), Labels(), Nowhere(), log=Nowhere(), clock=Clock())
    finally:
        tracemalloc.stop()
    assert used[1] - used[0] < 20_000


def test_a_value_that_json_does_not_have_is_not_written():
    out = io.StringIO()
    with pytest.raises(ValueError):
        live.write(out, {"p": float("nan")})
    assert not out.getvalue()


def test_pixels_are_the_image_points_the_points_or_shares_of_the_image():
    points = np.array([[0.5, 0.25, 1.0]], np.float32)
    assert pixels(Detection(points, image=np.array([[3.0, 4.0]])), Facts("t", axes="camera")).tolist() == [[3, 4]]
    assert pixels(Detection(points), Facts("t")).tolist() == [[0.5, 0.25]]
    assert pixels(Detection(points), Facts("t", units="share", image_size=(320, 240))).tolist() == [[160, 60]]
    assert pixels(Detection(points), Facts("t", axes="camera")) is None


def test_ids_have_different_colors_that_do_not_change():
    colors = [color_of(str(i)) for i in range(1, 9)]
    assert len(set(colors)) == 8 and colors == [color_of(str(i)) for i in range(1, 9)]
    apart = [np.abs(np.subtract(a, b)).max() for a, b in zip(colors, colors[1:], strict=False)]
    assert min(apart) > 80 and color_of("ann") != color_of("bob")


def test_no_window_is_opened_without_a_display(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ValueError, match="show: expected a display"):
        Window()


def test_a_video_file_with_another_suffix_is_refused():
    with pytest.raises(ValueError, match="save_picture: expected a file name ending with .mp4, got out.gif"):
        VideoFile(Path("out.gif"), 30.0)


def test_skeletons_labels_and_bars_are_drawn_in_the_colors_of_the_ids():
    pytest.importorskip("cv2")
    skeleton = find_layout("coco_17").skeleton
    person = Detection(BODY, np.full(17, 0.9), "1")
    drawn = {}
    for name, p, imputed in (("half", 0.5, ()), ("full", 1.0, ()), ("hollow", 0.5, range(17))):
        labels = {"1": {"label": "wave", "p": p}}
        drawn[name] = overlay(IMAGE, [person], labels, COCO, skeleton, imputed)
    color = (drawn["half"] == color_of("1")).all(-1)
    full, hollow = (drawn["full"] == color_of("1")).all(-1), (drawn["hollow"] == color_of("1")).all(-1)
    assert not IMAGE.any() and color.sum() > 200
    nose = BODY[0].round().astype(int)
    assert color[nose[1], nose[0]] and full.sum() > color.sum() + 20 and hollow.sum() < color.sum()


def test_persons_outside_or_without_points_do_not_stop_the_drawing():
    pytest.importorskip("cv2")
    unseen = Detection(np.full((17, 2), np.nan, np.float32), None, "1")
    outside = Detection(BODY + 10_000, None, "2")
    above = Detection(BODY - (90, 90), None, "3")
    picture = overlay(IMAGE, [unseen, outside, above], {"3": {"state": "nothing", "p": None}}, COCO)
    assert picture.shape == IMAGE.shape


def test_a_video_plays_at_the_speed_of_the_source_and_appears_when_it_is_complete(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "out.mp4"
    display = Overlay([VideoFile(path, 30.0)], COCO, find_layout("coco_17").skeleton)
    for moment in poses(11, image=IMAGE):  # 10 frames per second
        display.show(moment, {})
        assert not path.exists()
    display.close()
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 31 and [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
