"""Bodies from any list of edges, and graphs of layouts by name."""

import numpy as np
import pytest

from graph.adjacency import build
from graph.skeleton import build_graph, find_skeleton
from graph.skeleton_file import read_skeleton
from graph.spanning_tree import in_words

RING = "joints: [a, b, c, d, e]\nedges: [[a, b], [c, b], [c, d], [d, a], [d, e]]\n"


@pytest.mark.parametrize(
    ("more", "parents"), [("", (3, 0, 3, 3, 3)), ("center: b\n", (1, 1, 1, 0, 3)), ("center: e\n", (3, 0, 3, 4, 4))]
)
def test_a_tree_is_made_of_edges_with_a_cycle_from_the_middle_or_the_center(more, parents, tmp_path):
    (tmp_path / "ring.yaml").write_text(RING + more)
    skeleton = read_skeleton(tmp_path / "ring.yaml")
    assert skeleton.parents == parents and skeleton.parents[skeleton.center] == skeleton.center
    assert in_words(skeleton).startswith(f"root {skeleton.joints[skeleton.center]}; ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RING.replace(", [d, e]", ""), r"edges: expected edges that connect all joints, got none from 'a' to \['e'\]"),
        (RING + "bones: []\n", "edges: expected either bones or edges, got both"),
        (RING.replace("[d, e]", "[d, f]"), "edges: unknown joint 'f'"),
        (RING.replace("[d, e]", "[d]"), "edges: expected a list of"),
        (RING.replace("edges", "bones"), "bones: expected one parent of each joint, got two of 'c'; list the pairs as"),
    ],
)
def test_edges_that_give_no_tree_are_refused(text, reason, tmp_path):
    (tmp_path / "ring.yaml").write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_skeleton(tmp_path / "ring.yaml")


def test_every_layout_has_a_graph_by_its_name_and_its_aliases():
    for name in ("mediapipe_pose", "mediapipe_pose_33", "halpe", "openpose_body_25", "smpl_24", "h36m"):
        graph, skeleton = build_graph(f"graph.{name}.Graph"), find_skeleton(f"graph.{name}")
        assert graph.skeleton == skeleton and graph.num_node == skeleton.num_joint
        expected = build(skeleton.inward, skeleton.num_joint, skeleton.center, "spatial", 1, 1)
        assert np.array_equal(graph.A, expected)
    with pytest.raises(ValueError, match="did you mean graph.halpe_26.Graph"):
        build_graph("graph.halpe_62.Graph")
