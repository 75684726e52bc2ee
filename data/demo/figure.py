"""A synthetic figure with the 25 joints of Kinect v2: bones, rotations and eight actions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Joint: (parent, bone from the parent in meters), for a performer of 1.7 m who stands upright with the arms down. Axes:
# x left, y up, -z front; `pose` returns the axes of Kinect, in which x is to the right of a performer who faces it.
BONES: dict[int, tuple[int, tuple[float, float, float]]] = {
    1: (0, (0, 0.28, 0)),
    20: (1, (0, 0.24, 0)),
    2: (20, (0, 0.08, 0)),
    3: (2, (0, 0.15, 0)),
    4: (20, (0.17, -0.03, 0)),
    5: (4, (0, -0.27, 0)),
    6: (5, (0, -0.24, 0)),
    7: (6, (0, -0.07, 0)),
    21: (7, (0, -0.08, 0)),
    22: (7, (0, -0.04, -0.05)),
    8: (20, (-0.17, -0.03, 0)),
    9: (8, (0, -0.27, 0)),
    10: (9, (0, -0.24, 0)),
    11: (10, (0, -0.07, 0)),
    23: (11, (0, -0.08, 0)),
    24: (11, (0, -0.04, -0.05)),
    12: (0, (0.09, -0.02, 0)),
    13: (12, (0, -0.42, 0)),
    14: (13, (0, -0.4, 0)),
    15: (14, (0, -0.06, -0.12)),
    16: (0, (-0.09, -0.02, 0)),
    17: (16, (0, -0.42, 0)),
    18: (17, (0, -0.4, 0)),
    19: (18, (0, -0.06, -0.12)),
}
SPINE = 0
L_SHOULDER, L_ELBOW, R_SHOULDER, R_ELBOW = 4, 5, 8, 9
L_HIP, L_KNEE, R_HIP, R_KNEE = 12, 13, 16, 17

Angles = dict[int, np.ndarray]


@dataclass(frozen=True)
class Action:
    """angles: phase (T,) in radians -> joint rotations (T, 3) about x, y, z, spine base height (T,) in meters."""

    angles: Callable[[np.ndarray], tuple[Angles, np.ndarray]]
    cycles: float  # periods in a clip of average speed
    partner: bool = False


def rotations(angles: np.ndarray) -> np.ndarray:
    """Angles (T, 3) about x, y, z in radians -> Rz Ry Rx, (T, 3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles).T, np.sin(angles).T
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def pose(angles: Angles, height: np.ndarray, bones: dict[int, np.ndarray]) -> np.ndarray:
    """Forward kinematics: joint angles -> positions (T, 25, 3) in meters, spine base at (0, height, 0)."""
    T = len(height)
    still = np.zeros((T, 3))
    rotated = {SPINE: rotations(angles.get(SPINE, still))}
    joints = np.zeros((T, 25, 3))
    joints[:, 0, 1] = height
    for joint, (parent, _) in BONES.items():
        # The spine base rotates only the trunk; the hips belong to the pelvis, which is always level.
        frame = np.eye(3) if parent == SPINE and joint in (L_HIP, R_HIP) else rotated[parent]
        joints[:, joint] = joints[:, parent] + frame @ bones[joint]
        rotated[joint] = frame @ rotations(angles.get(joint, still))
    return joints * (-1, 1, 1)


def _angles(x: np.ndarray, y: float | np.ndarray = 0.0, z: float | np.ndarray = 0.0) -> np.ndarray:
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1).astype(float)


def _wave(p: np.ndarray) -> tuple[Angles, np.ndarray]:
    return {R_SHOULDER: _angles(0 * p, 0, -1.6), R_ELBOW: _angles(0 * p, 0, -1.2 + 0.6 * np.sin(p))}, 0 * p


def _clap(p: np.ndarray) -> tuple[Angles, np.ndarray]:
    open_ = 0.35 * (1 + np.sin(p))
    arms = {L_SHOULDER: _angles(1.2 + 0 * p, open_, 0), R_SHOULDER: _angles(1.2 + 0 * p, -open_, 0)}
    return arms | {L_ELBOW: _angles(0.4 + 0 * p), R_ELBOW: _angles(0.4 + 0 * p)}, 0 * p


def _march(p: np.ndarray) -> tuple[Angles, np.ndarray]:
    left, right = np.maximum(np.sin(p), 0), np.maximum(-np.sin(p), 0)
    legs = {
        L_HIP: _angles(1.1 * left),
        L_KNEE: _angles(-1.3 * left),
        R_HIP: _angles(1.1 * right),
        R_KNEE: _angles(-1.3 * right),
    }
    return legs | {L_SHOULDER: _angles(0.7 * right - 0.3 * left), R_SHOULDER: _angles(0.7 * left - 0.3 * right)}, 0 * p


def _kick(p: np.ndarray) -> tuple[Angles, np.ndarray]:
    swing = 0.5 - 0.8 * np.cos(p)
    leg = {R_HIP: _angles(swing), R_KNEE: _angles(-0.9 * np.maximum(np.cos(p), 0))}
    return leg | {L_SHOULDER: _angles(0.3 * swing, 0, 0.3), R_SHOULDER: _angles(-0.3 * swing, 0, -0.3)}, 0 * p


def _bow(p: np.ndarray) -> tuple[Angles, np.ndarray]:
    bend = 0.55 * (1 - np.cos(p))
    return {SPINE: _angles(-bend), L_SHOULDER: _angles(0.5 * bend), R_SHOULDER: _angles(0.5 * bend)}, 0 * p


def _seat(down: np.ndarray) -> tuple[Angles, np.ndarray]:
    """A pose between standing (0) and sitting (1)."""
    legs = {hip: _angles(1.45 * down) for hip in (L_HIP, R_HIP)} | {
        knee: _angles(-1.45 * down) for knee in (L_KNEE, R_KNEE)
    }
    lean = -0.6 * np.sin(np.pi * down)
    return legs | {SPINE: _angles(lean), L_SHOULDER: _angles(0.8 * down), R_SHOULDER: _angles(0.8 * down)}, -0.4 * down


def _ramp(p: np.ndarray) -> np.ndarray:
    return (1 - np.cos(np.clip(p, 0, 2 * np.pi) / 2)) / 2


def _shake_hands(p: np.ndarray) -> tuple[Angles, np.ndarray]:
    return {R_SHOULDER: _angles(0.7 + 0.12 * np.sin(2 * p)), R_ELBOW: _angles(0.7 + 0.25 * np.sin(2 * p))}, 0 * p


# In the order of classes.txt. Sitting down and standing up pass through the same poses in opposite order.
ACTIONS = (
    Action(_wave, 3),
    Action(_clap, 3),
    Action(_march, 2.5),
    Action(_kick, 2),
    Action(_bow, 1),
    Action(lambda p: _seat(_ramp(p)), 1),
    Action(lambda p: _seat(1 - _ramp(p)), 1),
    Action(_shake_hands, 2, partner=True),
)
ONCE = (4, 5, 6)  # actions that are performed once in a clip and therefore start near phase 0
