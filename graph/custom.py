"""Custom bodies: joints and bones in a YAML file such as

joints: [head, neck, left hand, right hand]
bones: [[head, neck], [left hand, neck], [right hand, neck]]
left: [left hand]
right: [right hand]
"""

from pathlib import Path
from typing import Any

from graph.body import BodyGraph, Skeleton
from graph.skeleton import find_skeleton


class Graph(BodyGraph):
    """`skeleton` is the path of a skeleton file (see `graph.skeleton_file.read_skeleton`), the name of a layout of
    layouts.yaml, or a `Skeleton`."""

    def __init__(self, skeleton: str | Path | Skeleton, *args: Any, **kwargs: Any):
        self.skeleton = find_skeleton(skeleton)
        super().__init__(*args, **kwargs)
