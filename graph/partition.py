"""Groups of neighboring joints of equal size, such as limbs, for networks that attend within and across them."""

from graph import coco, ntu_rgb_d, ucla
from graph.body import Skeleton

Groups = tuple[tuple[int, ...], ...]
SIZES = (4, 3, 5, 6)  # joints of a derived group, the preferred one first


def find_groups(skeleton: Skeleton) -> Groups:
    """The groups of a body: the table in its module in this folder, or groups derived from its tree.

    Raises:
        ValueError: the body has no table and fewer than three joints.
    """
    for body in (ntu_rgb_d, ucla, coco):
        if skeleton == body.SKELETON:
            return body.GROUPS
    return derive_groups(skeleton)


def derive_groups(skeleton: Skeleton) -> Groups:
    """Cut the joints in depth-first order, from the root to the tips, into groups of equal size.

    The size minimizes the number of joints that are left out plus the number of joints that are not connected to the
    previous joint of their group. The first joints, at the root, are left out, so that limbs stay complete.

    Raises:
        ValueError: fewer than three joints.
    """
    V, parents = skeleton.num_joint, skeleton.parents
    if V < min(SIZES):
        raise ValueError(f"skeleton {skeleton.name}: expected at least {min(SIZES)} joints to group, got {V}")
    order = depth_first(parents)

    def cut(size: int) -> Groups:
        return tuple(tuple(order[i : i + size]) for i in range(V % size, V, size))

    def cost(size: int) -> int:
        pairs = [pair for group in cut(size) for pair in zip(group, group[1:], strict=False)]
        return V % size + sum(parents[joint] != before for before, joint in pairs)

    return cut(min((size for size in SIZES if size <= V), key=cost))


def depth_first(parents: tuple[int, ...]) -> list[int]:
    """Joints from the root to the tips; the children of a joint in the order of their numbers."""
    root = next(joint for joint, parent in enumerate(parents) if joint == parent)
    order, waiting = [], [root]
    while waiting:
        order.append(joint := waiting.pop())
        waiting += [c for c in reversed(range(len(parents))) if parents[c] == joint != c]
    return order
