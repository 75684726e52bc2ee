"""Checkpoints of toolboxes: every published key is recognized, and a conversion in both directions changes nothing."""

import gzip
import json
import pkgutil
import re

import pytest
import torch

from model.published import open_checkpoint, to_published
from tests.model.golden import FOLDER, fill
from tests.model.zoo import build

KEYS = json.loads(gzip.decompress((FOLDER / "published_keys.json.gz").read_bytes()))
ROUND_TRIP = [name for name in KEYS if not name.startswith("mmaction2-0.x")]  # whose names no other toolbox has
WIDE = [96] * 4 + [192] * 3 + [384] * 3
DROPPED = {"firework8_aclnet": 4, "firework8_protogcn": 11, "firework8_skeletonagent": 6}
EXPECTED = {
    "firework8_aclnet": ("dgstgcn", {"channels": WIDE}),
    "firework8_protogcn": ("dgstgcn", {"channels": WIDE}),
    "firework8_protogcn_k400": ("dgstgcn", {"channels": WIDE, "num_point": 20, "num_class": 400}),
    "firework8_skeletonagent": ("dgstgcn", {"channels": WIDE[1:], "joint_embedding": True}),
    "firework8_skeletonagent_k400": ("dgstgcn", {"channels": WIDE, "num_point": 20, "num_class": 400}),
    "mmaction2-0.x_agcn": ("agcn", {}),
    "mmaction2-0.x_stgcn": ("stgcn", {}),
    "mmaction2-1.x_2s-agcn": ("aagcn", {"attention": False}),
    "mmaction2-1.x_stgcn++": ("stgcnpp", {}),
    "mmaction2-1.x_stgcn": ("stgcn", {}),
    "pyskl_aagcn": ("aagcn", {"attention": True}),
    "pyskl_ctrgcn": ("ctrgcn", {"relu_after_tcn": True}),
    "pyskl_dgstgcn": ("dgstgcn", {}),
    "pyskl_msg3d": ("msg3d", {"num_gcn_scales": 13, "num_g3d_scales": 6}),
    "pyskl_stgcn++": ("stgcnpp", {}),
    "pyskl_stgcn": ("stgcn", {}),
}


def published_state(name: str) -> dict[str, torch.Tensor]:
    """A state dict with the published keys and shapes of a file, filled by name; adjacencies of blocks are equal."""
    state = {}
    for key, shape, dtype in KEYS[name]:
        source = "A" if re.fullmatch(r"backbone\.gcn\.\d+\.gcn\.A", key) and name.endswith("_stgcn") else key
        state[key] = torch.as_tensor(fill(source, shape)).to(getattr(torch, dtype))
    return state


