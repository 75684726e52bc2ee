"""COCO with three additional joints: the 20 joints of ProtoGCN, ACLNet and SkeletonAgent on Kinetics and FineGYM.

An additional joint is the mean of two joints in all channels, including the score: 17 of the hips, 19 of the
shoulders, 18 of joints 17 and 19.
"""

from graph import coco
from graph.body import BodyGraph, Skeleton

JOINTS = (*coco.JOINTS, "middle of hips", "middle of spine", "middle of shoulders")
PARENTS = (19, 0, 0, 1, 2, 19, 19, 5, 6, 7, 8, 17, 17, 11, 12, 13, 14, 18, 19, 19)

SKELETON = Skeleton(
    name="coco20",
    joints=JOINTS,
    parents=PARENTS,
    bone_parents=PARENTS,
    center=19,
    left=coco.SKELETON.left,
    right=coco.SKELETON.right,
)


class Graph(BodyGraph):
    skeleton = SKELETON
