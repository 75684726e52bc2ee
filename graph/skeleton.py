"""A body as a table of joints and bones, and the graph that the networks build from it."""

import dataclasses
import os
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph import adjacency
from torchlight.system.consent import ADMITTED
from torchlight.system.text import nearest, printable, quote

# modules of this package that describe no body
NO_BODIES = ("adjacency", "layouts", "partition", "shares", "skeleton", "skeleton_file", "spanning_tree")
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
        maps: (layout, steps) for each layout of graph/layouts.yaml that poses can come from, in its notation.

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
        """The skeleton of a mapping with the fields of this class and plain values, as a checkpoint holds it.

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

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Skeleton":
        """Read a skeleton file: the keys `joints` and `bones` or `edges`, and optionally the others of
        `graph.skeleton_file.KEYS`.

        Joints are named or numbered. `bones` lists [child, parent] for all joints but the root; `edges` lists pairs of
        any direction, also with cycles, of which `graph.spanning_tree` makes bones. `bone_parents` lists [joint,
        parent] for those whose bone starts elsewhere (the root of the bones with itself). The default of `center` is
        the root.

        Raises:
            ValueError: the file cannot be read or does not describe a skeleton; the message names the file and the key.
        """
        from graph.skeleton_file import SkeletonFile  # which needs this class

        return SkeletonFile(Path(path)).skeleton()


def read_maps(found: Any, origin: str) -> tuple[tuple[str, str], ...]:
    """The maps {layout: steps}, or [[layout, steps]], of a file or checkpoint; raises ValueError for anything else."""
    pairs = list(found.items()) if isinstance(found, dict) else found
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(word, str) for word in pair)
        for pair in pairs
    ):
        raise ValueError(f"{origin}: maps: expected a mapping of layouts to steps such as 5=s4, got {quote(found)}")
    return tuple((name, " ".join(steps.split())) for name, steps in pairs)


def _resolve_own(path: str) -> Any:
    """The object of a dotted path into a module that the user admitted; raises ValueError."""
    try:
        return pkgutil.resolve_name(path)
    except (AttributeError, ImportError, ValueError) as error:
        raise ValueError(f"expected a dotted path into a module, got {quote(path)} ({error})") from error


def _bodies() -> list[str]:
    """The modules of this package that describe a body, such as `graph.ucla`."""
    found = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)], "graph.")]
    return sorted(name for name in found if name.removeprefix("graph.") not in NO_BODIES)


def find_skeleton(name: str | Path | Skeleton) -> Skeleton:
    """The skeleton of a module such as `graph.ucla`, of a layout of layouts.yaml such as `halpe_26` or
    `graph.halpe_26`, or of a YAML file; a skeleton is returned unchanged.

    Raises:
        ValueError: neither a known name nor a readable skeleton file.
    """
    from graph.layouts import layouts  # which needs the class Skeleton

    if isinstance(name, Skeleton):
        return name
    is_yaml = isinstance(name, str | Path) and Path(name).suffix in (".yaml", ".yml")
    if not is_yaml and str(name).split(".")[0] in ADMITTED:
        found = _resolve_own(f"{name}.SKELETON")
        if not isinstance(found, Skeleton):
            raise ValueError(f"skeleton: expected {name}.SKELETON to be a Skeleton, got {type(found).__name__}")
        return found
    known = [body for body in _bodies() if body != "graph.custom"]  # its skeleton is a file
    if name in known:
        return pkgutil.resolve_name(f"{name}.SKELETON")
    layout = str(name).removeprefix("graph.")
    if isinstance(name, str) and (layout in layouts() or layout != name) and (found := _layout(layout)):
        return found
    if is_yaml or (isinstance(name, str | Path) and os.path.isfile(name)):  # False also for names that no file can have
        return Skeleton.from_yaml(name)
    hint = nearest(str(name), [*known, *layouts()])
    raise ValueError(f"skeleton: expected a module of graph/, a body layout or a YAML file, got {quote(name)}; {hint}")


def _layout(name: str) -> Skeleton | None:
    """The skeleton of a layout, by its name or alias."""
    from graph.layouts import find_layout

    try:
        return find_layout(name).skeleton
    except ValueError:
        return None


def skeleton_name(name: str) -> str:
    """The name by which `find_skeleton` finds a body: a module if there is one of this layout (by name or alias), else
    the layout or YAML file itself.

    >>> skeleton_name("kinect_v2_25"), skeleton_name("halpe"), skeleton_name("graph.coco"), skeleton_name("rat.yaml")
    ('graph.ntu_rgb_d', 'halpe_26', 'graph.coco', 'rat.yaml')
    """
    from graph.layouts import find_layout

    try:
        layout = find_layout(name)
    except ValueError:
        return name
    words = [word for word in (layout.name, *layout.aliases) if f"graph.{word}" in _bodies()]
    return f"graph.{words[0]}" if words else layout.name


class BodyGraph:
    """The graph of one body: `A` (K, V, V) float64, `skeleton`, `num_node`. A subclass names its skeleton.

    With labeling_mode hierarchy `A` is (layers, 3, V, V): see `graph.adjacency.hierarchy`. Its levels are the joints at
    equal distance from the joint `center`, the center of the body if None, unless `levels` lists them.
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
            raise ValueError(f"center: expected a joint from 0 to {V - 1}, and none with levels, got {quote(center)}")
        if levels is None:
            self.A = adjacency.build(self.skeleton.inward, V, center, labeling_mode, max_hop, dilation)
        else:
            adjacency.check_levels(levels, V)
            self.A = adjacency.hierarchy(levels, V)


def build_graph(graph: str | BodyGraph, graph_args: dict[str, Any] | None = None) -> BodyGraph:
    """The graph of a dotted path such as `graph.ucla.Graph`, or `graph.<layout>.Graph` with the name or alias of a
    layout, built with `graph_args`; a graph is returned unchanged.

    Raises:
        ValueError: the path is not a graph of this package, or it does not take these arguments.
    """
    if isinstance(graph, BodyGraph):
        if graph_args:
            raise ValueError(f"graph_args: expected none for a graph that is already built, got {quote(graph_args)}")
        return graph
    kind = _resolve(graph)
    arguments = dict(graph_args or {})
    if "centre" in arguments and "center" not in arguments:  # the other spelling, as in skeleton files
        arguments["center"] = arguments.pop("centre")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(f"graph_args: expected arguments of {graph}, got {quote(graph_args)} ({error})") from error


def _resolve(path: str) -> type[BodyGraph]:
    known = [f"{name}.Graph" for name in _bodies()]
    if isinstance(path, str) and path.split(".")[0] in ADMITTED:
        return _resolve_own(path)
    if path not in known:
        from graph.layouts import layouts

        name = str(path).removeprefix("graph.").removesuffix(".Graph")
        if path == f"graph.{name}.Graph" and (skeleton := _layout(name)):
            return type("Graph", (BodyGraph,), {"skeleton": skeleton})
        hint = nearest(str(path), [*known, *(f"graph.{layout}.Graph" for layout in layouts())])
        raise ValueError(f"graph: expected a graph of this package, got {quote(path)}; {hint}")
    return pkgutil.resolve_name(path)
