"""Images from a camera, a network stream or a video file, through OpenCV (an optional package).

A thread reads cameras and streams continuously and keeps only the newest image, so that results do not lag behind.
Images that were not used are counted as dropped. Files are read image by image, and every image is used.
"""

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.poses.estimator import INSTALL
from data.poses.recording import ASSUMED_RATE
from torchlight.system.packages import optional

TRIES, WAIT_SECONDS = 3, 1.0  # attempts to open a camera that stopped, and the pause before each
SILENT_SECONDS = 60.0  # time without an image before an error; OpenCV itself waits 30 s for a stream
STOP_SECONDS = 2.0  # time for the thread to end
TIME, RATE, LENGTH = 0, 5, 7  # CAP_PROP_POS_MSEC, CAP_PROP_FPS, CAP_PROP_FRAME_COUNT of OpenCV
STREAM = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass
class Frame:
    """An image (H, W, 3) uint8 RGB, its number from 0 (dropped images are counted), its time in seconds since the first
    image, and the clock time when it arrived."""

    image: np.ndarray
    number: int
    time: float
    arrived: float


class Camera:
    """Iterates over the frames of a source.

    source: number of a camera, address of a stream (rtsp://, http://), or a video file. real_time: play a file at its
    own speed and drop frames like a camera. open_capture, clock, sleep: for tests.

    Raises:
        ValueError: the source cannot be opened, or OpenCV is missing.
        OSError: a camera stopped, and three attempts to open it again failed.
    """

    def __init__(
        self,
        source: str,
        real_time: bool = False,
        open_capture: Callable[[int | str], Any] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ):
        number = source.isascii() and source.isdigit()
        self.is_file = not number and not STREAM.match(source)
        self.name = re.sub(r"(?<=//)[^/@]*@", "", source)  # without a password
        if self.is_file and not Path(source).is_file():
            raise ValueError(f"source: {source}: no such video file")
        self._open = open_capture or (lambda address: optional("cv2", INSTALL).VideoCapture(address))
        self._address: int | str = int(source) if number else source
        self._clock, self._sleep = clock, sleep
        self._capture = self._open(self._address)
        if not self._capture.isOpened():
            kind = "a video that OpenCV can read" if self.is_file else "a camera or stream that can be opened"
            got = "another file" if self.is_file else "none; check its number or address, and that it is not in use"
            raise ValueError(f"source: {self.name}: expected {kind}, got {got}")
        self.rate = self._property(RATE) or ASSUMED_RATE
        self.length = int(self._property(LENGTH)) if self.is_file else 0
        self._thread: threading.Thread | None = None
        self.waits = self.is_file and not real_time
        self.read = self.dropped = 0

    def _property(self, number: int) -> float:
        value = self._capture.get(number)
        return value if math.isfinite(value) and value > 0 else 0.0

    def __iter__(self) -> Iterator[Frame]:
        frames = self._file_frames() if self.is_file else self._camera_frames()
        return frames if self.waits else self._newest(frames)

    def _file_frames(self) -> Iterator[Frame]:
        """Every frame, with the time stamps of the file."""
        before, start = -math.inf, None
        while (image := self._image()) is not None:
            seconds = self._property(TIME) / 1000  # some files have none
            if seconds <= before:
                seconds = before + 1 / self.rate if math.isfinite(before) else 0.0
            start = seconds if start is None else start
            before = seconds
            yield Frame(image, self.read - 1, seconds - start, self._clock())
        if not self.read:
            raise ValueError(f"source: {self.name}: expected a video that OpenCV can read, got no image")

    def _camera_frames(self) -> Iterator[Frame]:
        """Every frame, with the time at which it arrived."""
        start = None
        while (image := self._image_again()) is not None:
            now = self._clock()
            start = now if start is None else start
            yield Frame(image, self.read - 1, now - start, now)
        raise OSError(
            f"{self.name}: the camera stopped after {self.read} images, and {TRIES} attempts to reopen failed"
        )

    def _image(self) -> np.ndarray | None:
        """The next image, or None."""
        good, image = self._capture.read()
        if not good or image is None:
            return None
        self.read += 1
        return np.ascontiguousarray(image[..., ::-1])

    def _image_again(self) -> np.ndarray | None:
        """The next image of a camera; a camera that stopped is opened again."""
        image = self._image()
        for _ in range(TRIES):
            if image is not None:
                break
            self._capture.release()
            self._sleep(WAIT_SECONDS)
            self._capture = self._open(self._address)
            image = self._image() if self._capture.isOpened() else None
        return image

    def _newest(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The newest frame at each request; a thread reads `frames`."""
        box = _Newest()
        self._thread = threading.Thread(target=self._fill, args=(frames, box), daemon=True)
        self._thread.start()
        try:
            while (frame := box.take(SILENT_SECONDS)) is not None:
                yield frame
            if box.error is not None:
                raise box.error
        except TimeoutError:
            raise OSError(f"{self.name}: no image for {SILENT_SECONDS:.0f} s") from None
        finally:
            box.stopped = True
            self._thread.join(STOP_SECONDS)

    def _fill(self, frames: Iterator[Frame], box: "_Newest") -> None:
        start = None
        try:
            for frame in frames:
                if self.is_file:  # at the speed of the recording
                    start = self._clock() if start is None else start
                    if (pause := start + frame.time - self._clock()) > 0:
                        self._sleep(pause)
                    frame.arrived = self._clock()
                if box.stopped:
                    return
                self.dropped += box.put(frame)
        except Exception as error:  # raised where the frames are used
            box.error = error
        finally:
            box.close()

    def close(self) -> None:
        """Release the camera, unless the thread is still reading from it, because this would crash."""
        if self._thread is None or not self._thread.is_alive():
            self._capture.release()

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Newest:
    """Passes the newest frame from one thread to another."""

    def __init__(self):
        self.frame: Frame | None = None
        self.error: Exception | None = None
        self.ended = self.stopped = False
        self.changed = threading.Condition()

    def put(self, frame: Frame) -> bool:
        """Replace the frame; returns whether the previous frame was not used."""
        with self.changed:
            lost = self.frame is not None
            self.frame = frame
            self.changed.notify()
        return lost

    def close(self) -> None:
        """Signal that no more frames follow."""
        with self.changed:
            self.ended = True
            self.changed.notify()

    def take(self, seconds: float) -> Frame | None:
        """The frame as soon as there is one; None at the end. Raises TimeoutError after `seconds`."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.frame is not None or self.ended, seconds):
                raise TimeoutError
            frame, self.frame = self.frame, None
            return frame
