"""A body as a table of joints and bones, and the graph that the networks build from it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graph import adjacency
from torchlight.system.text import printable, quote

MAX_JOINTS = 1000  # an adjacency matrix has the square of this many entries


@dataclass(frozen=True)
class Skeleton:
    """Joints, their parents in the graph and as bones, the center joint and the mirror pairs, all as 0-based indices.

    Attributes:
        parents: the graph parent of every joint; the root is its own parent.
        bone_parents: the joint where the bone of every joint starts; a root is its own. Published bone data sometimes
            uses another tree than the graph, or several.
        center: the center of the ST-GCN partition.
        left, right: left[i] mirrors right[i].
        maps: (layout, steps) for each layout of graph/layouts.yaml whose poses can be converted, in its notation.

    Raises:
        ValueError: the tables do not describe two trees and a mirror.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    bone_parents: tuple[int, ...]
    center: int
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    maps: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        V = len(self.joints)
        if not 0 < V <= MAX_JOINTS or len(set(self.joints)) != V:
            raise self._error("joints", f"1 to {MAX_JOINTS} distinct names", f"{V}: {quote(self.joints)}")
        for field in ("parents", "bone_parents"):
            self._check_tree(field)
        if self.center not in range(V):
            raise self._error("center", f"a joint from 0 to {V - 1}", quote(self.center))
        mirror = self.left + self.right
        if len(self.left) != len(self.right) or len(set(mirror)) != len(mirror) or not set(mirror) <= set(range(V)):
            raise self._error(
                "left, right",
                f"two lists of equal length that name joints 0 to {V - 1} at most once",
                f"{quote(self.left)} and {quote(self.right)}",
            )

    def _error(self, key: str, expected: str, got: str) -> ValueError:
        return ValueError(f"skeleton {printable(self.name)}: {key}: expected {expected}, got {got}")

    def _check_tree(self, field: str) -> None:
        V, parents = self.num_joint, getattr(self, field)
        if len(parents) != V or not set(parents) <= set(range(V)):
            raise self._error(field, f"{V} numbers from 0 to {V - 1}, one for each joint", quote(parents))
        roots = [i for i, p in enumerate(parents) if i == p]
        if field == "parents" and len(roots) != 1:
            raise self._error(field, "one root", quote([self.joints[i] for i in roots]))
        for start in range(V):
            joint = start
            for _ in range(V):
                joint = parents[joint]
            if joint not in roots:
                raise self._error(field, "a tree", f"a cycle that begins at {quote(self.joints[start])}")

    @property
    def num_joint(self) -> int:
        """Number of joints V."""
        return len(self.joints)

    @property
    def inward(self) -> tuple[tuple[int, int], ...]:
        """Graph edges (child, parent); the root has none."""
        return tuple((i, p) for i, p in enumerate(self.parents) if i != p)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """Bones (joint, bone parent), one for each joint; the root's bone has length 0."""
        return tuple(enumerate(self.bone_parents))

    @classmethod
    def from_table(cls, table: Any) -> "Skeleton":
        """The skeleton from a mapping with the fields of this class and plain values, as in a checkpoint.

        Raises:
            ValueError: the mapping does not describe a skeleton.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        required = {"name", "joints", "parents", "bone_parents", "center"}
        if not isinstance(table, dict) or not required <= set(table) <= fields:
            raise ValueError(f"skeleton: expected the keys {', '.join(sorted(fields))}, got {quote(table)}")
        values = dict(table)
        for key in ("joints", "parents", "bone_parents", "left", "right"):
            kind = str if key == "joints" else int
            found = values.get(key, [])
            if not isinstance(found, list | tuple) or not all(type(item) is kind for item in found):
                raise ValueError(f"skeleton: {key}: expected a list of {kind.__name__}, got {quote(found)}")
            values[key] = tuple(found)
        if type(values["center"]) is not int or not isinstance(values["name"], str):
            raise ValueError(f"skeleton: expected a name and the number of a joint, got {quote(table)}")
        values["maps"] = read_maps(values.get("maps", ()), "skeleton")
        return cls(**values)


def read_maps(found: Any, origin: str) -> tuple[tuple[str, str], ...]:
    """The maps {layout: steps}, or [[layout, steps]], of a file or checkpoint; raises ValueError for anything else."""
    pairs = list(found.items()) if isinstance(found, dict) else found
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(word, str) for word in pair)
        for pair in pairs
    ):
        raise ValueError(f"{origin}: maps: expected a mapping of layouts to steps such as 5=s4, got {quote(found)}")
    return tuple((name, " ".join(steps.split())) for name, steps in pairs)


class BodyGraph:
    """The graph of one body: `A` (K, V, V) float64, `skeleton`, `num_node`. A subclass names its skeleton.

    With labeling_mode hierarchy, `A` is (layers, 3, V, V); see `graph.adjacency.hierarchy`. A level contains the joints
    at equal distance from the joint `center` (None: the center of the body), unless `levels` lists the levels.
    """

    skeleton: Skeleton

    def __init__(
        self,
        labeling_mode: str = "spatial",
        max_hop: int = 1,
        dilation: int = 1,
        center: int | None = None,
        levels: Sequence[Sequence[int]] | None = None,
    ):
        V = self.num_node = self.skeleton.num_joint
        if labeling_mode != "hierarchy" and (center, levels) != (None, None):
            raise ValueError(f"center, levels: expected none with labeling_mode {labeling_mode}; use hierarchy")
        if center is None:
            center = self.skeleton.center
        elif levels is not None or type(center) is not int or center not in range(V):
            raise ValueError(f"center: expected a joint from 0 to {V - 1}, or none with levels, got {quote(center)}")
        if levels is None:
            self.A = adjacency.build(self.skeleton.inward, V, center, labeling_mode, max_hop, dilation)
        else:
            adjacency.check_levels(levels, V)
            self.A = adjacency.hierarchy(levels, V)
