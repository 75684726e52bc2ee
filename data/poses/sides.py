"""A test whether 3-D poses are mirrored: the left shoulder must be to the left of the direction that the body faces."""

from collections.abc import Sequence

import numpy as np

from data.poses.recording import Recording
from graph.layouts import find_layout, words_of

TOES = ("foot index", "big toe", "foot")  # names of the joint at the tip of the foot; the first one that exists
LEAST = 0.5  # share of the poses of a recording whose left shoulder must be to the left
MIRRORED = "left and right do not match where the body faces: the poses are mirrored, or left and right are exchanged"


def is_mirrored(recording: Recording, layout: str | None = None) -> bool:
    """Whether a 3-D recording is mirrored; False if its joints do not show it. layout: overrides that of the file."""
    facts, shape = recording.facts, recording.points.shape
    name = layout or (None if facts.joints else facts.layout)
    joints = find_layout(name).skeleton.joints if name else facts.joints
    if shape[3] != 3 or facts.axes == "image" or shape[2] != len(joints):
        return False
    share = left_share(recording.points, joints)
    return share is not None and share < LEAST


def left_share(points: np.ndarray, joints: Sequence[str]) -> float | None:
    """Share of the poses (M, T, V, 3) whose left shoulder is to the left; None if no pose has the joints for it.

    The trunk points up, and the nose or else the tips of the feet to the front. The axes do not matter, as long as they
    are right-handed.
    """
    place = {words_of(joint): points[:, :, i] for i, joint in enumerate(joints)}
    sides = {
        name: [place[words_of(f"{side} {name}")] for side in ("left", "right")]
        for name in ("shoulder", "hip", "ear", "ankle", *TOES)
        if all(words_of(f"{side} {name}") in place for side in ("left", "right"))
    }
    if not {"shoulder", "hip"} <= sides.keys():
        return None
    center = {name: (left + right) / 2 for name, (left, right) in sides.items()} | {"nose": place.get(words_of("nose"))}
    pairs = [("nose", "ear"), *((toe, "ankle") for toe in TOES)]
    across, up = sides["shoulder"][0] - sides["shoulder"][1], center["shoulder"] - center["hip"]
    for front, back in pairs:
        if center.get(front) is not None and back in center:
            inside = (across * np.cross(up, center[front] - center[back])).sum(-1)
            if (known := np.isfinite(inside) & (inside != 0)).any():
                return float((inside[known] > 0).mean())
    return None
