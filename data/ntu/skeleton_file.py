"""NTU RGB+D's raw text files, `SsssCcccPpppRrrrAaaa.skeleton`.

    F                                       frames
      B                                     bodies in this frame, may be 0
        id, 9 numbers                       body
        25                                  joints
          x y z (metres), 9 numbers         joint: depth and colour pixels, orientation, state

Only the ids and x y z are used; the other numbers may be anything (the Kinect writes infinite pixels at times).
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from data.store import BadFile, refuse_absurd

JOINTS, FIELDS = 25, 12
MAX_BYTES = 64 << 20  # a minute with six bodies takes a quarter of this


@dataclass(eq=False)
class Recording:
    """Bodies of one file in the order they are listed: `ids[t]` the body ids of frame t, `poses` (sum of bodies, 25, 3) float64."""

    ids: list[list[bytes]]
    poses: np.ndarray


def read_recording(path: Path) -> Recording:
    """Read a raw file; raises BadFile with the line that is wrong."""
    if path.stat().st_size > MAX_BYTES:
        raise BadFile(f"larger than {MAX_BYTES >> 20} MB; a recording takes less than 10")
    lines = path.read_bytes().split(b"\n")
    ids: list[list[bytes]] = []
    joints: list[bytes] = []
    at = 1
    for _ in range(_count(lines, 0, "frames")):
        bodies = _count(lines, at, "bodies")
        at += 1
        frame = []
        for _ in range(bodies):
            if at + 2 + JOINTS > len(lines):
                raise BadFile("ends in the middle of a body (truncated?)")
            if _count(lines, at + 1, "joints") != JOINTS:
                raise BadFile(f"line {at + 2}: found {int(lines[at + 1])} joints; {JOINTS} are needed")
            fields = lines[at].split(None, 1)
            if len(fields) != 2:
                raise BadFile(f"line {at + 1}: found no body id and state")
            frame.append(fields[0])
            joints += lines[at + 2 : at + 2 + JOINTS]
            at += 2 + JOINTS
        ids.append(frame)
    if any(line.strip() for line in lines[at:]):
        raise BadFile(f"line {at + 1}: goes on after its {len(ids)} frames")
    return Recording(ids, _poses(joints))


def _count(lines: list[bytes], at: int, what: str) -> int:
    if at >= len(lines) or (at == len(lines) - 1 and not lines[at].strip()):
        raise BadFile(f"ends where a number of {what} is due (truncated?)")
    text = lines[at].strip()
    if not text.isdigit() or len(text) > 9:
        raise BadFile(
            f"line {at + 1}: found {text[:20].decode('ascii', 'replace')!r} where the number of {what} is due"
        )
    return int(text)


def _poses(joints: list[bytes]) -> np.ndarray:
    """(bodies, 25, 3) float64"""
    # One count over all lines costs next to nothing; only a file that fails it is looked at line by line.
    if b" ".join(joints).count(b" ") != FIELDS * len(joints) - 1:
        for line in joints:
            if len(line.split()) != FIELDS:
                raise BadFile(f"found a joint with {len(line.split())} numbers; {FIELDS} are needed")
    try:
        numbers = np.array(list(map(float, chain.from_iterable([line.split(None, 3)[:3] for line in joints]))))
        poses = numbers.reshape(-1, JOINTS, 3)
    except ValueError:
        raise BadFile("found a joint whose x y z are not three numbers") from None
    refuse_absurd(poses)
    return poses
