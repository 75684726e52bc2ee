"""Weights for another body: every tensor that depends on the joints is declared and mapped."""

import pytest
import torch

from graph import ntu_rgb_d, ucla
from graph.shares import joint_shares
from model import catalog, transfer
from tests.model.zoo import build

WITHOUT_JOINTS = ("conv_sa", "rpe", "relative_position_bias_table")  # kernels, distances along bones, groups


@pytest.mark.parametrize("name", catalog.networks())
def test_every_tensor_that_depends_on_the_body_is_declared_and_mapped(name):
    kinect, here = build(name), build(name, "ucla", num_person=1)
    if hasattr(here, "takes_heatmaps"):
        kinect, here = build(name, in_channels=25), build(name, "ucla", in_channels=20)
    state, own = kinect.state_dict(), here.state_dict()
    differ = {key for key in own if state[key].shape != own[key].shape}
    tables = {*transfer.joint_tables(here), *transfer.norm_tables(here)}
    assert differ
    undeclared = [key for key in differ - tables if not any(word in key for word in WITHOUT_JOINTS)]
    assert not undeclared, "name them in `topologies` or `joint_axes` (model/transfer.py)"
    mapped, origin = transfer.adapt(here, state, kinect, ucla.SKELETON, ntu_rgb_d.SKELETON)
    assert mapped.keys() == tables and origin == "the map from kinect_v2_25 to kinect_v1_20"
    here.load_state_dict(own | mapped)
    for key, (_, from_graph) in transfer.joint_tables(here).items():  # nothing was learned: the graph of the new body
        assert not from_graph or torch.allclose(mapped[key], own[key], atol=1e-5)


def test_what_was_learned_between_two_joints_is_added_between_those_that_come_from_them():
    kinect, here = (build("ctrgcn", body, channels=[8]) for body in ("ntu_rgb_d", "ucla"))
    state = {key: value.clone() for key, value in kinect.state_dict().items()}
    state["l1.gcn1.PA"][1, 20, 7] += 0.5  # spine at shoulders, left hand: joints 2 and 7 there
    mapped, _ = transfer.adapt(here, state, kinect, ucla.SKELETON, ntu_rgb_d.SKELETON)
    change = mapped["l1.gcn1.PA"] - here.l1.gcn1.PA.detach()
    assert change[1, 2, 7] == pytest.approx(0.5) and change.abs().sum() == pytest.approx(0.5, abs=1e-5)


def test_norms_of_the_input_keep_channels_apart_and_fill_further_persons():
    one, two = (build("ctrgcn", "ucla", num_person=M, channels=[8]) for M in (1, 2))
    state = one.state_dict() | {"data_bn.running_mean": torch.arange(60.0)}
    mapped, _ = transfer.adapt(two, state, one, ucla.SKELETON, ucla.SKELETON)
    assert mapped.keys() == {f"data_bn.{key}" for key in ("weight", "bias", "running_mean", "running_var")}
    assert torch.equal(mapped["data_bn.running_mean"], torch.arange(60.0).repeat(2))
    back, _ = transfer.adapt(one, two.state_dict() | mapped, two, ucla.SKELETON, ucla.SKELETON)
    assert torch.equal(back["data_bn.running_mean"], torch.arange(60.0))
    kinect = build("ctrgcn", num_person=1, channels=[8])
    state = {"data_bn.running_mean": torch.arange(75.0)}
    mapped, _ = transfer.adapt(one, state, kinect, ucla.SKELETON, ntu_rgb_d.SKELETON)
    assert mapped["data_bn.running_mean"].view(20, 3)[2].tolist() == [60.0, 61.0, 62.0]  # joint 20 there


@pytest.mark.parametrize(("body", "channels"), [("ntu_rgb_d", 2), ("ntu_rgb_d", 6), ("coco", 2)])
def test_norms_of_the_input_of_another_number_of_channels_are_not_mapped(body, channels):
    kinect, here = build("ctrgcn", channels=[8]), build("ctrgcn", body, in_channels=channels, channels=[8])
    bodies = transfer.body_of(f"graph.{body}.Graph"), ntu_rgb_d.SKELETON
    like_here = build("ctrgcn", in_channels=channels, channels=[8])  # the file does not state its number of channels
    for source in (kinect, like_here):
        mapped, _ = transfer.adapt(here, kinect.state_dict(), source, *bodies)
        assert not any(name.startswith("data_bn") for name in mapped)
        assert ("l1.gcn1.PA" in mapped) == (body == "coco")


def test_axes_of_joints_are_repeated_or_followed_by_other_entries():
    shares = torch.from_numpy(joint_shares(ntu_rgb_d.SKELETON, ucla.SKELETON)[0]).float()
    value = torch.arange(75.0)
    assert torch.equal(transfer.move(value, 0, 60, shares).view(3, 20), value.view(3, 25) @ shares.T)
    assert torch.equal(transfer.move(value[:28], 0, 23, shares)[20:], value[25:28])
    assert transfer.move(value[:28], 0, 10, shares) is None
