"""A MediaPipe recording of two persons, and stand-ins for cameras and estimators."""

from pathlib import Path

import numpy as np

from data.poses.recording import Detection, Facts

RECORDED = Path(__file__).parent / "golden/two_people.npz"
NOBODY, MAN, WOMAN = -1, 0, 1


class Recorded:
    """The detections of MediaPipe in a video of a man who dances and jumps and a woman who walks by: 230 frames at 30
    per second. `person` was labeled by hand."""

    def __init__(self):
        with np.load(RECORDED) as file:
            self.frame, self.person, self.rate = file["frame"], file["person"], float(file["rate"])
            self.size = tuple(file["image_size"].tolist())
            self.image = file["image"].astype(np.float32) * np.array(self.size, np.float32)  # (n, 33, 2) pixels
            self.world = file["world"].astype(np.float32)  # (n, 33, 3) meters
            self.visibility = file["visibility"].astype(np.float32) / 255
        self.facts = Facts("test", "mediapipe_pose_33", axes="camera", units="m", image_size=self.size)

    def detections(self, number: int) -> list[Detection]:
        """The persons of a frame; `confidence` is the true number of the person."""
        return [
            Detection(self.world[i], self.visibility[i], confidence=float(self.person[i]), image=self.image[i])
            for i in np.flatnonzero(self.frame == number)
        ]


class Clock:
    """A clock that advances only in `sleep`."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Capture:
    """An OpenCV capture of images whose pixels contain their number; images: those that remain, None: a failure."""

    def __init__(self, images: list[int | None], rate: float = 30.0, times: list[float] | None = None):
        self.images, self.rate, self.times = list(images), rate, times or []
        self.length = len(self.images)
        self.opened, self.released, self.count = True, False, 0

    def isOpened(self) -> bool:
        return self.opened

    def release(self) -> None:
        self.released = True

    def get(self, property: int) -> float:
        milliseconds = self.times[self.count - 1] * 1000 if self.times and self.count else 0.0
        return {0: milliseconds, 5: self.rate, 7: float(self.length)}[property]

    def read(self) -> tuple[bool, np.ndarray | None]:
        value = self.images.pop(0) if self.images else None
        if value is None:
            return False, None
        self.count += 1
        return True, np.full((4, 6, 3), (1, 2, value % 256), np.uint8)  # BGR
