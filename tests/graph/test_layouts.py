"""Body layouts and the maps between them."""

import numpy as np
import pytest

from graph.coco import SKELETON as COCO
from graph.layouts import find_layout, find_map, layout_of_names, layouts, layouts_of_count, nearest_layout, to_axes
from graph.ntu_rgb_d import SKELETON as NTU
from graph.ucla import SKELETON as UCLA
from torchlight.system.yaml_files import read_yaml

MAPS = [(source, target) for target, sources in read_yaml("graph/layouts.yaml")["maps"].items() for source in sources]


@pytest.mark.parametrize("name", layouts())
def test_the_parts_of_a_layout_are_all_its_joints_once_and_pairs_have_opposite_sides(name):
    layout = layouts()[name]
    assert sorted(i for part in layout.parts.values() for i in part) == list(range(layout.num_joint))
    joints = layout.skeleton.joints
    for left, right in zip(layout.skeleton.left, layout.skeleton.right, strict=True):
        if "left" in joints[left]:
            assert joints[left].replace("left", "right") == joints[right]


@pytest.mark.parametrize(
    ("skeleton", "name"), [(NTU, "kinect_v2_25"), (COCO, "coco_17"), (UCLA, "kinect_v1_20")], ids=lambda x: str(x)[:12]
)
def test_the_bodies_of_the_datasets_are_the_layouts_of_their_sensors(skeleton, name):
    other = find_layout(name).skeleton
    assert (skeleton.parents, skeleton.left, skeleton.right) == (other.parents, other.left, other.right)


@pytest.mark.parametrize(("source", "target"), MAPS)
def test_a_map_fills_every_joint_and_keeps_left_and_right(source, target):
    """Exchanged sides of the source exchange the sides of the target."""
    layout_map = find_map(source, target)
    draw = np.random.default_rng(0)
    points = draw.normal(size=(2, 5, layout_map.source.num_joint, 3)).astype(np.float32)
    made, score = layout_map.apply(points, np.ones(points.shape[:3], np.float32))
    assert np.isfinite(made).all() and (score == 1).all()

    def exchange(x, layout):
        order = np.arange(layout.num_joint)
        left, right = list(layout.skeleton.left), list(layout.skeleton.right)
        order[left], order[right] = right, left
        return x[..., order, :]

    swapped, _ = layout_map.apply(exchange(points, layout_map.source))
    if layout_map.source.name != "coco_wholebody_133":  # to one hand
        np.testing.assert_allclose(swapped, exchange(made, layout_map.target), rtol=1e-6, atol=1e-6)


def test_a_copied_joint_is_the_joint_and_an_extension_lies_beyond_it():
    layout_map = find_map("coco_17", "kinect_v2_25")
    points = np.random.default_rng(0).normal(size=(17, 2))
    made, _ = layout_map.apply(points)
    wrist, elbow = points[9], points[7]
    np.testing.assert_array_equal(made[6], wrist)
    np.testing.assert_allclose(made[7], wrist + 0.25 * (wrist - elbow))
    np.testing.assert_allclose(made[0], (points[11] + points[12]) / 2)
    assert "left hand" in layout_map.imputed and "left wrist" not in layout_map.imputed


def test_a_joint_that_was_not_seen_is_missing_where_it_is_required_and_excluded_from_means():
    layout_map = find_map("coco_17", "kinect_v2_25")
    points, score = np.random.default_rng(0).normal(size=(17, 2)), np.linspace(0.1, 0.9, 17)
    points[[0, 9]] = np.nan  # nose, left wrist
    made, scores = layout_map.apply(points, score)
    assert np.isnan(made[[6, 7]]).all() and (scores[[6, 7]] == 0).all()
    np.testing.assert_allclose(made[3], points[1:5].mean(0))
    assert scores[3] == pytest.approx(score[1:5].mean()) and scores[0] == pytest.approx(min(score[11], score[12]))


