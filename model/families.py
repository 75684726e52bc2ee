"""The families of published checkpoints: their key names and tensors, and those of the networks in this package.

Sources: names and shapes in the state dicts of PYSKL, mmaction2 0.x and 1.x, ProtoGCN, ACLNet and SkeletonAgent.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model import dgstgcn, msg3d, network

State = dict[str, Tensor]
Args = dict[str, Any]
Names = list[tuple[str, str]]  # published name, name here; {i} a block, {j} = i + 1, {k} a subset, {rest} anything
Convert = Callable[[State, Args], State]


@dataclass(frozen=True)
class Family:
    """One kind of published checkpoint and the equivalent network in this package.

    sign: pattern of a key that only this family has. first: a weight whose second axis is the number of input channels
    (times K for MS-G3D). per_person: whether `data_bn` has statistics for every person slot. names: the table of names
    without `backbone.` and with the classifier as `fc`; None if the network here uses the published names.
    to_ours, to_published: conversions of the values, under the names here.
    """

    name: str
    model: str
    sign: str
    first: str
    per_person: bool
    names: Names | None = None
    to_ours: Convert = lambda state, args: state
    to_published: Convert | None = lambda state, args: state


def adjacency(args: Args) -> Tensor:
    """The adjacency (K, V, V) of the graph that the arguments name."""
    return network.load_graph(args["graph"], args.get("graph_args"), args["num_point"])


# ST-GCN: every block has the adjacency as a buffer and the edge importance as its parameter PA.

STGCN_NAMES = [
    ("gcn.{i}.gcn.conv.{rest}", "st_gcn_networks.{i}.gcn.conv.{rest}"),
    ("gcn.{i}.gcn.bn.{rest}", "st_gcn_networks.{i}.tcn.0.{rest}"),
    ("gcn.{i}.tcn.conv.{rest}", "st_gcn_networks.{i}.tcn.2.{rest}"),
    ("gcn.{i}.tcn.bn.{rest}", "st_gcn_networks.{i}.tcn.3.{rest}"),
    ("gcn.{i}.residual.conv.{rest}", "st_gcn_networks.{i}.residual.0.{rest}"),
    ("gcn.{i}.residual.bn.{rest}", "st_gcn_networks.{i}.residual.1.{rest}"),
    ("gcn.{i}.gcn.PA", "edge_importance.{i}"),
    ("gcn.{i}.gcn.A", "A.{i}"),
    ("fc.{rest}", "fcn.{rest}"),
]


def stgcn_to_ours(state: State, args: Args) -> State:
    """Convert adjacencies that differ between blocks to edge importances of an adjacency of ones; the function is the
    same."""
    own = {key: state.pop(key) for key in list(state) if re.fullmatch(r"A\.\d+", key)}
    if own:
        state["A"] = own["A.0"]
        if not all(torch.equal(A, own["A.0"]) for A in own.values()):
            state["A"] = torch.ones_like(own["A.0"])
            state |= {f"edge_importance.{k[2:]}": A * state[f"edge_importance.{k[2:]}"] for k, A in own.items()}
    state["fcn.weight"] = state["fcn.weight"].flatten(1)[:, :, None, None]
    return state


def stgcn_to_published(state: State, args: Args) -> State:
    A, blocks = state.pop("A"), [key for key in state if key.startswith("edge_importance.")]
    state |= {f"A.{key.rpartition('.')[2]}": A.clone() for key in blocks}
    return state | {"fcn.weight": state["fcn.weight"].flatten(1)}


# AAGCN, also mmaction2's 2s-AGCN, which is AAGCN without attention: only names differ, and an unused constant.

AAGCN_NAMES = [
    ("gcn.{i}.gcn.A", "l{j}.gcn1.PA"),
    ("gcn.{i}.gcn.{rest}", "l{j}.gcn1.{rest}"),
    ("gcn.{i}.tcn.{rest}", "l{j}.tcn1.{rest}"),
    ("gcn.{i}.residual.{rest}", "l{j}.residual.{rest}"),
]


def without_graph(state: State, args: Args) -> State:
    return {key: value for key, value in state.items() if key != "A"}


def with_graph(state: State, args: Args) -> State:
    return state | {"A": adjacency(args)}


# CTR-GCN: the topology is transposed, so the two embeddings are exchanged and their difference changes its sign.

CTRGCN_NAMES = [
    ("net.{i}.gcn1.A", "l{j}.gcn1.PA"),
    ("net.{i}.gcn1.convs.{k}.conv1.{rest}", "l{j}.gcn1.convs.{k}.conv2.{rest}"),
    ("net.{i}.gcn1.convs.{k}.conv2.{rest}", "l{j}.gcn1.convs.{k}.conv1.{rest}"),
    ("net.{i}.{rest}", "l{j}.{rest}"),
]


def transpose_topology(state: State) -> State:
    """Its own inverse."""
    return {
        key: value.transpose(1, 2).contiguous()
        if key.endswith("gcn1.PA")
        else -value
        if re.search(r"\.gcn1\.convs\.\d+\.conv4\.weight$", key)
        else value
        for key, value in state.items()
    }


# MS-G3D: each unit has a constant A and learned PA, both (K, V, V) and transposed; here a constant A is not in the
# file, and A_res (K V, V) is learned.


def msg3d_to_ours(state: State, args: Args) -> State:
    out, constant = {}, constants(args)
    for key, value in state.items():
        place = key.rpartition(".")[0]
        if key.endswith(".PA"):
            whole = (state[f"{place}.A"] + value).transpose(1, 2).flatten(0, 1)
            out[f"{place}.A_res"] = whole - constant[f"{place}.A"].to(whole)
        elif key != "A" and not key.endswith(".A"):
            out[key] = value
    return out


def msg3d_to_published(state: State, args: Args) -> State:
    """The constant of the network here becomes the file's A."""
    out, constant = {"A": adjacency(args)[0]}, constants(args)
    for key, value in state.items():
        if key.endswith(".A_res"):
            place, V = key.removesuffix(".A_res"), value.shape[1]
            out[f"{place}.PA"] = value.unflatten(0, (-1, V)).transpose(1, 2).contiguous()
            out[f"{place}.A"] = constant[f"{place}.A"].unflatten(0, (-1, V)).transpose(1, 2).contiguous()
        else:
            out[key] = value
    return out


