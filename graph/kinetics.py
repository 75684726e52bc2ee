"""Kinetics-Skeleton: 18 joints of OpenPose.

The root of the graph is the neck, and hips are connected to shoulders. The root of the published bone data is the nose.
"""

from graph.body import BodyGraph, Skeleton

JOINTS, PARENTS, BONE_PARENTS = zip(
    # joint, parent, bone parent
    ("nose", 1, 0),
    ("neck", 1, 0),
    ("right shoulder", 1, 1),
    ("right elbow", 2, 2),
    ("right wrist", 3, 3),
    ("left shoulder", 1, 1),
    ("left elbow", 5, 5),
    ("left wrist", 6, 6),
    ("right hip", 2, 2),
    ("right knee", 8, 8),
    ("right ankle", 9, 9),
    ("left hip", 5, 5),
    ("left knee", 11, 11),
    ("left ankle", 12, 12),
    ("right eye", 0, 0),
    ("left eye", 0, 0),
    ("right ear", 14, 14),
    ("left ear", 15, 15),
    strict=True,
)

SKELETON = Skeleton(
    name="kinetics",
    joints=JOINTS,
    parents=PARENTS,
    bone_parents=BONE_PARENTS,
    center=1,
    left=(5, 6, 7, 11, 12, 13, 15, 17),
    right=(2, 3, 4, 8, 9, 10, 14, 16),
)


class Graph(BodyGraph):
    skeleton = SKELETON
