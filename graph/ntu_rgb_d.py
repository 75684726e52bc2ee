"""NTU RGB+D 60 and 120: 25 joints of Kinect v2.

The tip of a hand is connected to the thumb, which is anatomically wrong; published weights expect this graph.
"""

from graph.body import BodyGraph, Skeleton

JOINTS, PARENTS = zip(
    # joint, parent
    ("base of spine", 1),
    ("middle of spine", 20),
    ("neck", 20),
    ("head", 2),
    ("left shoulder", 20),
    ("left elbow", 4),
    ("left wrist", 5),
    ("left hand", 6),
    ("right shoulder", 20),
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
    ("spine at shoulders", 20),
    ("tip of left hand", 22),
    ("left thumb", 7),
    ("tip of right hand", 24),
    ("right thumb", 11),
    strict=True,
)

SKELETON = Skeleton(
    name="ntu_rgb_d",
    joints=JOINTS,
    parents=PARENTS,
    bone_parents=PARENTS,
    center=20,
    left=(4, 5, 6, 7, 12, 13, 14, 15, 21, 22),
    right=(8, 9, 10, 11, 16, 17, 18, 19, 23, 24),
)

# The 13 joints shared with COCO, in the order of coco.COMMON_JOINTS (TSGCNeXt, "unify").
COMMON_JOINTS = (3, 4, 8, 5, 9, 6, 10, 12, 16, 13, 17, 14, 18)

# Arms, legs, shoulders and elbows, trunk; joint 20 is left out (SkateFormer).
GROUPS = ((6, 7, 21, 22), (10, 11, 23, 24), (12, 13, 14, 15), (16, 17, 18, 19), (4, 8, 5, 9), (1, 2, 0, 3))

# The bones of SkateFormer; those of 1, 20, 21 and 23 differ from the column above.
BONE_PARENTS_SKATEFORMER = (1, 1, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11)


class Graph(BodyGraph):
    skeleton = SKELETON
