"""Checkpoints of PYSKL, mmaction2, ProtoGCN, ACLNet and SkeletonAgent, converted to the networks of this package.

A file is recognized by its keys. The conversion is exact: renamed entries, transposed or negated tensors, constants
that move from one entry to another. Entries that are only used in training are dropped by name; all others are kept, so
that strict loading detects unknown entries. Files with the key names of the original programs (ST-GCN, 2s-AGCN,
CTR-GCN, MS-G3D) need no conversion.

    found = open_checkpoint(state)
    model = pkgutil.resolve_name(found.model)(**found.model_args)
    model.load_state_dict(found.state)
"""

import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.families import (
    AAGCN,
    CTRGCN,
    DGSTGCN,
    FAMILIES,
    MSG3D,
    OLD_STGCN,
    POSEC3D,
    STGCN,
    STGCNPP,
    Args,
    Family,
    Names,
    State,
)

GRAPHS = {  # by number of joints
    25: "graph.ntu_rgb_d.Graph",
    21: "graph.hand.Graph",
    20: "graph.coco20.Graph",
    18: "graph.kinetics.Graph",
    17: "graph.coco.Graph",
}
TRAINING_ONLY = (  # objectives and prompts of ProtoGCN, ACLNet and SkeletonAgent
    "backbone.prn.",
    "backbone.post.",
    "backbone.bn.",
    "cls_head.csc_loss.",
    "cls_head.inter_loss.",
    "cls_head.intra_loss.",
    "backbone.examplar",
    "backbone.direct_fc.",
    "backbone.linear_head.",
    "backbone.logit_scale",
    "backbone.model_text_dict.",
)
KEPT = ("backbone.gcn.", "backbone.data_bn.", "backbone.to_joint_embedding.", "backbone.pos_embedding", "cls_head.fc")
MOST_SCALES = 100
NUM_FILTER = 8  # groups of DG-STGCN in all published weights
POSEC3D_WIDTH = 32  # of the first layer of PoseConv3D
PLAIN_WIDTH = 64  # of the first block of DG-STGCN; its descendants are wider


@dataclass(frozen=True)
class Published:
    """A recognized checkpoint.

    model, model_args: the matching network, as in a configuration; `num_person` and `graph` are defaults if they cannot
    be derived from the tensors. state: its weights, under the names of that network. dropped: names of entries that are
    only used in training. unknown: those among them that no released program writes.
    """

    family: str
    model: str
    model_args: Args
    state: State
    dropped: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def open_checkpoint(state: Mapping[str, Tensor], model_args: Args | None = None) -> Published | None:
    """The checkpoint in a state dict, or None if the names are those of this project or of no family.

    model_args: arguments of the network of the weights; they override those derived from the tensors.

    Raises:
        ValueError: the file contradicts itself, or tensors of the family are missing or of another shape.
    """
    family = next((f for f in FAMILIES if any(re.match(f.sign, key) for key in state)), None)
    if family is None:
        return None
    try:
        args = arguments(family, state)
        dropped, unknown = training_only(family, state)
        rest = {key: value for key, value in state.items() if key not in dropped}
        renamed = rename(strip(rest, family), family.names or [], 0)
        if len(renamed) != len(rest):
            raise ValueError(f"expected distinct names of {family.name}, got two for one tensor")
        converted = family.to_ours(renamed, args | (model_args or {}))
    except (LookupError, RuntimeError, AttributeError, ArithmeticError, TypeError, StopIteration) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"expected a complete checkpoint of {family.name}, got {reason or error!r}") from error
    return Published(family.name, family.model, args, converted, dropped, unknown)


def to_published(state: Mapping[str, Tensor], model: str, model_args: Args) -> State:
    """The weights of a network here under PYSKL's names: the inverse of `open_checkpoint`.

    model, model_args: as in a configuration.

    Raises:
        ValueError: PYSKL has no network that equals this one.
    """
    family = next((f for f in FAMILIES if f.model == model and f.name.startswith("PYSKL")), None)
    if family is None:
        known = ", ".join(f.model for f in FAMILIES if f.name.startswith("PYSKL"))
        raise ValueError(f"model: expected a network that PYSKL has ({known}), got {model}")
    out = wrap(rename(family.to_published(dict(state), model_args), family.names or [], 1), family)
    again = open_checkpoint(out, model_args)
    different = ["unknown to PYSKL"] if again is None else differences(state, model_args, again)
    if different:
        raise ValueError(
            f"model_args: expected a network that equals {family.name}, got another ({', '.join(different[:3])})"
        )
    return out


def differences(state: State, model_args: Args, again: Published) -> list[str]:
    """Differences between a network and the file `again` that was made from it, or PYSKL's network."""
    args = again.model_args | {key: model_args.get(key) for key in ("graph", "graph_args")}
    theirs = pkgutil.resolve_name(again.model)(**args).state_dict()  # PYSKL's network, as it is here
    different = sorted(key for key in {*theirs, *state} if not same(again.state, state, key) or key not in theirs)
    return different + [f"{k}: expected true" for k in ("relu_after_tcn",) if k in args and not model_args.get(k)]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], key: str) -> bool:
    """Whether two state dicts agree in an entry, up to the rounding of MS-G3D's sums."""
    a, b = one.get(key), other.get(key)
    return a is not None and b is not None and a.shape == b.shape and torch.allclose(a, b.to(a), rtol=1e-6, atol=1e-6)


