import numpy as np
import pytest

from graph import coco, kinetics, ntu_rgb_d
from graph.skeleton import Skeleton, build_graph

BODIES = ["coco", "hand", "kinetics", "ntu_rgb_d", "ucla"]

RAT = """
joints: [nose, neck, left ear, right ear]
bones: [[nose, neck], [left ear, nose], [3, 0]]
bone_parents: [[nose, nose], [neck, nose]]
left: [left ear]
right: [right ear]
"""


def body(**changed):
    table = {"name": "body", "joints": ("a", "b", "c"), "parents": (0, 0, 0), "bone_parents": (0, 0, 0), "centre": 0}
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
    assert graph.skeleton.parents[graph.skeleton.centre] == graph.skeleton.centre


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


def test_hips_of_coco_hang_on_the_nose_as_bones_and_on_the_shoulders_for_tsgcnext():
    assert [coco.SKELETON.bone_parents[i] for i in (11, 12)] == [0, 0]
    assert [coco.BONE_PARENTS_TSGCNEXT[i] for i in (11, 12)] == [5, 6]


def test_common_joints_of_coco_and_ntu_mean_the_same_places():
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
        ({"parents": (0, 1, 0)}, r"roots \['a', 'b'\] in parents"),
        ({"parents": (0, 2, 1)}, "from b round in a circle"),
        ({"bone_parents": (1, 2, 0)}, "bone_parents"),
        ({"centre": 3}, "centre 3"),
        ({"left": (1,)}, "equal length"),
        ({"left": (1,), "right": (1,)}, "at most once"),
        ({"left": (1,), "right": (7,)}, "0 to 2"),
    ],
)
def test_impossible_tables_are_refused_in_words(changed, words):
    with pytest.raises(ValueError, match=words):
        body(**changed)


def test_a_body_is_read_from_a_file_by_names_and_numbers(write):
    skeleton = Skeleton.from_yaml(write(RAT))
    assert skeleton == Skeleton(
        "rat", ("nose", "neck", "left ear", "right ear"), (1, 1, 0, 0), (0, 0, 0, 0), 1, (2,), (3,)
    )


def test_a_graph_of_ones_own_body_is_built_from_the_file(write):
    graph = build_graph("graph.custom.Graph", {"skeleton": str(write(RAT)), "labeling_mode": "stgcn_spatial"})
    assert graph.A.shape == (3, 4, 4)
    assert graph.skeleton.joints[graph.skeleton.centre] == "neck"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RAT.replace("[nose, neck]", "[nose, nek]"), "bones: found joint 'nek'; allowed are neck"),
        (RAT.replace("[3, 0]", "[4, 0]"), "found joint 4"),
        (RAT.replace(", [3, 0]", ""), r"no parent for \['neck', 'right ear'\]"),
        (RAT.replace("[3, 0]", "[3, 0], [3, 1]"), "two parents of 'right ear'"),
        (RAT.replace("[3, 0]", "3"), "list of .child, parent."),
        (RAT.replace("left:", "lefts:"), "the key 'lefts'; allowed are left"),
        (RAT.replace("joints:", "name:"), "joints: found None; allowed is a list"),
        ("- nose", "found list"),
        ("joints: [", "no valid YAML"),
        (RAT + "centre: tail", "centre: found joint 'tail'"),
    ],
)
def test_a_file_with_mistakes_is_refused_in_words(write, text, words):
    with pytest.raises(ValueError, match=words) as error:
        Skeleton.from_yaml(write(text))
    assert "rat.yaml" in str(error.value)


def test_a_missing_file_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        Skeleton.from_yaml(tmp_path / "nobody.yaml")


@pytest.mark.parametrize(
    "path", ["graph.ntu.Graph", "graph.ntu_rgb_d", "graph.skeleton.Skeleton", "os.system", "model.ctrgcn.Model", 3]
)
def test_only_graphs_of_this_room_can_be_named(path):
    with pytest.raises(ValueError, match="allowed are graph.coco.Graph, graph.custom.Graph, "):
        build_graph(path)


def test_a_near_miss_names_the_graph_that_was_meant():
    with pytest.raises(ValueError, match=r"did you mean graph\.ntu_rgb_d\.Graph\?"):
        build_graph("graph.ntu_rgbd.Graph")


def test_a_graph_that_is_made_already_is_handed_back_and_takes_no_arguments():
    graph = build_graph("graph.ucla.Graph")
    assert build_graph(graph) is graph
    with pytest.raises(ValueError, match="made already"):
        build_graph(graph, {"max_hop": 2})
