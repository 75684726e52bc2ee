"""Self-contained HTML pages, and an interactive view of moving skeletons in them, with labels over time.

A page loads no other files. Its content security policy allows inline styles and pictures and a single script,
clip_view.js, which it identifies by its hash.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from torchlight.system.files import atomic, read_text
from torchlight.system.text import printable

HERE = Path(__file__).parent
MAX_FRAMES = 3000  # of a clip; only every n-th frame of longer clips is kept
MAX_TEXT = 120  # characters of a name
UNKNOWN_RATE = 20  # frames per second at which clip_view.js plays clips of unknown rate
UNSEEN, FULL = -32768, 32767  # int16: a missing joint, and the largest coordinate
VIEW = '<section class="view card"'
# the columns of (x, y, z) that point right, up and toward the viewer, and their signs: rotations, never reflections.
# Axes of a Kinect (y up) are seen from the sensor.
VIEWER = {
    "x": ((1, 0, 2), (-1, 1, 1)),
    "-x": ((1, 0, 2), (1, -1, 1)),
    "y": ((0, 1, 2), (-1, 1, -1)),
    "-y": ((0, 1, 2), (1, -1, -1)),
    "z": ((0, 2, 1), (1, 1, -1)),
    "-z": ((0, 2, 1), (1, -1, 1)),
}


@dataclass(frozen=True)
class ClipView:
    """A clip for the interactive view.

    points: (T, M, V, 2 or 3), right, up and toward the viewer (see `to_viewer`); NaN for a joint that was not seen.
    bones: pairs of joints. rate: frames per second; None: unknown, then UNKNOWN_RATE is used. left, right: joints of
    these sides. persons: names, may be empty. segments: (start, end, text, person), start and end in seconds. times:
    (n,) seconds. curves: [(name, (n,))], probabilities that are valid from each of these times on; NaN: unknown.
    """

    name: str
    points: np.ndarray
    bones: Sequence[tuple[int, int]]
    rate: float | None = None
    left: Sequence[int] = ()
    right: Sequence[int] = ()
    persons: Sequence[str] = ()
    segments: Sequence[tuple[float, float, str, str]] = ()
    times: Sequence[float] = ()
    curves: Sequence[tuple[str, Sequence[float]]] = ()


def to_viewer(points: np.ndarray, up: str, dims: int) -> np.ndarray:
    """Coordinates (..., C) of a clip as right, up and, in three dimensions, toward the viewer, (..., dims).

    up: the axis that points up: y, -y, z, ... dims: 2 for image coordinates, whose third channel is a score.

    >>> to_viewer(np.array([1.0, 2.0, 3.0]), "z", 3).tolist()
    [1.0, 3.0, -2.0]
    """
    if dims == 2:
        return points[..., :2] * [1, -1 if up.startswith("-") else 1]
    columns, signs = VIEWER[up]
    return points[..., list(columns)] * np.array(signs)


def without_empty(points: np.ndarray) -> np.ndarray:
    """Points (T, M, V, D) with NaN instead of zeros: for empty persons in 3-D, for single joints in 2-D."""
    unseen = (points == 0).all(-1, keepdims=True)
    if points.shape[-1] == 3:
        unseen = unseen.all(2, keepdims=True)
    return np.where(unseen, np.nan, points)


def render(views: Sequence[ClipView], play: bool = False) -> str:
    """The view of one or more clips, as HTML for the body of `write_page`; play: start playing immediately."""
    assert views
    text = json.dumps(
        {"play": play, "clips": [_encode(view) for view in views]}, allow_nan=False, separators=(",", ":")
    )
    text = text.replace("<", "\\u003c")  # so that no text can close the script element
    return (
        f'{VIEW} aria-label="Moving skeletons"><script type="application/json">{text}</script>'
        "<p>The moving skeletons need JavaScript.</p></section>"
    )


def write_page(out: Path, title: str, body: str) -> None:
    """Write a page with a light and a dark color scheme, completely or not at all; raises OSError.

    title: plain text. body: HTML.
    """
    policy = script = ""
    if VIEW in body:
        code = read_text(HERE / "clip_view.js")
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        policy, script = f"; script-src 'sha256-{digest}'", f"<script>{code}</script>\n"
    page = Template(read_text(HERE / "page.html"))
    with atomic(out, "w") as file:
        file.write(page.substitute(title=escape(_short(title)), body=body, policy=policy, script=script))


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "\u2026"


def _encode(view: ClipView) -> dict[str, Any]:
    """A clip as plain values; a coordinate is `center + scale * number`."""
    step = -(-len(view.points) // MAX_FRAMES)
    points = np.asarray(view.points, np.float64)[::step]
    present = ~np.isnan(points).all((0, 2, 3))
    points = points[:, present]
    seen = ~np.isnan(points).any(-1)
    low, high = (f(points[seen], 0) if seen.any() else np.zeros(points.shape[-1]) for f in (np.min, np.max))
    center = (low + high) / 2
    scale = max(float((high - low).max()) / 2 / FULL, 1e-12)
    numbers = np.where(seen[..., None], np.rint((np.nan_to_num(points) - center) / scale), UNSEEN).astype("<i2")
    sides = [1 if v in view.left else 2 if v in view.right else 0 for v in range(points.shape[2])]
    persons = [_short(name) for name, here in zip(view.persons, present, strict=False) if here]
    return {
        "name": _short(view.name),
        "rate": None if view.rate is None else view.rate / step,
        "shape": list(points.shape),
        "center": center.tolist(),
        "scale": scale,
        "points": base64.b64encode(numbers.tobytes()).decode(),
        "bones": [[int(a), int(b)] for a, b in view.bones],
        "sides": sides,
        "persons": persons if len(persons) > 1 else [],
        "segments": [
            [round(float(a), 3), round(float(b), 3), _short(text), _short(person)]
            for a, b, text, person in view.segments
        ],
        "times": [round(float(t), 3) for t in view.times],
        "curves": [[_short(name), [_number(p) for p in values]] for name, values in view.curves],
    }


def _number(p: float) -> float | None:
    return None if np.isnan(p) else round(float(p), 4)
