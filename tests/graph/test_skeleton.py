"""Skeleton tables, skeleton files, and finding both by name."""

import numpy as np
import pytest

from graph import coco, kinetics, ntu_rgb_d, uav
from graph.body import MAX_JOINTS, Skeleton
from graph.skeleton import build_graph, find_skeleton
from graph.skeleton_file import read_skeleton

BODIES = ["coco", "coco20", "hand", "kinetics", "ntu_rgb_d", "uav", "ucla"]

RAT = """
joints: [nose, neck, left ear, right ear]
bones: [[nose, neck], [left ear, nose], [3, 0]]
bone_parents: [[nose, nose], [neck, nose]]
left: [left ear]
right: [right ear]
"""


def body(**changed):
    table = {"name": "body", "joints": ("a", "b", "c"), "parents": (0, 0, 0), "bone_parents": (0, 0, 0), "center": 0}
    return Skeleton(**(table | changed))


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "rat.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", BODIES)
def test_a_graph_carries_its_skeleton(name):
    graph = build_graph(f"graph.{name}.Graph")
    V = graph.skeleton.num_joint
    assert graph.skeleton.name == name
    assert graph.num_node == V
    assert graph.A.shape == (3, V, V) and graph.A.dtype == np.float64
    assert len(graph.skeleton.inward) == V - 1
    assert len(graph.skeleton.bones) == V
    assert graph.skeleton.parents[graph.skeleton.center] == graph.skeleton.center


def test_bones_may_have_two_roots_and_a_graph_has_one():
    assert [i for i, parent in enumerate(uav.SKELETON.bone_parents) if i == parent] == [0, 1]
    assert [i for i, parent in enumerate(uav.SKELETON.parents) if i == parent] == [1]


@pytest.mark.parametrize("name", BODIES)
def test_left_and_right_joints_mirror_each_other_by_name_and_parent(name):
    skeleton = build_graph(f"graph.{name}.Graph").skeleton
    mirror = dict(zip(skeleton.left + skeleton.right, skeleton.right + skeleton.left, strict=True))
    for i, joint in enumerate(skeleton.joints):
        swapped = joint.replace("left", "*").replace("right", "left").replace("*", "right")
        assert skeleton.joints[mirror.get(i, i)] == swapped
        assert skeleton.parents[mirror.get(i, i)] == mirror.get(skeleton.parents[i], skeleton.parents[i])


def test_published_bones_of_kinetics_start_at_the_nose():
    skeleton = kinetics.SKELETON
    moved = {skeleton.joints[i]: skeleton.joints[p] for i, p in skeleton.bones if p != skeleton.parents[i]}
    assert moved == {"nose": "nose", "neck": "nose"}


def test_bones_of_the_hips_of_coco_start_at_the_nose_and_for_tsgcnext_at_the_shoulders():
    assert [coco.SKELETON.bone_parents[i] for i in (11, 12)] == [0, 0]
    assert [coco.BONE_PARENTS_TSGCNEXT[i] for i in (11, 12)] == [5, 6]


def test_common_joints_of_coco_and_ntu_have_the_same_names():
    names = [
        (coco.SKELETON.joints[i], ntu_rgb_d.SKELETON.joints[j])
        for i, j in zip(coco.COMMON_JOINTS, ntu_rgb_d.COMMON_JOINTS, strict=True)
    ]
    assert names[0] == ("nose", "head")
    assert all(ours == theirs for ours, theirs in names[1:])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"joints": ("a", "b", "b")}, "distinct names"),
        ({"parents": (0, 0)}, "3 numbers"),
        ({"parents": (0, 0, 3)}, "0 to 2"),
        ({"parents": (0, 1, 0)}, r"parents: expected one root, got \['a', 'b'\]"),
        ({"parents": (0, 2, 1)}, "a cycle that begins at 'b'"),
        ({"bone_parents": (1, 2, 0)}, "bone_parents"),
        ({"center": 3}, "center: expected a joint from 0 to 2, got 3"),
        ({"left": (1,)}, "equal length"),
        ({"left": (1,), "right": (1,)}, "at most once"),
        ({"left": (1,), "right": (7,)}, "0 to 2"),
    ],
)
def test_wrong_tables_are_refused_with_what_was_expected(changed, words):
    with pytest.raises(ValueError, match=words):
        body(**changed)


def test_a_body_is_read_from_a_file_by_names_and_numbers(write):
    skeleton = read_skeleton(write(RAT))
    assert skeleton == Skeleton(
        "rat", ("nose", "neck", "left ear", "right ear"), (1, 1, 0, 0), (0, 0, 0, 0), 1, (2,), (3,)
    )


