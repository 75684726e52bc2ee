"""Drawing of persons and their labels into the images of a video file or a window."""

import colorsys
import os
import sys
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.poses.estimator import INSTALL
from data.poses.recording import Detection, Facts
from data.poses.video import Moment
from graph.body import Skeleton
from torchlight.system.packages import optional

UNSURE = 0.5  # score below which a joint is drawn hollow
MAX_PAUSE = 10.0  # maximum time in seconds for which a video repeats the last image
TITLE = "prediction"


def color_of(track: str) -> tuple[int, int, int]:
    """The color (RGB) of an id; ids 1, 2, 3, ... get clearly different colors."""
    number = int(track) if track.isascii() and track.isdigit() else zlib.crc32(track.encode())
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def pixels(person: Detection, facts: Facts) -> np.ndarray | None:
    """(V, 2) of a person in the image, or None if that is unknown."""
    if person.image is not None:
        return person.image
    if facts.axes != "image":
        return None
    share = facts.units == "share" and facts.image_size is not None
    return person.points[:, :2] * facts.image_size if share else person.points[:, :2]


def overlay(
    image: np.ndarray,
    persons: Sequence[Detection],
    labels: Mapping[str, Mapping[str, Any]],
    facts: Facts,
    skeleton: Skeleton | None = None,
    imputed: Collection[int] = (),
) -> np.ndarray:
    """A copy of the image (H, W, 3) uint8 RGB with skeletons in the colors of their ids, and the id, the label and its
    probability as a bar above each person.

    labels: {id: {"label", "p", "state"}}; the label of the id "" applies to all persons and is drawn at the top left.
    skeleton: for the bones. imputed: joints that no sensor measured; these joints and joints with a low score are drawn
    hollow. Needs OpenCV.
    """
    cv2 = optional("cv2", INSTALL)
    picture = np.ascontiguousarray(image.copy())
    unit = max(round(max(picture.shape[:2]) / 480), 1)
    for person in persons:
        points = pixels(person, facts)
        if points is None or np.isnan(points).all():
            continue
        color = color_of(str(person.track))
        places = {v: (round(float(x)), round(float(y))) for v, (x, y) in enumerate(points) if np.isfinite(x + y)}
        for joint, parent in skeleton.inward if skeleton else ():
            if joint in places and parent in places:
                cv2.line(picture, places[joint], places[parent], color, unit, cv2.LINE_AA)
        for v, at in places.items():
            hollow = v in imputed or (person.score is not None and person.score[v] < UNSURE)
            cv2.circle(picture, at, 2 * unit, color, unit if hollow else -1, cv2.LINE_AA)
        low = np.nanmin(points, 0)
        _caption(cv2, picture, (float(low[0]), float(low[1])), str(person.track), labels, color, unit)
    if "" in labels:
        _caption(cv2, picture, (0.0, 0.0), "", labels, (255, 255, 255), unit)
    return picture


def _caption(
    cv2: Any,
    picture: np.ndarray,
    corner: tuple[float, float],
    track: str,
    labels: Mapping[str, Mapping[str, Any]],
    color: tuple[int, int, int],
    unit: int,
) -> None:
    """Id, label and bar above `corner`, within the picture."""
    update = labels.get(track, {})
    words = f"{track} {update.get('label') or update.get('state') or ''}".strip()
    text = words.encode("ascii", "replace").decode()  # OpenCV draws no other characters
    scale = 0.45 * unit
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, unit)
    bar = 4 * unit
    box = (wide + 4 * unit, high + 8 * unit + bar)
    x = int(np.clip(corner[0], 0, max(picture.shape[1] - box[0], 0)))
    y = int(np.clip(corner[1] - box[1] - 6 * unit, 0, max(picture.shape[0] - box[1], 0)))
    area = picture[y : y + box[1], x : x + box[0]]
    area //= 3  # darker, so that the text can be read
    at = (x + 2 * unit, y + 2 * unit + high)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, color, unit, cv2.LINE_AA)
    p = update.get("p")
    if p is not None:
        top = y + box[1] - bar - unit
        end = x + 2 * unit + round(wide * float(np.clip(p, 0, 1)))
        cv2.rectangle(picture, (x + 2 * unit, top), (x + 2 * unit + wide, top + bar), (90, 90, 90), -1)
        cv2.rectangle(picture, (x + 2 * unit, top), (end, top + bar), color, -1)


