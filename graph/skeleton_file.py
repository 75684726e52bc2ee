"""Skeleton files: the body of custom data as YAML."""

from pathlib import Path
from typing import Any

from graph.body import MAX_JOINTS, Skeleton, read_maps
from graph.spanning_tree import EdgeError, spanning_tree
from torchlight.system.text import nearest, printable, quote
from torchlight.system.yaml_files import read_yaml

# image_size: for 2-D poses. maps: {layout: steps} from other bodies, in the notation of layouts.yaml
KEYS = ("name", "joints", "bones", "edges", "bone_parents", "center", "left", "right", "image_size", "maps")


def read_skeleton_file(path: str | Path) -> dict[str, Any]:
    """The keys and values of a skeleton file.

    Raises:
        ValueError: the file cannot be read, is not a YAML mapping of KEYS, or has no lists `joints` and `bones` or
            `edges`.
    """
    table = read_yaml(path)
    if not isinstance(table, dict):
        raise ValueError(f"{path}: expected a mapping with the keys {', '.join(KEYS)}, got {quote(table)}")
    if "centre" in table and "center" not in table:  # the spelling of version 0.1
        table["center"] = table.pop("centre")
    for key in table:
        if key not in KEYS:
            raise ValueError(f"{path}: unknown key {quote(key)}; {nearest(key, KEYS)}")
    if "edges" in table and "bones" in table:
        raise ValueError(f"{path}: edges: expected either bones or edges, got both")
    for key in ("joints", "edges" if "edges" in table else "bones"):
        if not isinstance(table.get(key), list):
            raise ValueError(f"{path}: {key}: expected a list, got {quote(table.get(key))}")
    return table


def read_skeleton(path: str | Path) -> Skeleton:
    """The skeleton of a file with the keys `joints` and `bones` or `edges`, and optionally the others of KEYS.

    Joints are given by name or number. `bones` lists [child, parent] for all joints except the root. `edges` lists
    pairs in either direction, possibly with cycles; `graph.spanning_tree` derives the bones from them. `bone_parents`
    lists [joint, parent] for joints whose bone does not start at their parent (for the root of the bones: the joint
    itself). The default of `center` is the root.

    Raises:
        ValueError: the file cannot be read or does not describe a skeleton; the message names the file and the key.
    """
    return SkeletonFile(Path(path)).skeleton()


class SkeletonFile:
    """The content of a skeleton file while it becomes a Skeleton."""

    def __init__(self, path: Path):
        self.path, self.table = path, read_skeleton_file(path)
        names = self.table["joints"]
        if not 0 < len(names) <= MAX_JOINTS:
            raise self.error("joints", f"1 to {MAX_JOINTS} joints", str(len(names)))
        for name in names:
            if not isinstance(name, str | int) or isinstance(name, bool):  # YAML reads no, off and yes as booleans
                raise self.error("joints", "names (in quotes if they are words such as no or 1.5)", quote(name))
        self.joints = tuple(map(str, names))

    def error(self, key: str, expected: str, got: str) -> ValueError:
        return ValueError(f"{self.path}: {key}: expected {expected}, got {got}")

    def index(self, key: str, joint: Any) -> int:
        """The number of a joint given by name or number."""
        if isinstance(joint, int) and not isinstance(joint, bool) and 0 <= joint < len(self.joints):
            return joint
        if isinstance(joint, str) and joint in self.joints:
            return self.joints.index(joint)
        raise ValueError(f"{self.path}: {key}: unknown joint {quote(joint)}; {printable(nearest(joint, self.joints))}")

    def list_of(self, key: str, content: str) -> list:
        """The list at a key, empty if the key is missing."""
        found = self.table.get(key)
        if found is not None and not isinstance(found, list):
            raise self.error(key, f"a list of {content}", quote(found))
        return found or []

    def indices(self, key: str) -> tuple[int, ...]:
        """The joints of a list."""
        return tuple(self.index(key, joint) for joint in self.list_of(key, "joints"))

    def rows(self, key: str) -> list[tuple[int, int]]:
        """The joints of a list of pairs."""
        rows = self.list_of(key, "[child, parent]")
        if not all(isinstance(row, list) and len(row) == 2 for row in rows):
            raise self.error(key, "a list of [child, parent]", quote(rows))
        return [(self.index(key, one), self.index(key, other)) for one, other in rows]

    def pairs(self, key: str) -> dict[int, int]:
        """Child -> parent of a list of [child, parent]."""
        found: dict[int, int] = {}
        for joint, parent in self.rows(key):
            if joint in found:
                hint = "; list the pairs as `edges` if they do not form a tree" if key == "bones" else ""
                raise self.error(key, "one parent of each joint", f"two of {quote(self.joints[joint])}{hint}")
            found[joint] = parent
        return found

    def tree(self) -> dict[int, int]:
        """Child -> parent of a spanning tree of the edges, from the center if it is given."""
        center = self.table.get("center")
        try:
            return spanning_tree(
                self.rows("edges"), self.joints, None if center is None else self.index("center", center)
            )
        except EdgeError as error:
            raise ValueError(f"{self.path}: edges: {error}") from error

    def skeleton(self) -> Skeleton:
        bones = self.tree() if "edges" in self.table else self.pairs("bones")
        parents = tuple(bones.get(i, i) for i in range(len(self.joints)))
        roots = [i for i, p in enumerate(parents) if i == p]
        if len(roots) != 1:
            got = f"{len(roots)}: {quote([self.joints[i] for i in roots])}"
            raise self.error("bones", "one joint without a parent, the root", got)
        return Skeleton(
            name=str(self.table.get("name", self.path.stem)),
            joints=self.joints,
            parents=parents,
            bone_parents=tuple((dict(enumerate(parents)) | self.pairs("bone_parents")).values()),
            center=self.index("center", self.table.get("center", roots[0])),
            left=self.indices("left"),
            right=self.indices("right"),
            maps=read_maps(self.table.get("maps") or {}, str(self.path)),
        )