def test_toes_are_used_if_they_were_seen_and_the_shank_is_extended_otherwise():
    layout_map = find_map("halpe_26", "kinect_v2_25")
    points = np.random.default_rng(0).normal(size=(26, 2))
    np.testing.assert_allclose(layout_map.apply(points)[0][15], points[[20, 22]].mean(0))
    points[[20, 22]] = np.nan
    ankle, knee = points[15], points[13]
    np.testing.assert_allclose(layout_map.apply(points)[0][15], ankle + 0.15 * (ankle - knee))


def test_a_layout_is_found_by_name_alias_joint_count_and_joint_names():
    assert find_layout("NTU") is find_layout("kinect_v2_25") is layouts()["kinect_v2_25"]
    assert {layout.name for layout in layouts_of_count(17)} == {"coco_17", "h36m_17"}
    spelled = [name.replace(" ", "_").upper() for name in layouts()["coco_17"].skeleton.joints]
    assert layout_of_names(spelled) is layouts()["coco_17"]
    assert layout_of_names(["a", "b"]) is None
    for spell in (str, str.upper, lambda name: name.replace("left", "l").replace("right", "r")):
        joined = [spell(name).replace(" ", "") for name in layouts()["coco_17"].skeleton.joints]
        assert layout_of_names(joined) is layouts()["coco_17"]
        assert nearest_layout(joined[::-1]) == (layouts()["coco_17"], list(range(17))[::-1])
    kinect = layouts()["kinect_v2_25"]
    assert nearest_layout([name.title().replace(" ", "") for name in kinect.other_names[0]]) == (kinect, [*range(25)])
    with pytest.raises(ValueError, match="did you mean kinect_v2_25"):
        find_layout("kinect_v2_26")
    with pytest.raises(ValueError, match="layout: expected recordings of coco_17, .*kinect_v2_25.*, got dhg_22"):
        find_map("dhg_22", "coco_17")


def camel(name):
    return "".join(word.title() for word in name.split())


def unreal(name):
    side, _, rest = name.partition(" ")
    return f"{rest}_{side[0]}" if side in ("left", "right") else name.replace(" ", "_")


@pytest.mark.parametrize(
    ("names", "spell"), list(zip(layouts()["mocap_20"].other_names, (camel, camel, unreal), strict=True)), ids="abc"
)
def test_skeletons_of_motion_capture_are_found_by_the_names_of_each_program(names, spell):
    """In another order, with a further joint and without toes."""
    toes = [i for i, joint in enumerate(layouts()["mocap_20"].skeleton.joints) if joint.endswith("toe")]
    given = [spell("left thumb"), *(spell(name) for i, name in enumerate(names) if i not in toes)][::-1]
    layout, places = nearest_layout(given)
    assert layout.name == "mocap_20" and [i for i, place in enumerate(places) if place < 0] == toes
    assert all(given[place] == spell(names[i]) for i, place in enumerate(places) if place >= 0)


@pytest.mark.parametrize("source", ["camera", "kinect", "smpl", "world_z_up"])
@pytest.mark.parametrize("target", ["camera", "kinect", "smpl", "world_z_up"])
def test_axes_are_rotated_and_never_mirrored(source, target):
    basis = to_axes(np.eye(3), source, target)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3))
    assert np.linalg.det(basis) == pytest.approx(1)
    points = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(to_axes(to_axes(points, source, target), target, source), points)


def test_up_stays_up():
    np.testing.assert_allclose(to_axes(np.array([0.0, -1, 0]), "camera", "kinect"), [0, 1, 0])
    np.testing.assert_allclose(to_axes(np.array([0.0, 0, 1]), "world_z_up", "kinect"), [0, 1, 0])
    np.testing.assert_allclose(to_axes(np.array([1.0, 0, 0]), "camera", "kinect"), [-1, 0, 0])
    with pytest.raises(ValueError, match="axes: expected camera|axes: expected kinect"):
        to_axes(np.eye(3), "image", "kinect")
