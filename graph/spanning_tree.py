"""A tree of bones from any list of edges between joints."""

from collections.abc import Sequence

from graph.body import Skeleton
from torchlight.system.text import quote


class EdgeError(ValueError):
    """Edges that do not connect all joints."""


def spanning_tree(edges: Sequence[tuple[int, int]], joints: Sequence[str], root: int | None = None) -> dict[int, int]:
    """{child: parent} of all joints except the root. The parent of a joint is its neighbor with the smallest distance
    to the root; ties: the first one in `joints`.

    root: by default, the joint whose largest distance to another joint is smallest; ties: the joint with the most
    edges, then the first one.

    Raises:
        EdgeError: the edges do not connect all joints.

    >>> spanning_tree([(0, 1), (1, 2), (2, 0), (2, 3)], ["nose", "ear", "neck", "tail"])
    {0: 2, 1: 2, 3: 2}
    """
    neighbors: list[list[int]] = [[] for _ in joints]
    for one, other in edges:
        neighbors[one].append(other)
        neighbors[other].append(one)
    if root is None:
        reach = [_distances(neighbors, joint) for joint in range(len(joints))]
        order = [(-len(reach[i]), max(reach[i].values()), -len(neighbors[i]), i) for i in range(len(joints))]
        root = min(order)[-1]
    distance = _distances(neighbors, root)
    if lost := [name for joint, name in enumerate(joints) if joint not in distance]:
        raise EdgeError(f"expected edges that connect all joints, got none from {quote(joints[root])} to {quote(lost)}")
    return {
        joint: next(parent for parent in sorted(neighbors[joint]) if distance[parent] < distance[joint])
        for joint in range(len(joints))
        if joint != root
    }


def _distances(neighbors: list[list[int]], start: int) -> dict[int, int]:
    """Number of edges from a joint to each joint that it is connected to."""
    found, ring = {start: 0}, [start]
    while ring:
        ring = list(dict.fromkeys(other for joint in ring for other in neighbors[joint] if other not in found))
        found |= dict.fromkeys(ring, max(found.values()) + 1)
    return found


def in_words(skeleton: Skeleton) -> str:
    """The tree of a skeleton as text: the root, then each joint with its parent."""
    bones = ", ".join(f"{skeleton.joints[i]} < {skeleton.joints[p]}" for i, p in skeleton.inward)
    root = next(name for i, name in enumerate(skeleton.joints) if skeleton.parents[i] == i)
    return f"root {root}; {bones}" if bones else f"root {root}"
