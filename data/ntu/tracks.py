"""Recipe `ctrgcn`: bodies followed by their id, false bodies removed, one origin per clip.

The preparation of CTR-GCN (Chen et al., ICCV 2021), used unchanged by most work since; published checkpoints and scores rest on its quirks,
so they are kept and named here. Arithmetic is float32 from the first number on, which makes the results equal bit by bit.
"""

from dataclasses import dataclass

import numpy as np

from data.ntu.skeleton_file import Recording
from data.store import BadFile

SHORT = 11  # frames: a body seen no longer is noise
WIDE = 0.8  # a pose wider than this times its height is no standing or sitting person (metres per metre)
WIDE_FRAMES = 0.69754  # a body with this share of wide poses is noise


@dataclass(eq=False)
class Track:
    """Poses (k, 25, 3) float32 of one body, the frame of the first, and how much it moves (square metres)."""

    start: int
    poses: np.ndarray
    motion: float = 0.0

    @property
    def end(self) -> int:
        return self.start + len(self.poses) - 1


def read_tracks(recording: Recording) -> tuple[list[Track], int]:
    """Tracks in the order of first sighting, and the number of frames that hold a body (others do not count).

    A body that comes back after an absence continues its track without a gap: poses are counted, not placed.
    """
    frames = [ids for ids in recording.ids if ids]
    poses = recording.poses.astype(np.float32)
    starts: dict[bytes, int] = {}
    rows: dict[bytes, list[int]] = {}
    row = 0
    for f, ids in enumerate(frames):
        if len(set(ids)) < len(ids):
            raise BadFile(f"frame {f} lists one body id twice")
        for body in ids:
            starts.setdefault(body, f)
            rows.setdefault(body, []).append(row)
            row += 1
    return [Track(starts[body], poses[rows[body]]) for body in starts], len(frames)


def motion(poses: np.ndarray) -> np.float32:
    """Variance of x, y and z over all frames and joints, summed."""
    return poses.reshape(-1, 3).var(axis=0).sum()


def remove_noise(tracks: list[Track]) -> list[Track]:
    """Drop short and wide tracks as long as more than one is left; the rest by motion, the most first. Raises BadFile: none is left."""
    for track in tracks:
        track.motion = motion(track.poses)
    tracks = [track for track in tracks if len(track.poses) > SHORT]
    if not tracks:
        raise BadFile(f"holds several bodies, none seen for more than {SHORT} frames")
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
    """Lay tracks out as two actors: (2, n, 25, 3).

    Each track goes to the first actor whose interval so far it does not overlap, else it is lost. Sharing one frame is no overlap, and the
    second actor's interval begins at frame 0 whenever its body appears: two slips of the original that its numbers carry.
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
    """A recording as one or two actors, (1 or 2, T, 25, 3) float32 in metres from the first actor's first spine. Raises BadFile."""
    tracks, n = read_tracks(recording)
    if not tracks:
        raise BadFile("holds no body")
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
    """Sum of each frame over all actors, joints and channels in the order of the original's rows."""
    return actors.transpose(1, 0, 2, 3).reshape(actors.shape[1], -1).sum(axis=1)


def _translate(actors: np.ndarray) -> np.ndarray:
    """Move the origin to joint 1 of actor 1 in its first frame; frames where one of two actors is absent stay zero."""
    seen = np.flatnonzero(actors[0].any(axis=(1, 2)))
    if len(seen) == 0:
        raise BadFile("the first body has no position other than 0 0 0")
    moved = actors - actors[0, seen[0], 1]
    if len(actors) == 2:
        for actor in range(2):
            moved[actor, actors[actor].reshape(actors.shape[1], -1).sum(axis=1) == 0] = 0
    return moved
