"""NTU RGB+D 60 and 120 with the tip of a hand connected to the hand, not to the thumb as in `graph.ntu_rgb_d`.

HD-GCN, BlockGCN and Hyper-GCN use this graph. Hyper-GCN also uses these bones; the other two use the bones of
`graph.ntu_rgb_d`.
"""

import dataclasses

from graph import ntu_rgb_d
from graph.body import BodyGraph

PARENTS = tuple({21: 7, 23: 11}.get(joint, parent) for joint, parent in enumerate(ntu_rgb_d.PARENTS))

SKELETON = dataclasses.replace(ntu_rgb_d.SKELETON, parents=PARENTS, bone_parents=PARENTS)


class Graph(BodyGraph):
    skeleton = SKELETON
