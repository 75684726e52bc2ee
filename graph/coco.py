"""COCO: 17 joints, the output of 2-D pose estimators such as HRNet."""

from graph.body import BodyGraph, Skeleton

JOINTS, PARENTS, BONE_PARENTS = zip(
    # joint, parent, bone parent
    ("nose", 0, 0),
    ("left eye", 0, 0),
    ("right eye", 0, 0),
    ("left ear", 1, 1),
    ("right ear", 2, 2),
    ("left shoulder", 0, 0),
    ("right shoulder", 0, 0),
    ("left elbow", 5, 5),
    ("right elbow", 6, 6),
    ("left wrist", 7, 7),
    ("right wrist", 8, 8),
    ("left hip", 5, 0),
    ("right hip", 6, 0),
    ("left knee", 11, 11),
    ("right knee", 12, 12),
    ("left ankle", 13, 13),
    ("right ankle", 14, 14),
    strict=True,
)

# In TSGCNeXt's 2-D data the bones of the hips start at the shoulders, as in the graph; the column above follows pyskl.
BONE_PARENTS_TSGCNEXT = PARENTS

SKELETON = Skeleton(
    name="coco",
    joints=JOINTS,
    parents=PARENTS,
    bone_parents=BONE_PARENTS,
    center=0,
    left=(1, 3, 5, 7, 9, 11, 13, 15),
    right=(2, 4, 6, 8, 10, 12, 14, 16),
)

# The 13 joints shared with NTU RGB+D, in the order of ntu_rgb_d.COMMON_JOINTS (TSGCNeXt, "unify").
COMMON_JOINTS = (0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)

# Arms, legs, face; the ears are left out (our choice for SkateFormer).
GROUPS = ((5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16), (0, 1, 2))

# The limbs of PoseConv3D, one heatmap each, in the order of its limb streams. Each limb of the left side has a partner
# on the right side. LIMBS_DEFAULT is the order that its code uses if a configuration lists no limbs (NTU RGB+D 120,
# joint).
LIMBS = ((0, 5), (0, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (11, 13), (13, 15), (6, 12), (12, 14), (14, 16))
LIMBS += ((0, 1), (0, 2), (1, 3), (2, 4), (11, 12))
LEFT_LIMBS, RIGHT_LIMBS = (0, 2, 3, 6, 7, 8, 12, 14), (1, 4, 5, 9, 10, 11, 13, 15)
LIMBS_DEFAULT = ((0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (5, 7), (7, 9), (0, 6), (6, 8), (8, 10), (5, 11), (11, 13))
LIMBS_DEFAULT += ((13, 15), (6, 12), (12, 14), (14, 16), (11, 12))
LEFT_LIMBS_DEFAULT, RIGHT_LIMBS_DEFAULT = (0, 2, 4, 5, 6, 10, 11, 12), (1, 3, 7, 8, 9, 13, 14, 15)


class Graph(BodyGraph):
    skeleton = SKELETON