def load(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    found = open_checkpoint(state)
    model = pkgutil.resolve_name(found.model)(**found.model_args)
    model.load_state_dict(found.state)
    return model.eval()


@pytest.mark.parametrize("name", KEYS)
def test_a_published_file_is_recognized_and_loads_strictly(name):
    state = published_state(name)
    found = open_checkpoint(state)
    network, special = EXPECTED[name]
    assert found.model == f"model.{network}.Model"
    assert special.items() <= found.model_args.items() and found.model_args["num_person"] == 2
    assert not found.unknown and len(found.dropped) == DROPPED.get(name.removesuffix("_k400"), 0)
    with torch.no_grad():
        assert load(state)(torch.randn(1, 3, 16, found.model_args["num_point"], 2)).isfinite().all()


@pytest.mark.parametrize("name", ROUND_TRIP)
def test_a_conversion_in_both_directions_is_the_identity(name):
    state = {key.replace("cls_head.fc.", "cls_head.fc_cls."): value for key, value in published_state(name).items()}
    found = open_checkpoint(state)
    back = to_published(found.state, found.model, found.model_args)
    state = {key: value for key, value in state.items() if key not in found.dropped}
    assert set(back) == set(state)
    again = open_checkpoint(back)
    for key, value in found.state.items():
        torch.testing.assert_close(again.state[key], value, rtol=0, atol=1e-6 if "A_res" in key else 0)
    constant = ("backbone.A",) if name != "pyskl_msg3d" else tuple(key for key in state if key.endswith(("A", "PA")))
    for key, value in state.items():
        if not key.startswith(constant):
            assert torch.equal(back[key], value), key


def test_adjacencies_that_differ_between_the_blocks_give_the_same_function():
    state = published_state("pyskl_stgcn")
    state["backbone.gcn.3.gcn.A"] = 2 * state["backbone.gcn.3.gcn.A"]
    other = dict(state)
    other["backbone.gcn.3.gcn.A"] = state["backbone.gcn.0.gcn.A"]
    other["backbone.gcn.3.gcn.PA"] = 2 * state["backbone.gcn.3.gcn.PA"]
    data = torch.randn(2, 3, 16, 25, 2)
    with torch.no_grad():
        torch.testing.assert_close(load(state)(data), load(other)(data))


def test_entries_of_unpublished_objectives_are_recognized_and_dropped():
    state = published_state("firework8_protogcn") | {"cls_head.new_loss.weight": torch.zeros(2)}
    found = open_checkpoint(state)
    assert found.unknown == ("cls_head.new_loss.weight",) and len(found.dropped) == 12
    assert (
        "cls_head.new_loss.weight"
        in open_checkpoint(published_state("pyskl_dgstgcn") | {"cls_head.new_loss.weight": torch.zeros(2)}).state
    )


@pytest.mark.parametrize("length", [17, 19, 33])
def test_coefficients_of_joints_that_do_not_exist_are_added_or_removed(length):
    model = pkgutil.resolve_name("model.dgstgcn.Model")(60, 17, 2, "graph.coco.Graph")
    state = {key.replace("cls_head.fc.", "cls_head.fc_cls."): value for key, value in model.state_dict().items()}
    given = torch.arange(1.0, length + 1)
    state |= {key: given for key in state if key.endswith("add_coeff")}
    found = open_checkpoint(state)
    model.load_state_dict(found.state)
    coefficients = model.backbone["gcn"][0].tcn.add_coeff
    assert torch.equal(coefficients[:17], given[:17]) and len(coefficients) == 25


def test_two_names_of_one_tensor_are_refused():
    state = published_state("pyskl_aagcn")
    with pytest.raises(ValueError, match="expected distinct names of PYSKL AAGCN"):
        open_checkpoint(state | {"cls_head.fc.weight": state["cls_head.fc_cls.weight"]})


def test_the_arguments_follow_from_the_tensors():
    args = {"num_class": 7, "num_point": 17, "num_person": 3, "graph": "graph.coco.Graph"}
    for name, special in (
        ("dgstgcn", {"in_channels": 2, "channels": [16, 16, 32], "num_filter": 4}),
        ("dgstgcn", {"in_channels": 2, "channels": [16, 16, 32], "joint_embedding": True}),
        ("stgcnpp", {"in_channels": 2, "channels": [12, 24]}),
    ):
        found = open_checkpoint(build(name, "coco", 3, 7, **special).state_dict())
        persons = {"num_person": 3 if "joint_embedding" in special else 2}  # else in no tensor
        assert found.model_args == args | special | persons and found.model == f"model.{name}.Model"


def test_own_and_original_names_are_not_recognized_as_a_published_checkpoint():
    assert open_checkpoint(build("ctrgcn").state_dict()) is None
    assert open_checkpoint({}) is None


@pytest.mark.parametrize("name", KEYS)
def test_an_incomplete_file_is_refused_or_fails_strict_loading(name):
    state = published_state(name)
    for missing in ("backbone.data_bn.weight", next(key for key in state if key.startswith("cls_head.fc"))):
        with pytest.raises(ValueError, match="expected a complete checkpoint of"):
            open_checkpoint({key: value for key, value in state.items() if key != missing})


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("ctrgcn", {}, "relu_after_tcn: expected true"),
        ("aagcn", {"adaptive": False}, "l1.gcn1.alpha"),
        ("stgcn", {"edge_importance_weighting": False}, "unknown to PYSKL"),
        ("ctrgcn", {"channels": [16, 16], "relu_after_tcn": True}, "another"),
        ("agcn", {}, "expected a network that PYSKL has"),
    ],
)
def test_networks_that_pyskl_does_not_have_are_not_exported(name, changed, message):
    args = {"num_class": 5, "num_point": 25, "num_person": 2, "graph": "graph.ntu_rgb_d.Graph"} | changed
    with pytest.raises(ValueError, match=message):
        to_published(build(name, **changed).state_dict(), f"model.{name}.Model", args)
