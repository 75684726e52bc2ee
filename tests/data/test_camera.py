"""Images from cameras and files: every image of a file, the newest one of a camera, and an error when it stops."""

import threading

import pytest

from data.poses.camera import TRIES, Camera
from tests.data.people import Capture, Clock


def open_each(*captures):
    """A function that opens these captures one after another."""
    left = list(captures)
    return lambda address: left.pop(0)


def closed() -> Capture:
    capture = Capture([])
    capture.opened = False
    return capture


def test_every_image_of_a_file_is_used_as_rgb_with_its_time(tmp_path):
    (tmp_path / "a.mp4").touch()
    camera = Camera(str(tmp_path / "a.mp4"), open_capture=lambda _: Capture(range(5), 25.0))
    frames = list(camera)
    assert [f.number for f in frames] == list(range(5)) and camera.dropped == 0 and camera.length == 5
    assert [round(f.time, 6) for f in frames] == [0, 0.04, 0.08, 0.12, 0.16]
    assert [tuple(f.image[0, 0]) for f in frames] == [(v, 2, 1) for v in range(5)]


def test_the_times_of_a_file_with_changing_rate_are_those_of_the_file(tmp_path):
    (tmp_path / "a.mp4").touch()
    times = [1.0, 1.01, 1.5, 1.6]
    camera = Camera(str(tmp_path / "a.mp4"), open_capture=lambda _: Capture(range(4), 25.0, times))
    assert [round(f.time, 6) for f in camera] == [0, 0.01, 0.5, 0.6]


def test_a_slow_user_of_a_camera_gets_the_newest_image_and_the_others_are_counted():
    taken, came, go_on = threading.Event(), threading.Event(), threading.Event()

    class Fast(Capture):
        def read(self):
            if self.count == 1:  # the user has the first image and is slow
                taken.wait(10)
            if self.count == 20:  # 19 more came meanwhile
                came.set()
                go_on.wait(10)
            return super().read()

    camera = Camera("0", open_capture=open_each(Fast(range(21)), *[closed()] * TRIES), sleep=lambda _: None)
    frames = iter(camera)
    first = next(frames)
    taken.set()
    came.wait(10)
    newest = next(frames)
    assert (first.number, newest.number, newest.image[0, 0, 0]) == (0, 19, 19) and camera.dropped == 18
    go_on.set()
    assert next(frames).number == 20
    with pytest.raises(OSError):
        next(frames)
    assert camera.dropped == 18


def test_a_file_can_play_at_its_own_speed(tmp_path):
    (tmp_path / "a.mp4").touch()
    clock = Clock()
    camera = Camera(str(tmp_path / "a.mp4"), True, lambda _: Capture(range(30), 10.0), clock=clock, sleep=clock.sleep)
    frames = list(camera)
    assert len(frames) + camera.dropped == 30 and frames[-1].number == 29 and frames[-1].time == pytest.approx(2.9)
    assert clock.now == pytest.approx(2.9) and all(f.arrived == pytest.approx(f.time) for f in frames)


def test_a_camera_that_stops_is_reopened_three_times_before_an_error():
    opened = []

    def open_capture(address):
        opened.append(address)
        return Capture([1, 2, 3]) if len(opened) == 1 else closed()

    camera = Camera("0", open_capture=open_capture, sleep=lambda _: None)
    with pytest.raises(OSError, match="0: the camera stopped after 3 images, and 3 attempts to reopen failed"):
        list(camera)
    assert opened == [0] * (1 + TRIES)


def test_a_camera_that_answers_again_continues():
    captures = open_each(Capture([1, 2]), closed(), Capture([3]), *[closed()] * TRIES)
    camera = Camera("0", open_capture=captures, sleep=lambda _: None)
    with pytest.raises(OSError, match="after 3 images"):
        list(camera)


def test_a_camera_without_images_for_a_minute_is_an_error(monkeypatch):
    end = threading.Event()

    class Silent(Capture):
        def read(self):
            end.wait(10)
            return False, None

    monkeypatch.setattr("data.poses.camera.SILENT_SECONDS", 0.01)
    monkeypatch.setattr("data.poses.camera.STOP_SECONDS", 0.01)
    capture = Silent([1])
    camera = Camera("0", open_capture=open_each(capture, *[closed()] * TRIES), sleep=lambda _: None)
    with pytest.raises(OSError, match="no image for"):
        list(camera)
    camera.close()
    assert not capture.released  # the thread is in it
    end.set()


def test_an_address_that_cannot_be_opened_is_refused_without_its_password(tmp_path):
    with pytest.raises(ValueError, match="no such video file"):
        Camera(str(tmp_path / "missing.mp4"))
    with pytest.raises(ValueError, match="a camera or stream that can be opened, got none; check its") as error:
        Camera("rtsp://user:secret@door/1", open_capture=lambda _: closed())
    assert "rtsp://door/1" in str(error.value) and "secret" not in str(error.value)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ValueError, match="got no image"):
        list(Camera(str(tmp_path / "a.mp4"), open_capture=lambda _: Capture([])))


def test_a_camera_is_released_after_use():
    capture = Capture(range(3))
    with Camera("0", open_capture=open_each(capture, *[closed()] * TRIES), sleep=lambda _: None) as camera:
        next(iter(camera))
    assert capture.released


def test_opencv_reads_a_video_that_it_wrote(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / "a.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 48))
    for value in (40, 120, 200):
        writer.write(Capture([value]).read()[1].repeat(12, 0).repeat(11, 1)[:48, :64])
    writer.release()
    with Camera(path) as camera:
        frames = list(camera)
    assert camera.rate == 20 and [round(f.time, 3) for f in frames] == [0, 0.05, 0.1]
    assert [abs(int(f.image[20, 20, 0]) - v) < 12 for f, v in zip(frames, (40, 120, 200), strict=True)] == [True] * 3