def arguments(family: Family, state: Mapping[str, Tensor]) -> Args:
    """The arguments of the network, derived from the tensors of a file."""
    if family is POSEC3D:
        return posec3d_arguments(state)
    head = next(key for key in (*state, "cls_head.fc.weight") if re.fullmatch(r"cls_head\.fc(_cls)?\.weight", key))
    if "backbone.pos_embedding" in state:
        V = state["backbone.pos_embedding"].shape[1]
    else:
        V = next(v for k, v in state.items() if re.search(r"(^|\.)(A|PA)$|edge_importance\.0$", k)).shape[-1]
    first, norm = state[family.first], len(state["backbone.data_bn.weight"])
    args: Args = {"num_class": len(state[head]), "num_point": V, "num_person": 2}
    args["graph"] = GRAPHS.get(V, "graph.custom.Graph")
    in_channels = norm // V
    if "backbone.pos_embedding" in state:
        in_channels = state["backbone.to_joint_embedding.weight"].shape[1]
        args["num_person"] = norm // (V * len(state["backbone.to_joint_embedding.weight"]))
    elif family.per_person:
        scales = len(state["backbone.sgcn1.0.PA"]) if family is MSG3D else 1
        in_channels = first.shape[1] // scales
        args["num_person"] = norm // (V * in_channels)
    args |= {"in_channels": in_channels} if in_channels != 3 else {}
    return args | special_arguments(family, state)


def posec3d_arguments(state: Mapping[str, Tensor]) -> Args:
    """The arguments of PoseConv3D, whose published networks have the joints or limbs of COCO as channels."""
    args: Args = {"num_class": len(state["cls_head.fc_cls.weight"]), "num_point": 17, "num_person": 2}
    args["graph"] = GRAPHS[17]
    names = {"conv1": "slowonly", "conv1a": "c3d", "conv1_s": "x3d"}
    stem, network = next((s, n) for s, n in names.items() if f"backbone.{s}.conv.weight" in state)
    width, K = state[f"backbone.{stem}.conv.weight"].shape[:2]
    args |= {"in_channels": K, "network": network}
    if network == "slowonly":
        found = {m.groups() for key in state if (m := re.match(r"backbone\.layer([123])\.(\d+)\.conv1\.", key))}
        args["blocks"] = [sum(stage == number for stage, _ in found) for number in "123"]
    return args | ({"width": width} if network != "x3d" and width != POSEC3D_WIDTH else {})


def special_arguments(family: Family, state: Mapping[str, Tensor]) -> Args:
    """The arguments that only one family has."""
    if family is STGCN or family is OLD_STGCN:
        return {"graph_args": {"labeling_mode": "stgcn_spatial"}}
    if family is AAGCN:
        return {"attention": any(".conv_sa." in key for key in state)}
    if family is CTRGCN:
        return {"relu_after_tcn": True}
    if family is MSG3D:
        scales = {"num_gcn_scales": "sgcn1.0", "num_g3d_scales": "gcn3d1.gcn3d.0.gcn3d.1"}
        args = {name: len(state[f"backbone.{place}.PA"]) for name, place in scales.items()}
        if max(args.values()) > MOST_SCALES:
            raise ValueError(f"expected at most {MOST_SCALES} scales of MS-G3D, got {args}")
        return {"graph_args": {"labeling_mode": "binary"}} | args
    if family is DGSTGCN or family is STGCNPP:
        blocks = sorted({int(m[1]) for key in state if (m := re.match(r"backbone\.gcn\.(\d+)\.", key))})
        widths = [len(state[f"backbone.gcn.{i}.gcn.bn.weight"]) for i in blocks]
        args = {} if widths == [64] * 4 + [128] * 3 + [256] * 3 else {"channels": widths}
        groups = len(state["backbone.gcn.0.gcn.A"])
        args |= {"num_filter": groups} if family is DGSTGCN and groups != NUM_FILTER else {}
        return args | ({"joint_embedding": True} if "backbone.pos_embedding" in state else {})
    return {}


def training_only(family: Family, state: Mapping[str, Tensor]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that are not loaded, and those among them that the released programs do not write."""
    if family is not DGSTGCN or len(state["backbone.gcn.0.gcn.bn.weight"]) == PLAIN_WIDTH:
        return (), ()
    dropped = tuple(k for k in state if k.startswith(("backbone.", "cls_head.")) and not k.startswith(KEPT))
    return dropped, tuple(key for key in dropped if not key.startswith(TRAINING_ONLY))


def strip(state: State, family: Family) -> State:
    """Without `backbone.` and with the classifier as `fc`; PYSKL's own frame (`model.network.PysklNetwork`) keeps its
    names."""
    if family.names is None:
        return {key.replace("cls_head.fc.", "cls_head.fc_cls."): value for key, value in state.items()}
    return {re.sub(r"^cls_head\.fc(_cls)?\.", "fc.", k).removeprefix("backbone."): v for k, v in state.items()}


def wrap(state: State, family: Family) -> State:
    """The inverse of `strip`, with the classifier as PYSKL names it."""
    if family.names is None:
        return state
    return {f"cls_head.fc_cls.{k[3:]}" if k.startswith("fc.") else f"backbone.{k}": v for k, v in state.items()}


def rename(state: State, names: Names, source: int) -> State:
    """Each key by the first row of the table that matches it; source: the column of the present names, 0 or 1."""
    out: State = {}
    for key, value in state.items():
        for row in names:
            pattern = re.escape(row[source]).replace(r"\{rest\}", "(?P<rest>.+)")
            match = re.fullmatch(re.sub(r"\\\{([ijk])\\\}", r"(?P<\1>\\d+)", pattern), key)
            if match:
                found = match.groupdict()
                shift = {"j": int(found["i"]) + 1} if "i" in found else {"i": int(found.get("j", 1)) - 1}
                key = row[1 - source].format(**(found | shift))
                break
        out[key] = value
    return out
