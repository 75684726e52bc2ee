"""One hand: the 21 joints of MediaPipe, wrist and five fingers from base to tip."""

from graph.body import BodyGraph, Skeleton

FINGERS = ("thumb", "index finger", "middle finger", "ring finger", "little finger")
PARENTS = (0,) + tuple(0 if joint % 4 == 1 else joint - 1 for joint in range(1, 21))

SKELETON = Skeleton(
    name="hand",
    joints=("wrist",) + tuple(f"{finger} {number}" for finger in FINGERS for number in range(1, 5)),
    parents=PARENTS,
    bone_parents=PARENTS,
    center=0,
)


class Graph(BodyGraph):
    skeleton = SKELETON
