"""NTU RGB+D's raw text files, `SsssCcccPpppRrrrAaaa.skeleton`.

    F                                       frames
      B                                     bodies in this frame, may be 0
        id, 9 numbers                       body
        25                                  joints
          x y z (meters), 9 numbers         joint: depth and color pixels, orientation, state

Only the ids and x y z are used; the other numbers may have any value (the Kinect sometimes writes infinite pixels).
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from data.clip import BadFile, check_coordinates
from data.raw_files import read_raw
from torchlight.system.text import quote

JOINTS, FIELDS = 25, 12
MAX_BYTES = 16 << 20  # a recording takes less than 10 MB
MAX_FRAMES = 100_000  # an hour


@dataclass(eq=False)
class Recording:
    """The bodies of one file in the order of the file: `ids[t]` are the body ids of frame t, `poses` (bodies of all
    frames, 25, 3) float64."""

    ids: list[list[bytes]]
    poses: np.ndarray


def read_recording(path: Path) -> Recording:
    """Read a raw file; raises BadFile with the number of the wrong line."""
    lines = read_raw(path, MAX_BYTES).split(b"\n")
    ids: list[list[bytes]] = []
    joints: list[bytes] = []
    at = 1
    if (F := _count(lines, 0, "frames")) > MAX_FRAMES:
        raise BadFile(f"line 1: expected at most {MAX_FRAMES} frames, got {F}")
    for _ in range(F):
        bodies = _count(lines, at, "bodies")
        at += 1
        frame = []
        for _ in range(bodies):
            if at + 2 + JOINTS > len(lines):
                raise BadFile("ends within a body (truncated?)")
            if _count(lines, at + 1, "joints") != JOINTS:
                raise BadFile(f"line {at + 2}: expected {JOINTS} joints, got {int(lines[at + 1])}")
            fields = lines[at].split(None, 1)
            if len(fields) != 2:
                raise BadFile(f"line {at + 1}: expected the id and state of a body")
            frame.append(fields[0])
            joints += lines[at + 2 : at + 2 + JOINTS]
            at += 2 + JOINTS
        ids.append(frame)
    if any(line.strip() for line in lines[at:]):
        raise BadFile(f"line {at + 1}: expected the end after {len(ids)} frames")
    return Recording(ids, _poses(joints))


def _count(lines: list[bytes], at: int, what: str) -> int:
    if at >= len(lines) or (at == len(lines) - 1 and not lines[at].strip()):
        raise BadFile(f"ends before the number of {what} (truncated?)")
    text = lines[at].strip()
    if not text.isdigit() or len(text) > 9:
        got = quote(text[:20].decode("latin1"))
        raise BadFile(f"line {at + 1}: expected the number of {what}, got {got}")
    return int(text)


def _poses(joints: list[bytes]) -> np.ndarray:
    """(bodies, 25, 3) float64"""
    # Counting over all lines at once is fast; only if the count is wrong, the file is checked line by line.
    if b" ".join(joints).count(b" ") != FIELDS * len(joints) - 1:
        for line in joints:
            if len(line.split()) != FIELDS:
                raise BadFile(f"expected {FIELDS} numbers for each joint, got {len(line.split())}")
    try:
        numbers = np.array(list(map(float, chain.from_iterable([line.split(None, 3)[:3] for line in joints]))))
        poses = numbers.reshape(-1, JOINTS, 3)
    except ValueError:
        raise BadFile("expected three numbers as x y z of each joint, got something else") from None
    check_coordinates(poses)
    return poses
