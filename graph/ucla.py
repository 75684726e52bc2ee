"""Northwestern-UCLA: 20 joints of Kinect v1."""

from graph.body import BodyGraph, Skeleton

JOINTS, PARENTS = zip(
    # joint, parent
    ("hip center", 1),
    ("spine", 2),
    ("shoulder center", 2),
    ("head", 2),
    ("left shoulder", 2),
    ("left elbow", 4),
    ("left wrist", 5),
    ("left hand", 6),
    ("right shoulder", 2),
    ("right elbow", 8),
    ("right wrist", 9),
    ("right hand", 10),
    ("left hip", 0),
    ("left knee", 12),
    ("left ankle", 13),
    ("left foot", 14),
    ("right hip", 0),
    ("right knee", 16),
    ("right ankle", 17),
    ("right foot", 18),
    strict=True,
)

SKELETON = Skeleton(
    name="ucla",
    joints=JOINTS,
    parents=PARENTS,
    bone_parents=PARENTS,
    center=2,
    left=(4, 5, 6, 7, 12, 13, 14, 15),
    right=(8, 9, 10, 11, 16, 17, 18, 19),
)

# Arms, legs, trunk (SkateFormer).
GROUPS = ((4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15), (16, 17, 18, 19), (1, 2, 0, 3))


class Graph(BodyGraph):
    skeleton = SKELETON
