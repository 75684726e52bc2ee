"""Recipe `ctrgcn`: bodies tracked by their id, noise removed, one origin per clip.

The preparation of CTR-GCN (Chen et al., ICCV 2021), which most later work uses without changes. Published checkpoints
and scores depend on its peculiarities, so these are kept and documented here. All arithmetic is float32, which makes
the results bit-equal.
"""

from dataclasses import dataclass

import numpy as np

from data.clip import BadFile
from data.ntu.skeleton_file import Recording

SHORT = 11  # frames; a body that is present in at most this many frames is noise
WIDE = 0.8  # a pose is wide if its width is more than this times its height
ORIGIN = 1  # joint; its position in the first frame of actor 1 is the origin
WIDE_FRAMES = 0.69754  # a body with this share of wide poses is noise


@dataclass(eq=False)
class Track:
    """Poses (k, 25, 3) float32 of one body, the frame of the first pose, and the motion of the body (square meters)."""

    start: int
    poses: np.ndarray
    motion: float = 0.0

    @property
    def end(self) -> int:
        """The last frame."""
        return self.start + len(self.poses) - 1


def read_tracks(recording: Recording) -> tuple[list[Track], int]:
    """Tracks in order of first appearance, and the number of frames with a body (frames without one are not counted).

    A body that returns after an absence continues its track without a gap.
    """
    frames = [ids for ids in recording.ids if ids]
    poses = recording.poses.astype(np.float32)
    starts: dict[bytes, int] = {}
    rows: dict[bytes, list[int]] = {}
    row = 0
    for f, ids in enumerate(frames):
        if len(set(ids)) < len(ids):
            raise BadFile(f"frame {f}: expected distinct body ids, got one twice")
        for body in ids:
            starts.setdefault(body, f)
            rows.setdefault(body, []).append(row)
            row += 1
    return [Track(starts[body], poses[rows[body]]) for body in starts], len(frames)


def motion(poses: np.ndarray) -> np.float32:
    """Variance of x, y and z over all frames and joints, summed."""
    return poses.reshape(-1, 3).var(axis=0).sum()


def remove_noise(tracks: list[Track]) -> list[Track]:
    """Remove short tracks, and wide tracks while several are left; sort by motion, largest first. Raises BadFile."""
    for track in tracks:
        track.motion = motion(track.poses)
    tracks = [track for track in tracks if len(track.poses) > SHORT]
    if not tracks:
        raise BadFile(f"expected a body in more than {SHORT} frames, got several bodies in fewer")
    for track in list(tracks):
        if len(tracks) == 1:
            break
        extent = track.poses.max(axis=1) - track.poses.min(axis=1)  # (k, 3)
        good = extent[:, 0] <= np.float32(WIDE) * extent[:, 1]
        share = np.count_nonzero(~good) / len(good)
        if share >= WIDE_FRAMES:
            tracks.remove(track)
        elif share > 0:
            track.motion = min(track.motion, motion(track.poses[good]))
    return sorted(tracks, key=lambda track: -track.motion)


def _merge(tracks: list[Track], n: int) -> np.ndarray:
    """Assign tracks to two actors: (2, n, 25, 3).

    Each track is assigned to the first actor whose current interval it does not overlap; if there is none, it is
    dropped. Two peculiarities of the published code: one common frame is not an overlap, and the interval of the second
    actor always begins at frame 0.
    """
    actors = np.zeros((2, n, 25, 3), np.float32)
    actors[0, tracks[0].start : tracks[0].end + 1] = tracks[0].poses
    hulls = [(tracks[0].start, tracks[0].end), (0, 0)]
    for track in tracks[1:]:
        for actor, (start, end) in enumerate(hulls):
            if min(end, track.end) - max(start, track.start) <= 0:
                actors[actor, track.start : track.end + 1] = track.poses
                hulls[actor] = (min(start, track.start), max(end, track.end))
                break
    return actors


def assemble(recording: Recording) -> np.ndarray:
    """A recording as one or two actors, (1 or 2, T, 25, 3) float32, in meters relative to `ORIGIN`. Raises BadFile."""
    tracks, n = read_tracks(recording)
    if not tracks:
        raise BadFile("expected at least one body, got none")
    several = len(tracks) > 1
    if several:
        tracks = remove_noise(tracks)
    if len(tracks) == 1:
        actors = np.zeros((1, n, 25, 3), np.float32)
        actors[0, tracks[0].start : tracks[0].end + 1] = tracks[0].poses
    else:
        actors = _merge(tracks, n)
    if several:
        actors = actors[:, _row_sums(actors) != 0]
    return _translate(actors)


def _row_sums(actors: np.ndarray) -> np.ndarray:
    """Sum of each frame over actors, joints and channels, in the order of the published code."""
    return actors.transpose(1, 0, 2, 3).reshape(actors.shape[1], -1).sum(axis=1)


def _translate(actors: np.ndarray) -> np.ndarray:
    """Move the origin to `ORIGIN` of actor 1 in its first frame. Absent actors stay zero if there are two."""
    seen = np.flatnonzero(actors[0].any(axis=(1, 2)))
    if len(seen) == 0:
        raise BadFile("expected a first body with a position other than 0 0 0")
    moved = actors - actors[0, seen[0], ORIGIN]
    if len(actors) == 2:
        for actor in range(2):
            moved[actor, actors[actor].reshape(actors.shape[1], -1).sum(axis=1) == 0] = 0
    return moved
