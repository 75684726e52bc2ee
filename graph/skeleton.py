"""Bodies and graphs by name: `graph.ucla`, a layout of layouts.yaml, or a skeleton file."""

import os
import pkgutil
from pathlib import Path
from typing import Any

from graph.body import BodyGraph, Skeleton
from graph.layouts import find_layout, layouts
from graph.skeleton_file import read_skeleton
from torchlight.system.consent import ADMITTED
from torchlight.system.text import nearest, quote

# modules of this package that do not describe a body
NO_BODIES = ("adjacency", "body", "layouts", "partition", "shares", "skeleton", "skeleton_file", "spanning_tree")


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
        return read_skeleton(name)
    hint = nearest(str(name), [*known, *layouts()])
    raise ValueError(f"skeleton: expected a module of graph/, a body layout or a YAML file, got {quote(name)}; {hint}")


def _layout(name: str) -> Skeleton | None:
    """The skeleton of a layout, by its name or alias."""
    try:
        return find_layout(name).skeleton
    except ValueError:
        return None


def skeleton_name(name: str) -> str:
    """The name by which `find_skeleton` finds a body: the module of this layout (by name or alias) if there is one,
    otherwise the name of the layout or the YAML file itself.

    >>> skeleton_name("kinect_v2_25"), skeleton_name("halpe"), skeleton_name("graph.coco"), skeleton_name("rat.yaml")
    ('graph.ntu_rgb_d', 'halpe_26', 'graph.coco', 'rat.yaml')
    """
    try:
        layout = find_layout(name)
    except ValueError:
        return name
    words = [word for word in (layout.name, *layout.aliases) if f"graph.{word}" in _bodies()]
    return f"graph.{words[0]}" if words else layout.name


def build_graph(graph: str | BodyGraph, graph_args: dict[str, Any] | None = None) -> BodyGraph:
    """Build the graph of a dotted path with `graph_args`: `graph.ucla.Graph`, for example, or `graph.<layout>.Graph`
    with the name or alias of a layout. A graph is returned unchanged.

    Raises:
        ValueError: the path is not a graph of this package, or the graph does not take these arguments.
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
        name = str(path).removeprefix("graph.").removesuffix(".Graph")
        if path == f"graph.{name}.Graph" and (skeleton := _layout(name)):
            return type("Graph", (BodyGraph,), {"skeleton": skeleton})
        hint = nearest(str(path), [*known, *(f"graph.{layout}.Graph" for layout in layouts())])
        raise ValueError(f"graph: expected a graph of this package, got {quote(path)}; {hint}")
    return pkgutil.resolve_name(path)
