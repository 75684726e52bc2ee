"""NTU RGB+D 60 and 120 with the tip of a hand connected to the hand, not to the thumb as in `graph.ntu_rgb_d`.

The graph of HD-GCN, BlockGCN and Hyper-GCN, and the bones of Hyper-GCN; the other two have the bones of
`graph.ntu_rgb_d`.
"""

import dataclasses

from graph import ntu_rgb_d
from graph.body import BodyGraph

PARENTS = tuple({21: 7, 23: 11}.get(joint, parent) for joint, parent in enumerate(ntu_rgb_d.PARENTS))

SKELETON = dataclasses.replace(ntu_rgb_d.SKELETON, parents=PARENTS, bone_parents=PARENTS)


class Graph(BodyGraph):
    skeleton = SKELETON
