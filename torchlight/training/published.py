"""Checkpoints of other toolboxes for the network of a configuration, with the conversions of `model.published`, and
facts about those in the zoo."""

import dataclasses
import inspect
import logging
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from torch import Tensor, nn

from torchlight.config.imports import import_object
from torchlight.zoo import catalog

log = logging.getLogger("torchlight")
RECIPE = "pyskl"  # of the clips of all entries of the zoo: pickles of PYSKL and mmaction2, which no store here holds
BY_SHAPE = ("num_class", "num_point", "num_person", "in_channels", "graph", "graph_args")  # or without effect


def convert(
    model: nn.Module, state: dict[str, Tensor], path: str, model_args: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], str]:
    """The weights of a file under the names of this network, and a message in case they do not fit ("" for none).

    State dicts that are not from a known toolbox are returned unchanged. model_args: arguments of the network.

    Raises:
        ValueError: the file is damaged, or fits this class of network with other arguments only.
    """
    own = model.state_dict()
    if state.keys() == own.keys() and all(value.shape == own[name].shape for name, value in state.items()):
        return state, ""
    try:
        found = import_object("model.published.open_checkpoint")(state, dict(model_args or {}))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if found is None:
        return state, ""
    fits = f"the file contains {found.family}, which fits {describe(found.model, found.model_args)}"
    if not isinstance(model, import_object(found.model)):
        return state, fits
    given = defaults(model) | dict(found.model_args if model_args is None else model_args)
    other = [key for key, value in found.model_args.items() if key not in BY_SHAPE and plain(given.get(key)) != value]
    if other:
        raise ValueError(f"{path}: model_args: {', '.join(other)}: expected the arguments of the weights; {fits}")
    log.info("%s: %s, converted", path, found.family)
    heads = {name: state[name] for name in found.dropped if name in own}  # the network has the same objective
    if dropped := [name for name in found.dropped if name not in own]:
        log.info("%s: not loaded, only used in training: %s", path, ", ".join(grouped(dropped)))
    if found.unknown:
        log.warning("%s: not loaded, unknown: %s", path, ", ".join(found.unknown))
    return found.state | heads, fits


def identity(path: str) -> dict[str, Any] | None:
    """Facts of the zoo about a file of its entries, in the same form as in a checkpoint of this program; None for any
    other file."""
    entry = catalog.entry_of(path)
    if entry is None:
        return None
    modality, graph = "joint", ""
    for options in catalog.layers(entry):
        modality = options.get("modality", modality)
        graph = options.get("model_args", {}).get("graph", graph)
    skeleton = pkgutil.resolve_name("graph.skeleton.find_skeleton")(graph.removesuffix(".Graph"))
    facts: dict[str, Any] = {"body": dataclasses.asdict(skeleton), "recipe": RECIPE}
    if folder := catalog.classes(entry):
        facts["class_names"] = pkgutil.resolve_name("data.cli.class_names")(folder)
    return {"clips": facts, "config": f"modality: {modality}"}


def describe(model: str, model_args: Mapping[str, Any]) -> str:
    """A network as the options of a configuration, in one line."""
    options = yaml.safe_dump(dict(model_args), default_flow_style=True, sort_keys=False, width=10**6).strip()
    return f"model: {model}, model_args: {options}"


def defaults(model: nn.Module) -> dict[str, Any]:
    """The default arguments of a network."""
    parameters = inspect.signature(type(model)).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def plain(value: Any) -> Any:
    """Tuples as lists, as YAML has them."""
    return list(value) if isinstance(value, tuple) else value


def grouped(names: Iterable[str], depth: int = 3) -> list[str]:
    """Names by their first parts, each once: `backbone.prn.query_matrix`."""
    return list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in names))
