"""UAV-Human: 17 joints in a dataset-specific order, the body layout of SkeletonAgent on this dataset.

Its bones have two roots, the head and joint 1. SkeletonAgent learns its graph, so only the number of joints matters to
it. In the graph of this module, the two trees are connected.
"""

from graph.body import BodyGraph, Skeleton

JOINTS = ("head", *map(str, range(1, 17)))
BONE_PARENTS = (0, 1, 1, 2, 1, 4, 5, 1, 7, 8, 7, 10, 11, 0, 0, 13, 14)
# As published; for joint 11 the rule `feeders.modality.two_steps` would give 7.
KBONE_PARENTS = (0, 1, 2, 1, 4, 1, 4, 7, 1, 7, 1, 4, 10, 13, 14, 0, 0)

SKELETON = Skeleton(
    name="uav",
    joints=JOINTS,
    parents=(1, *BONE_PARENTS[1:]),
    bone_parents=BONE_PARENTS,
    center=1,
)


class Graph(BodyGraph):
    skeleton = SKELETON
