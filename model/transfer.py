"""Transfer of weights to another body layout or another number of persons: tensors with a joint axis are mapped between
the body layouts.

A class of a network or block names such tensors:
    joint_axes = {"pos_embedding": (1,)}  each joint gets the mean over its source joints
    topologies = ("PA",)                  (..., V, V), initialized from the graph; the learned change is added to it
The name of a list (`nn.ParameterList`) refers to all its entries. Along an axis, the V joints may be repeated, or other
entries may follow, which are not changed. A network whose joint axes are not the joints of the body layout defines
`joint_shares(shares, source)`. Input norms (`model.network.DataNorm`) do not have to be declared.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graph import ntu_rgb_d_tips
from graph import shares as bodies
from graph.body import Skeleton
from graph.skeleton import build_graph, find_skeleton
from model.network import DataNorm
from model.published import Published

CUSTOM_GRAPH = "graph.custom.Graph"
Axes = tuple[int, ...]


def body_of(graph: str, graph_args: Mapping[str, Any] | None = None) -> Skeleton:
    """The skeleton of a graph; raises ValueError."""
    return build_graph(graph, dict(graph_args or {})).skeleton


def skeleton_of(table: Any) -> Skeleton:
    """The skeleton from a table in a checkpoint or from a name; raises ValueError."""
    return Skeleton.from_table(table) if isinstance(table, dict) else find_skeleton(table)


def arguments_for(body: Skeleton, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a network, adapted to another body layout."""
    graph_args = dict(model_args.get("graph_args") or {}) | {"skeleton": body}
    return dict(model_args) | {"num_point": body.num_joint, "graph": CUSTOM_GRAPH, "graph_args": graph_args}


def published_arguments(found: Published, body: Skeleton) -> dict[str, Any]:
    """Arguments of the network of a published file whose body layout is known."""
    if found.family.startswith("PYSKL") and body.joints == ntu_rgb_d_tips.SKELETON.joints:
        return found.model_args | {"graph": "graph.ntu_rgb_d_tips.Graph"}  # PYSKL's
    graph = found.model_args["graph"]
    same = graph != CUSTOM_GRAPH and body_of(graph).joints == body.joints
    return found.model_args if same else arguments_for(body, found.model_args)


def joint_tables(model: nn.Module) -> dict[str, tuple[Axes, bool]]:
    """The declared tensors of a state dict: their joint axes, and whether they are initialized from the graph."""
    found: dict[str, tuple[Axes, bool]] = {}
    state = model.state_dict()
    for prefix, module in model.named_modules():
        own = {name: (axes, False) for name, axes in getattr(module, "joint_axes", {}).items()}
        own |= {name: ((-2, -1), True) for name in getattr(module, "topologies", ())}
        for name, facts in own.items():
            path = f"{prefix}.{name}" if prefix else name
            found |= {key: facts for key in state if key == path or key.startswith(f"{path}.")}
    return found


def norm_tables(model: nn.Module) -> dict[str, DataNorm]:
    """The tensors of norms of the input, each with its norm."""
    norms = {prefix: module for prefix, module in model.named_modules() if isinstance(module, DataNorm)}
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{prefix}.{name}": norm for prefix, norm in norms.items() for name in names}


def adapt(
    model: nn.Module, state: Mapping[str, Tensor], source: nn.Module, body: Skeleton, source_body: Skeleton
) -> tuple[dict[str, Tensor], str]:
    """The tensors of `state` with a joint axis, mapped to the network `model`, and a description of the map.

    source: the network of the weights in `state`, with its initial weights. Tensors that cannot be mapped are omitted;
    if the bodies have nothing in common, all are omitted; if the joints are the same, tensors that match are omitted.
    Input norms are omitted if the number of channels differs or, because `state` does not fit `source`, is unknown.
    """
    found = bodies.joint_shares(source_body, body)
    if found is None:
        return {}, "no map leads from one body to the other"
    own, before, same = model.state_dict(), source.state_dict(), source_body.joints == body.joints
    shares, mapped = torch.from_numpy(found[0]).float(), {}
    norms, tables = norm_tables(source), joint_tables(source)
    known = all(x.shape == before[k].shape for k, x in state.items() if k in before and k not in norms | tables)
    state = {key: x for key, x in state.items() if key in own and not (same and x.shape == own[key].shape)}
    for name, norm in norm_tables(model).items():
        if not known or name not in state or name not in norms or channels_of(norm) != channels_of(norms[name]):
            continue
        if (value := move_norm(state[name], norm, shares)) is not None:
            mapped[name] = value
    inside = model.joint_shares(shares, source) if hasattr(model, "joint_shares") else shares
    for name, (axes, from_graph) in joint_tables(model).items():
        if name not in state or state[name].dim() != own[name].dim():
            continue
        value, initial = state[name], before.get(name)
        if from_graph and (initial is None or initial.shape != value.shape):
            continue  # of a network with other arguments
        value = value - initial if from_graph else value
        for axis in axes:
            value = None if value is None else move(value, axis, own[name].shape[axis], inside)
        if value is not None and value.shape == own[name].shape:
            mapped[name] = own[name] + value if from_graph else value
    return mapped, found[1]


def move(value: Tensor, axis: int, size: int, shares: Tensor) -> Tensor | None:
    """Map a joint axis to another `size` with `shares` (V_target, V_source). The joints may be repeated along the axis
    or followed by other entries, which are not changed. None if the sizes do not match."""
    (target, source), length = shares.shape, value.shape[axis]
    if length % source == 0 and size == length // source * target:
        matrix = torch.kron(torch.eye(length // source), shares)
    elif length >= source and size >= target:
        matrix = torch.zeros(size, length)
        matrix[:target, :source] = shares
        rest = torch.arange(min(length - source, size - target))
        matrix[target + rest, source + rest] = 1
    else:
        return None
    return torch.tensordot(value, matrix.to(value), dims=([axis], [1])).movedim(-1, axis)


def channels_of(norm: DataNorm) -> int:
    """The number of channels that an input norm has per joint."""
    return norm.num_features // ((norm.expected["M"] if norm.per_person else 1) * norm.expected["V"])


def move_norm(value: Tensor, norm: DataNorm, shares: Tensor) -> Tensor | None:
    """Map a tensor of an input norm, (M * V * C,) or (V * C,), to the joints and persons of `norm`; None if the sizes
    do not match. Additional persons are copies of the last one."""
    target, source = shares.shape
    persons = norm.expected["M"] if norm.per_person else 1
    channels = channels_of(norm)
    if norm.expected["V"] != target or value.dim() != 1 or len(value) % (source * channels):
        return None
    table = value.view(-1, source, channels)  # (M, V, C)
    if not norm.per_person and len(table) != 1:
        return None
    table = table[torch.arange(persons).clamp(max=len(table) - 1)]
    return torch.einsum("tv,mvc->mtc", shares.to(value), table).flatten()
