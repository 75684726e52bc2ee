"""A body as a table of joints and bones, and the graph that the networks build from it."""

import difflib
import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from graph import adjacency


@dataclass(frozen=True)
class Skeleton:
    """Joints, their parents in the graph and as bones, the centre joint and the mirror pairs, all as 0-based indices.

    parents: the graph parent of every joint, the root has itself. bone_parents: where the bone of every joint starts, its root has
    itself; published data sometimes uses another tree here. centre: the middle of the ST-GCN partition. left, right: left[i] mirrors
    right[i]. Raises ValueError if the tables do not describe two trees and a mirror.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    bone_parents: tuple[int, ...]
    centre: int
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        V = len(self.joints)
        if V == 0 or len(set(self.joints)) != V:
            raise ValueError(
                f"skeleton {self.name}: found {V} joints {self.joints}; allowed are distinct names, at least one; name each joint once"
            )
        for field in ("parents", "bone_parents"):
            self._check_tree(field)
        if self.centre not in range(V):
            raise ValueError(
                f"skeleton {self.name}: found centre {self.centre}; allowed are joints 0 to {V - 1}; correct it"
            )
        mirror = self.left + self.right
        if len(self.left) != len(self.right) or len(set(mirror)) != len(mirror) or not set(mirror) <= set(range(V)):
            raise ValueError(
                f"skeleton {self.name}: found left {self.left}, right {self.right}; allowed are two lists of equal length that name "
                f"joints 0 to {V - 1} at most once; pair every left joint with its right one"
            )

    def _check_tree(self, field: str) -> None:
        V, parents = self.num_joint, getattr(self, field)
        if len(parents) != V or not set(parents) <= set(range(V)):
            raise ValueError(
                f"skeleton {self.name}: found {field} {parents}; allowed are {V} numbers from 0 to {V - 1}; give one for each joint"
            )
        roots = [i for i, p in enumerate(parents) if i == p]
        if len(roots) != 1:
            named = [self.joints[i] for i in roots]
            raise ValueError(
                f"skeleton {self.name}: found the roots {named} in {field}; allowed is one; connect all joints but one to a parent"
            )
        for start in range(V):
            joint = start
            for _ in range(V):
                joint = parents[joint]
            if joint != roots[0]:
                raise ValueError(
                    f"skeleton {self.name}: {field} lead from {self.joints[start]} round in a circle; allowed is a tree; break the circle"
                )

    @property
    def num_joint(self) -> int:
        return len(self.joints)

    @property
    def inward(self) -> tuple[tuple[int, int], ...]:
        """Graph edges (child, parent); the root has none."""
        return tuple((i, p) for i, p in enumerate(self.parents) if i != p)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """Bones (joint, bone parent), one for each joint; the root's has no length."""
        return tuple(enumerate(self.bone_parents))

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Skeleton":
        """Read a body from a file with the keys `joints`, `bones` and perhaps the others of KEYS.

        Joints are named or numbered. `bones` lists [child, parent] for all joints but the root; `bone_parents` lists [joint, parent]
        for those whose bone starts elsewhere (the root of the bones with itself); `centre` is the root if left out.
        Raises ValueError that names the file, the key and the nearest known names.
        """
        path = Path(path)
        table = _read_table(path)
        joints = tuple(str(joint) for joint in table["joints"])

        def index(key: str, joint: str | int) -> int:
            if isinstance(joint, int) and 0 <= joint < len(joints):
                return joint
            if joint in joints:
                return joints.index(joint)
            raise ValueError(
                f"{path}: {key}: found joint {joint!r}; allowed are {_nearest(str(joint), joints)}; correct the name or add the joint"
            )

        def pairs(key: str) -> dict[int, int]:
            rows = table.get(key) or []
            if not all(isinstance(row, list) and len(row) == 2 for row in rows):
                raise ValueError(
                    f"{path}: {key}: found {rows}; allowed is a list of [child, parent]; write each as a pair"
                )
            found: dict[int, int] = {}
            for child, parent in ((index(key, c), index(key, p)) for c, p in rows):
                if child in found:
                    raise ValueError(
                        f"{path}: {key}: found two parents of {joints[child]!r}; allowed is one; remove the other bone"
                    )
                found[child] = parent
            return found

        bones = pairs("bones")
        parents = tuple(bones.get(i, i) for i in range(len(joints)))
        roots = [i for i, p in enumerate(parents) if i == p]
        if len(roots) != 1:
            raise ValueError(
                f"{path}: bones: found no parent for {[joints[i] for i in roots]}; allowed is one, the root; add the missing bones"
            )
        return cls(
            name=str(table.get("name", path.stem)),
            joints=joints,
            parents=parents,
            bone_parents=tuple((dict(enumerate(parents)) | pairs("bone_parents")).values()),
            centre=index("centre", table.get("centre", roots[0])),
            left=tuple(index("left", joint) for joint in table.get("left") or ()),
            right=tuple(index("right", joint) for joint in table.get("right") or ()),
        )