class VideoFile:
    """An .mp4 file with a constant frame rate: images are repeated or dropped so that it plays at the speed of the
    source. It gets its final name when it is closed.

    Raises:
        ValueError: the suffix is not .mp4, or OpenCV cannot write the file.
    """

    def __init__(self, path: Path, rate: float):
        if path.suffix.lower() != ".mp4":
            raise ValueError(f"save_picture: expected a file name ending with .mp4, got {path}")
        self.path, self.rate = path, rate
        self.temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp.mp4")
        self.cv2 = optional("cv2", INSTALL)
        self.writer: Any = None
        self.size = (0, 0)
        self.written = 0

    def write(self, image: np.ndarray, time: float) -> None:
        """Add an image (RGB) that is shown from `time` (seconds) on."""
        if self.writer is None:
            self.size = (image.shape[1], image.shape[0])
            code = self.cv2.VideoWriter_fourcc(*"mp4v")
            self.writer = self.cv2.VideoWriter(str(self.temporary), code, self.rate, self.size)
            if not self.writer.isOpened():
                raise ValueError(f"save_picture: {self.path}: OpenCV cannot write this file")
        if (image.shape[1], image.shape[0]) != self.size:  # a camera that was opened again
            image = self.cv2.resize(image, self.size)
        due = int(time * self.rate) + 1
        self.written = max(self.written, due - int(MAX_PAUSE * self.rate))
        while self.written < due:
            self.writer.write(np.ascontiguousarray(image[..., ::-1]))
            self.written += 1

    def close(self) -> None:
        """Complete the file."""
        if self.writer is not None:
            self.writer.release()
            self.writer = None
            os.replace(self.temporary, self.path)


class Window:
    """A window with the images.

    Raises:
        ValueError: there is no display, or this OpenCV has no windows.
    """

    def __init__(self):
        # OpenCV would end the process without a display
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ValueError("show: expected a display, neither DISPLAY nor WAYLAND_DISPLAY is set")
        self.cv2 = optional("cv2", INSTALL)
        try:
            self.cv2.namedWindow(TITLE, self.cv2.WINDOW_NORMAL)
        except self.cv2.error as error:
            raise ValueError(
                "show: this OpenCV has no windows (opencv-python-headless); pip install opencv-python"
            ) from error

    def write(self, image: np.ndarray, time: float) -> None:
        """Show an image (RGB)."""
        self.cv2.imshow(TITLE, image[..., ::-1])
        if self.cv2.waitKey(1) & 0xFF in (27, ord("q")):
            raise KeyboardInterrupt  # ends the loop as Ctrl-C does

    def close(self) -> None:
        """Close the window."""
        self.cv2.destroyWindow(TITLE)


class Overlay:
    """Draws every moment that has an image and passes it to the outputs: `VideoFile`, `Window`."""

    def __init__(
        self,
        sinks: Sequence[VideoFile | Window],
        facts: Facts,
        skeleton: Skeleton | None = None,
        imputed: Collection[int] = (),
    ):
        self.sinks, self.facts, self.skeleton, self.imputed = sinks, facts, skeleton, imputed

    def show(self, moment: Moment, labels: dict[str, dict[str, Any]]) -> None:
        """Draw the persons of a moment and their labels."""
        if moment.image is not None:
            picture = overlay(moment.image, moment.persons, labels, self.facts, self.skeleton, self.imputed)
            for sink in self.sinks:
                sink.write(picture, moment.time)

    def close(self) -> None:
        """Complete files and close windows."""
        for sink in self.sinks:
            sink.close()
