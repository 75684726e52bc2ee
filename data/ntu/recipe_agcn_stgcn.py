"""Recipes `agcn` and `stgcn`: persons are identified by their position in each frame's list of bodies.

`agcn` (Shi et al., CVPR 2019; also MS-G3D): the first four positions are candidates; the two with the largest motion
energy are centered in each frame, rotated upright and repeated to 300 frames. `stgcn` (Yan et al., AAAI 2018): the
first two positions without changes, zeros after the end.
"""

import numpy as np

from data.clip import BadFile
from data.ntu.skeleton_file import Recording

WINDOW = 300  # frames of the published arrays
CANDIDATES = 4  # positions that `agcn` selects from


def read_positions(recording: Recording, count: int) -> np.ndarray:
    """The first `count` positions, (count, F, 25, 3) float64; absent bodies are zero.

    Raises:
        BadFile: more than 300 frames, which the published readers refuse.
    """
    F = len(recording.ids)
    if not 0 < F <= WINDOW:
        raise BadFile(f"expected 1 to {WINDOW} frames for this recipe, got {F}")
    slots = [(m, t) for t, ids in enumerate(recording.ids) for m in range(len(ids))]
    data = np.zeros((count, F, 25, 3))
    kept = [i for i, (m, _) in enumerate(slots) if m < count]
    if kept:
        m, t = np.array([slots[i] for i in kept]).T
        data[m, t] = recording.poses[kept]
    return data


def first_two(recording: Recording) -> np.ndarray:
    """Recipe `stgcn`: (2, F, 25, 3) float32."""
    return read_positions(recording, 2).astype(np.float32)


def best_two(recording: Recording) -> np.ndarray:
    """Recipe `agcn` before `normalize`: the two positions with the largest energy in order, (2, F, 25, 3) float32."""
    data = read_positions(recording, CANDIDATES)
    energy = np.array([_energy(poses) for poses in data])
    return data[energy.argsort()[::-1][:2]].astype(np.float32)


def _energy(poses: np.ndarray) -> float:
    """Standard deviation of x, y and z over the frames with a body, summed."""
    present = poses[poses.sum(axis=-1).sum(axis=-1) != 0]
    return present[..., 0].std() + present[..., 1].std() + present[..., 2].std() if len(present) else 0.0


def normalize(persons: np.ndarray) -> np.ndarray:
    """Center and rotate the persons of recipe `agcn`: (2, F, 25, 3) -> (2, P, 25, 3) float32, to be repeated to 300.

    P is the common period of both persons, or 300 if they have none.
    """
    persons = [person[: _end(person)] for person in map(_compact, persons)]
    lengths = {len(person) for person in persons if len(person)}
    if not lengths:
        return np.zeros((2, 1, 25, 3), np.float32)
    P = lengths.pop() if len(lengths) == 1 else WINDOW
    data = np.zeros((2, P, 25, 3), np.float32)
    for m, person in enumerate(persons):
        if len(person):
            data[m] = person[np.arange(P) % len(person)]
    occupied = [m for m in range(2) if data[m].sum() != 0]

    center = data[0, :, 1:2].copy()
    for m in occupied:
        # A joint counts as missing if the sum of its coordinates is exactly 0, even if the coordinates only cancel.
        data[m] = (data[m] - center) * (data[m].sum(-1, keepdims=True) != 0)
    _rotate(data, occupied, data[0, 0, 1] - data[0, 0, 0], np.array([0, 0, 1]))  # spine to z
    # Not a rotation about z: the spine is tilted again by the angle between the shoulders and the horizontal plane.
    _rotate(data, occupied, data[0, 0, 8] - data[0, 0, 4], np.array([1, 0, 0]))  # shoulders to x
    return data


def _compact(person: np.ndarray) -> np.ndarray:
    """Remove empty frames if the first is empty. The persons are then not synchronous, as in the published code."""
    filled = person.sum(-1).sum(-1) != 0
    return person if person.sum() == 0 or filled[0] else person[filled]


def _end(person: np.ndarray) -> int:
    """Number of frames up to the last one that is not empty."""
    filled = np.flatnonzero(person.sum(-1).sum(-1) != 0)
    return int(filled[-1]) + 1 if len(filled) and person.sum() != 0 else 0


def _rotate(data: np.ndarray, occupied: list[int], vector: np.ndarray, axis: np.ndarray) -> None:
    """Rotate the persons, in place, by the rotation that maps `vector` to `axis`."""
    R = rotation(np.cross(vector, axis), angle(vector, axis))
    data[occupied] = data[occupied] @ R.T


def angle(u: np.ndarray, v: np.ndarray) -> float:
    """Radians between two vectors; 0 where one of them is shorter than 1e-6."""
    if np.abs(u).sum() < 1e-6 or np.abs(v).sum() < 1e-6:
        return 0.0
    return float(np.arccos(np.clip(np.dot(u / np.linalg.norm(u), v / np.linalg.norm(v)), -1.0, 1.0)))


def rotation(axis: np.ndarray, theta: float) -> np.ndarray:
    """Right-handed rotation about `axis` by `theta` radians (Rodrigues), (3, 3) float64; identity if either is 0."""
    if np.abs(axis).sum() < 1e-6 or abs(theta) < 1e-6:
        return np.eye(3)
    x, y, z = axis / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(theta) * K + (1 - np.cos(theta)) * (K @ K)
