"""Poses as JSON lines, one line per frame, for example from another running program.

    {"layout": "coco_17", "axes": "image", "units": "px", "image_size": [1280, 720]}
    {"t": 0.033, "persons": [{"id": 1, "keypoints": [[512.0, 200.5, 0.9], [508.1, 195.2], null, ...]}]}

The first line is optional and describes the points: layout or joints, axes (default: image), units (default: px),
image_size. Key points are [x, y] with the axes `image` and [x, y, z] with other axes, followed by an optional score;
null where a joint was not seen. Ids are optional; without ids, persons are tracked.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from data.poses.image_files import LAYOUTS
from data.poses.recording import Detection, Facts, PoseFileError
from data.poses.video import Moment
from graph.layouts import find_layout
from torchlight.system.files import parse_json
from torchlight.system.text import quote

MAX_LINE, MAX_PERSONS = 4 * 2**20, 100
AXES = ("image", "camera", "kinect", "smpl", "y_up", "world_z_up")
UNITS = ("px", "share", "m", "cm", "mm", "unknown")
HEADER = {"layout", "joints", "axes", "units", "image_size"}


class PoseLines:
    """The moments in a text stream. The first line is read at construction, so `facts` are available immediately.

    origin: name of the stream in messages, which also contain the number of the line.

    Raises:
        PoseFileError: a line is damaged; also raised during iteration, after the moments before this line.
    """

    def __init__(self, file: IO[str], origin: str = "standard input", clock: Callable[[], float] = time.perf_counter):
        self.file, self.origin, self.clock = file, origin, clock
        self.line = 0
        self.first = self._read()
        self.facts = Facts("JSON lines")
        self.joints: int | None = None  # number of joints; without a header, that of the first person
        if self.first is not None and "t" not in self.first:
            self._describe(self.first)
            self.first = self._read()
        elif self.first is not None:
            self._assume(self.first)

    def __iter__(self) -> Iterator[Moment]:
        entry, before, number = self.first, -math.inf, 0
        while entry is not None:
            arrived = self.clock()
            moment = Moment(self._time(entry, before), number, self._persons(entry), arrived)
            before, number = moment.time, number + 1
            yield moment
            entry = self._read()

    def _fail(self, message: str) -> PoseFileError:
        return PoseFileError(f"{self.origin}: line {self.line}: {message}")

    def _read(self) -> dict[str, Any] | None:
        """The next line that is not empty, or None at the end."""
        while text := self._text():
            self.line += 1
            if len(text) > MAX_LINE:
                raise self._fail(f"expected at most {MAX_LINE} characters")
            if text.strip():
                try:
                    value = parse_json(text, f"{self.origin}: line {self.line}")
                except ValueError as error:
                    raise PoseFileError(str(error)) from error
                if not isinstance(value, dict):
                    raise self._fail(f"expected a JSON object, got {quote(value)}")
                return value
        return None

    def _text(self) -> str:
        try:
            return self.file.readline(MAX_LINE + 1)
        except UnicodeDecodeError as error:
            raise self._fail(f"expected UTF-8 text in the lines after this one ({error.reason})") from error

    def _describe(self, header: dict[str, Any]) -> None:
        """The facts of the first line."""
        if unknown := sorted(set(header) - HEADER):
            raise self._fail(f"expected {', '.join(sorted(HEADER))} or a frame with t, got {', '.join(unknown[:4])}")
        facts = self.facts
        if "layout" in header:
            try:
                layout = find_layout(str(header["layout"]))
            except ValueError as error:
                raise self._fail(str(error)) from error
            facts.layout, self.joints = layout.name, layout.num_joint
        elif "joints" in header:
            names = header["joints"]
            if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                raise self._fail("joints: expected a list of names")
            facts.joints, self.joints = tuple(names), len(names)
        facts.axes = self._choice(header, "axes", "image", AXES)
        facts.units = self._choice(header, "units", "px" if facts.axes == "image" else "m", UNITS)
        size = header.get("image_size")
        if size is not None:
            if not isinstance(size, list) or len(size) != 2 or not all(type(x) is int and x > 0 for x in size):
                raise self._fail(f"image_size: expected [width, height] in pixels, got {quote(size)}")
            facts.image_size = tuple(size)

    def _choice(self, header: dict[str, Any], key: str, default: str, known: tuple[str, ...]) -> str:
        value = header.get(key, default)
        if value not in known:
            raise self._fail(f"{key}: expected {', '.join(known)}, got {quote(value)}")
        return value

    def _assume(self, entry: dict[str, Any]) -> None:
        """The layout from the number of joints of the first person, where no line describes the points."""
        persons = entry.get("persons")
        first = persons[0] if isinstance(persons, list) and persons and isinstance(persons[0], dict) else {}
        marks = first.get("keypoints")
        count = len(marks) if isinstance(marks, list) else None
        if count not in LAYOUTS:
            raise self._fail("expected a first line with the layout, for example {" + '"layout": "coco_17"}')
        self.facts.layout, self.joints = LAYOUTS[count], count
        self.facts.guessed.append(f"layout {LAYOUTS[count]}, from the number of joints")

    def _time(self, entry: dict[str, Any], before: float) -> float:
        seconds = entry.get("t")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
            raise self._fail(f"t: expected seconds, got {quote(seconds)}")
        if seconds <= before:
            raise self._fail(f"t: expected more than {before}, got {seconds}")
        return float(seconds)

    def _persons(self, entry: dict[str, Any]) -> list[Detection]:
        persons = entry.get("persons")
        if not isinstance(persons, list) or len(persons) > MAX_PERSONS:
            raise self._fail(f"persons: expected a list of at most {MAX_PERSONS}, got {quote(persons)}")
        found = [self._person(person) for person in persons]
        found = [person for person in found if np.isfinite(person.points).any()]
        names = [person.track for person in found if person.track is not None]
        if len(set(names)) < len(names):
            raise self._fail(f"id: expected one person per id, got {', '.join(sorted(names)[:8])}")
        return found

    def _person(self, person: Any) -> Detection:
        marks = person.get("keypoints") if isinstance(person, dict) else None
        if not isinstance(marks, list) or (self.joints is not None and len(marks) != self.joints):
            got = len(marks) if isinstance(marks, list) else quote(person)
            joints = "joints" if self.joints is None else f"{self.joints} joints"
            raise self._fail(f"keypoints: expected a list of {joints}, got {got}")
        self.joints = len(marks)
        dims = 2 if self.facts.axes == "image" else 3
        table = np.full((len(marks), dims + 1), np.nan, np.float32)
        table[:, dims] = 0
        for mark, row in zip(marks, table, strict=True):
            if mark is None:
                continue
            numbers = isinstance(mark, list) and all(type(x) in (int, float) and abs(x) < 1e9 for x in mark)
            if not numbers or not dims <= len(mark) <= dims + 1:
                raise self._fail(f"keypoints: expected {dims} coordinates and an optional score, got {quote(mark)}")
            row[: len(mark)] = mark
            row[dims] = mark[dims] if len(mark) > dims else 1
        name = person.get("id")
        if name is not None and (isinstance(name, bool) or not isinstance(name, int | str)):
            raise self._fail(f"id: expected a number or text, got {quote(name)}")
        score = table[:, dims].copy()
        return Detection(table[:, :dims].copy(), score, None if name is None else str(name), float(score.mean()))
