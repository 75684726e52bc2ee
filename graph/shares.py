"""The joints of one body as weighted sums of the joints of another, to transfer learned tensors with joint axes.

The weights of a joint are called its shares; they sum to 1.
"""

from collections import deque

import numpy as np

from graph.body import Skeleton
from graph.layouts import Layout, LayoutMap, find_layout, find_map, parse_map, words_of

MOST_UNNAMED = 0.5  # maximum fraction of joints without a joint of the same name


def joint_shares(source: Skeleton, target: Skeleton) -> tuple[np.ndarray, str] | None:
    """The shares of the joints of `source` in each joint of `target`, (V_target, V_source) with rows that sum to 1, and
    their origin in words; None if the bodies have nothing in common.

    The first of these that exists is used: identical joints; the map of `graph.layouts` from `source` to `target`; the
    reverse of the map from `target` to `source`, see `reverse`; joints of the same name. A joint without shares gets
    those of the nearest joint along the bones.

    >>> from graph import ntu_rgb_d, ucla
    >>> shares, origin = joint_shares(ntu_rgb_d.SKELETON, ucla.SKELETON)
    >>> shares.shape, int(shares[2].argmax()), origin
    ((20, 25), 20, 'the map from kinect_v2_25 to kinect_v1_20')
    """
    if source.joints == target.joints:
        return np.eye(len(source.joints)), "the same joints"
    for found, origin in ((to_target(source, target), "the map from {} to {}"), (to_target(target, source), "")):
        if found is not None:
            rows = rows_of(found) if origin else reverse(rows_of(found))
            text = (origin or "the reverse of the map from {} to {}").format(found.source.name, found.target.name)
            return fill(rows, target), text
    names = {words_of(joint): i for i, joint in enumerate(source.joints)}
    rows = np.zeros((target.num_joint, source.num_joint))
    for i, joint in enumerate(target.joints):
        if words_of(joint) in names:
            rows[i, names[words_of(joint)]] = 1
    if rows.any(1).mean() < MOST_UNNAMED:
        return None
    return fill(rows, target), "joints of the same name"


def to_target(source: Skeleton, target: Skeleton) -> LayoutMap | None:
    """The map from one body to another: that of a custom target, or that between their layouts."""
    first, second = layout_of(source), layout_of(target)
    own = dict(target.maps)
    if first is not None and first.name in own:
        return parse_map(first, target, own[first.name])
    if first is None or second is None:
        return None
    try:
        return find_map(first.name, second.name)
    except ValueError:  # there is none
        return None


def layout_of(body: Skeleton) -> Layout | None:
    """The layout with the name and the joints of a body, in any spelling of the joints."""
    try:
        layout = find_layout(body.name)
    except ValueError:
        return None
    same = [words_of(joint) for joint in layout.skeleton.joints] == [words_of(joint) for joint in body.joints]
    return layout if same else None


def rows_of(found: LayoutMap) -> np.ndarray:
    """The shares of a map: the joints of a mean have equal shares; an extension only depends on its first joint."""
    before = np.eye(found.source.num_joint) if found.before is None else rows_of(found.before)
    rows = np.zeros((found.target.num_joint, before.shape[1]))
    for step in found.steps:
        of = step.rule.of[:1] if step.rule.kind == "extend" else step.rule.of
        rows[step.joint] = np.mean([before[i] if place == "s" else rows[i] for place, i in of], axis=0)
    return rows


def reverse(rows: np.ndarray) -> np.ndarray:
    """The shares in the opposite direction: a joint is the mean of the joints in which it has its largest share."""
    columns = rows.T
    largest = columns.max(1, keepdims=True)
    chosen = np.isclose(columns, largest) & (largest > 0)
    return chosen / np.maximum(chosen.sum(1, keepdims=True), 1)


def fill(rows: np.ndarray, body: Skeleton) -> np.ndarray:
    """Give each joint without shares those of the nearest joint along the bones."""
    neighbors: list[list[int]] = [[] for _ in body.joints]
    for child, parent in body.inward:
        neighbors[child].append(parent)
        neighbors[parent].append(child)
    filled = rows.copy()
    for joint in np.flatnonzero(~rows.any(1)):
        seen, waiting = {int(joint)}, deque([int(joint)])
        while waiting and not rows[waiting[0]].any():
            new = [n for n in neighbors[waiting.popleft()] if n not in seen]
            seen.update(new)
            waiting.extend(new)
        filled[joint] = rows[waiting[0]]
    return filled