def constants(args: Args) -> State:
    """The buffers of the network with these arguments."""
    return dict(msg3d.Model(**args).named_buffers())


# DG-STGCN: entries of add_coeff after the last joint have no effect, and their number is an option of PYSKL.


def with_published_length(state: State, args: Args) -> State:
    V = args["num_point"]
    length = max(V, dgstgcn.PUBLISHED_JOINTS)
    return {
        key: F.pad(value[:V], (0, length - V)) if key.endswith(".tcn.add_coeff") and len(value) != length else value
        for key, value in state.items()
    }


# mmaction2 0.x: the networks of the original programs, with the statistics of the input shared by the persons.

OLD_AGCN_NAMES = [
    ("agcn_networks.{i}.gcn.{rest}", "l{j}.gcn1.{rest}"),
    ("agcn_networks.{i}.tcn.0.{rest}", "l{j}.tcn1.conv.{rest}"),
    ("agcn_networks.{i}.tcn.1.{rest}", "l{j}.tcn1.bn.{rest}"),
    ("agcn_networks.{i}.residual.0.{rest}", "l{j}.residual.conv.{rest}"),
    ("agcn_networks.{i}.residual.1.{rest}", "l{j}.residual.bn.{rest}"),
]


def old_agcn_to_ours(state: State, args: Args) -> State:
    for key, value in state.items():
        if key.startswith("data_bn.") and value.dim():
            state[key] = value.repeat(args["num_person"])
    return without_graph(state, args) | {"fc.weight": state["fc.weight"].flatten(1)}


OLD_STGCN = Family(
    "mmaction2 0.x ST-GCN",
    "model.stgcn.Model",
    r"backbone\.st_gcn_networks\.",
    "backbone.st_gcn_networks.0.gcn.conv.weight",
    False,
    [("fc.{rest}", "fcn.{rest}")],
)
OLD_AGCN = Family(
    "mmaction2 0.x AGCN",
    "model.agcn.Model",
    r"backbone\.agcn_networks\.",
    "backbone.agcn_networks.0.gcn.conv_d.0.weight",
    False,
    OLD_AGCN_NAMES,
    old_agcn_to_ours,
)
CTRGCN = Family(
    "PYSKL CTR-GCN",
    "model.ctrgcn.Model",
    r"backbone\.net\.\d",
    "backbone.net.0.gcn1.convs.0.conv1.weight",
    True,
    CTRGCN_NAMES,
    lambda state, args: transpose_topology(without_graph(state, args)),
    lambda state, args: with_graph(transpose_topology(state), args),
)
MSG3D = Family(
    "PYSKL MS-G3D",
    "model.msg3d.Model",
    r"backbone\.sgcn1\.",
    "backbone.sgcn1.0.mlp.layers.0.weight",
    True,
    [],
    msg3d_to_ours,
    msg3d_to_published,
)
DGSTGCN = Family(
    "PYSKL DG-STGCN",
    "model.dgstgcn.Model",
    r"backbone\.gcn\.0\.tcn\.add_coeff",
    "backbone.gcn.0.gcn.pre.0.weight",
    False,
    to_ours=with_published_length,
)
STGCNPP = Family(
    "PYSKL ST-GCN++",
    "model.stgcnpp.Model",
    r"backbone\.gcn\.0\.tcn\.branches\.",
    "backbone.gcn.0.gcn.conv.weight",
    False,
)
AAGCN = Family(
    "PYSKL AAGCN",
    "model.aagcn.Model",
    r"backbone\.gcn\.0\.gcn\.conv_d\.0\.",
    "backbone.gcn.0.gcn.conv_d.0.weight",
    True,
    AAGCN_NAMES,
    without_graph,
    with_graph,
)
STGCN = Family(
    "PYSKL ST-GCN",
    "model.stgcn.Model",
    r"backbone\.gcn\.0\.gcn\.PA",
    "backbone.gcn.0.gcn.conv.weight",
    False,
    STGCN_NAMES,
    stgcn_to_ours,
    stgcn_to_published,
)
POSEC3D = Family(
    "PYSKL PoseConv3D",
    "model.posec3d.Model",
    r"backbone\.(conv1|conv1a|conv1_s)\.conv\.weight",
    "",
    False,
)
FAMILIES = (
    OLD_STGCN,
    OLD_AGCN,
    CTRGCN,
    MSG3D,
    DGSTGCN,
    STGCNPP,
    AAGCN,
    STGCN,
    POSEC3D,
)  # the first sign that a key has decides