class BodyGraph:
    """The graph of one body: `A` (K, V, V) float64, `skeleton`, `num_node`. A body is a subclass that names its skeleton."""

    skeleton: Skeleton

    def __init__(self, labeling_mode: str = "spatial", max_hop: int = 1, dilation: int = 1):
        self.num_node = self.skeleton.num_joint
        self.A = adjacency.build(
            self.skeleton.inward, self.num_node, self.skeleton.centre, labeling_mode, max_hop, dilation
        )


def build_graph(graph: str | BodyGraph, graph_args: dict[str, Any] | None = None) -> BodyGraph:
    """The graph that a dotted path such as `graph.ntu_rgb_d.Graph` names, made with `graph_args`; a graph is handed back as it is.

    Raises ValueError for a path that leads elsewhere than to a graph of this package, and for arguments that it does not take.
    """
    if isinstance(graph, BodyGraph):
        if graph_args:
            raise ValueError(
                f"graph_args: found {graph_args} beside a graph that is made already; allowed is none; leave them out"
            )
        return graph
    kind = _resolve(graph)
    try:
        return kind(**(graph_args or {}))
    except TypeError as error:
        raise ValueError(
            f"graph_args: found {graph_args} for {graph}: {error}; allowed are the arguments of {graph}; correct them"
        ) from error


def _resolve(path: str) -> type[BodyGraph]:
    package = importlib.import_module("graph")
    bodies = [
        module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in ("adjacency", "skeleton")
    ]
    known = [f"graph.{body}.Graph" for body in sorted(bodies)]
    if path not in known:
        nearest = difflib.get_close_matches(str(path), known, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "name one of them"
        raise ValueError(f"graph: found {path!r}; allowed are {', '.join(known)}; {hint}")
    return pkgutil.resolve_name(path)


KEYS = (
    "name",
    "joints",
    "bones",
    "bone_parents",
    "centre",
    "left",
    "right",
    "image_size",
)  # the last is for 2-D preparations


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; allowed is a skeleton file in YAML; correct the path") from error
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path}: found no valid YAML ({error}); allowed are the keys {', '.join(KEYS)}; correct the file"
        ) from error
    if not isinstance(table, dict):
        raise ValueError(
            f"{path}: found {type(table).__name__}; allowed is a mapping with the keys {', '.join(KEYS)}; write `key: value` lines"
        )
    for key in table:
        if key not in KEYS:
            raise ValueError(
                f"{path}: found the key {key!r}; allowed are {_nearest(str(key), KEYS)}; correct or remove it"
            )
    for key in ("joints", "bones"):
        if not isinstance(table.get(key), list):
            raise ValueError(f"{path}: {key}: found {table.get(key)!r}; allowed is a list; add it")
    return table


def _nearest(word: str, known: tuple[str, ...]) -> str:
    return ", ".join(difflib.get_close_matches(word, known, n=3, cutoff=0.4) or known)
