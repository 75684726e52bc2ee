"""Which joints of one body the joints of another come from."""

import numpy as np
import pytest

from graph import coco, hand, ntu_rgb_d, ntu_rgb_d_tips, shares, ucla
from graph.body import Skeleton
from graph.skeleton import find_skeleton

POSE = find_skeleton("mediapipe_pose_33")


def custom(name="own", joints=("neck", "left hand", "right hand", "tail"), maps=()):
    parents = (0,) * len(joints)
    return Skeleton(name, tuple(joints), parents, parents, 0, maps=maps)


def sources(rows, source, target, joint) -> set[str]:
    """Names of the joints that a joint comes from."""
    return {source.joints[i] for i in np.flatnonzero(rows[target.joints.index(joint)])}


@pytest.mark.parametrize(("source", "target"), [(ntu_rgb_d, ucla), (ucla, coco), (coco, ntu_rgb_d)])
def test_every_joint_has_shares_that_sum_to_one_and_sides_stay(source, target):
    source, target = source.SKELETON, target.SKELETON
    rows, _ = shares.joint_shares(source, target)
    assert rows.shape == (target.num_joint, source.num_joint) and (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(1), 1)
    assert not rows[np.ix_(target.left, source.right)].any() and not rows[np.ix_(target.right, source.left)].any()


def test_the_shares_of_equal_joints_do_not_depend_on_the_bones():
    rows, origin = shares.joint_shares(ntu_rgb_d.SKELETON, ntu_rgb_d_tips.SKELETON)
    assert origin == "the same joints" and np.array_equal(rows, np.eye(25))


def test_a_body_of_your_own_with_the_name_of_a_layout_has_the_shares_of_its_own_joints():
    joints = coco.SKELETON.joints[::-1]
    rows, origin = shares.joint_shares(coco.SKELETON, custom("coco", joints))
    assert origin == "joints of the same name" and np.array_equal(rows, np.eye(17)[::-1])
    spelled = custom("coco", [joint.replace(" ", "_").upper() for joint in coco.SKELETON.joints])
    assert shares.joint_shares(ntu_rgb_d.SKELETON, spelled)[1] == "the map from kinect_v2_25 to coco_17"


def test_a_map_in_the_opposite_direction_gives_each_joint_those_that_are_computed_from_it():
    rows, origin = shares.joint_shares(ntu_rgb_d.SKELETON, POSE)
    assert origin == "the reverse of the map from mediapipe_pose_33 to kinect_v2_25"
    for joint, expected in {
        "left shoulder": {"left shoulder"},  # not the spine, half of which is made of it
        "nose": {"head"},
        "left heel": {"left ankle"},  # nothing is made of it: that of the nearest joint
        "right pinky": {"right hand", "tip of right hand"},
    }.items():
        assert sources(rows, ntu_rgb_d.SKELETON, POSE, joint) == expected


def test_a_custom_body_is_mapped_by_its_own_maps_or_by_the_names_of_its_joints():
    own = custom(maps=(("kinect_v2_25", "0=s2 1=s7 2=s11 3=extend(s0,s1,1)"),))
    rows, origin = shares.joint_shares(ntu_rgb_d.SKELETON, own)
    assert origin == "the map from kinect_v2_25 to own" and sources(rows, ntu_rgb_d.SKELETON, own, "tail") == {
        "base of spine"
    }
    rows, origin = shares.joint_shares(ntu_rgb_d.SKELETON, custom())
    assert origin == "joints of the same name" and sources(rows, ntu_rgb_d.SKELETON, custom(), "tail") == {"neck"}


def test_bodies_without_common_joints_have_no_shares():
    assert shares.joint_shares(ntu_rgb_d.SKELETON, hand.SKELETON) is None
    assert shares.joint_shares(custom("a"), custom("b", ("w", "x", "y", "z"))) is None