def test_the_graph_of_a_custom_body_is_built_from_the_file(write):
    graph = build_graph("graph.custom.Graph", {"skeleton": str(write(RAT)), "labeling_mode": "stgcn_spatial"})
    assert graph.A.shape == (3, 4, 4)
    assert graph.skeleton.joints[graph.skeleton.center] == "neck"


def test_the_keys_of_version_0_1_are_read_too(tmp_path):
    (tmp_path / "rat.yaml").write_text(RAT + "centre: left ear")
    assert read_skeleton(tmp_path / "rat.yaml").center == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RAT.replace("[nose, neck]", "[nose, nek]"), "bones: unknown joint 'nek'; did you mean neck"),
        (RAT.replace("[3, 0]", "[4, 0]"), "bones: unknown joint 4"),
        (RAT.replace(", [3, 0]", ""), r"without a parent, the root, got 2: \['neck', 'right ear'\]"),
        (RAT.replace("[3, 0]", "[3, 0], [3, 1]"), "one parent of each joint, got two of 'right ear'"),
        (RAT.replace("[3, 0]", "3"), "list of .child, parent."),
        (RAT.replace("left:", "lefts:"), "unknown key 'lefts'; did you mean left"),
        (RAT.replace("joints:", "name:"), "joints: expected a list, got None"),
        ("- nose", "expected a mapping"),
        ("joints: [", "not valid YAML"),
        (
            RAT.replace("bone_parents: [[nose, nose], [neck, nose]]", "bone_parents: 5"),
            r"bone_parents: expected a list .*, got 5",
        ),
        (RAT.replace("left: [left ear]", "left: 5"), "left: expected a list of joints, got 5"),
        (RAT.replace("left: [left ear]", "left: 0"), "left: expected a list of joints, got 0"),
        (RAT.replace("left: [left ear]", "left: [[nose]]"), "left: unknown joint"),
        (RAT.replace("right ear]", "no]", 1), "joints: expected names .in quotes.*, got False"),
        (RAT + "centr: nose", "unknown key 'centr'; did you mean center"),
        (RAT + "name: again\nname: again", "the key name appears twice"),
        ("[" * 5000, "not valid YAML"),
        (f"joints: {list(range(MAX_JOINTS + 1))}\nbones: []", "joints: expected 1 to 1000 joints, got 1001"),
        (RAT + "center: tail", "center: unknown joint 'tail'"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_the_file_and_the_key(write, text, words):
    with pytest.raises(ValueError, match=words) as error:
        read_skeleton(write(text))
    assert "rat.yaml" in str(error.value)


def test_a_missing_file_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_skeleton(tmp_path / "nobody.yaml")


@pytest.mark.parametrize(
    "path", ["graph.nobody.Graph", "graph.ntu_rgb_d", "graph.skeleton.Skeleton", "os.system", "model.ctrgcn.Model", 3]
)
def test_only_graphs_of_this_package_are_accepted(path):
    with pytest.raises(
        ValueError, match="graph: expected a graph of this package, got .*; (did you mean|known:|the nearest are) "
    ):
        build_graph(path)


def test_a_misspelled_graph_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"did you mean graph\.ntu_rgb_d\.Graph"):
        build_graph("graph.ntu_rgbd.Graph")


def test_a_graph_that_is_already_built_is_returned_and_takes_no_arguments():
    graph = build_graph("graph.ucla.Graph")
    assert build_graph(graph) is graph
    with pytest.raises(ValueError, match="already built"):
        build_graph(graph, {"max_hop": 2})


def test_a_skeleton_is_found_by_its_module_or_its_file(write):
    assert find_skeleton("graph.kinetics") is kinetics.SKELETON
    assert find_skeleton(str(write(RAT))) == find_skeleton(write(RAT)) == read_skeleton(write(RAT))


@pytest.mark.parametrize(
    "name", ["graph.ntu_rgbd", "ntu_rgb_d", "graph.custom", "graph.skeleton", "os", 5, [5], None, ""]
)
def test_an_unknown_skeleton_is_refused_with_the_known_ones(name):
    with pytest.raises(
        ValueError,
        match="skeleton: expected a module of graph/.* file, got .*(did you mean|known:|the nearest are) ",
    ):
        find_skeleton(name)


def test_a_name_that_no_file_can_have_is_not_a_skeleton():
    for name in ("é" * 300, "a\0b"):
        with pytest.raises(ValueError, match="expected a module of graph/, a body layout or a YAML file"):
            find_skeleton(name)
