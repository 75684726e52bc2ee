"""Comparison of a checkpoint with the data and the network that it is used for: classes, body layout, preparation,
stream, held-out clips, and arguments of the network that no weight shows."""

import logging
import re
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchlight.config.imports import import_class
from torchlight.config.options import Config, ConfigError
from torchlight.contract import DescribedFeeder, Feeder, manifest_of
from torchlight.system.text import nearest, quote
from torchlight.training import published
from torchlight.training.build import build_model, class_axes
from torchlight.training.checkpoint import stored_options

log = logging.getLogger("torchlight")
# arguments of networks that are checked by shapes or by the data, and those that only matter in training
WITHOUT_EFFECT = re.compile(r"num_class|num_point|num_person|in_channels|kernels|init_.*|.*drop.*")


def check_identity(
    content: Any, model: nn.Module, feeder: Feeder, config: Config
) -> tuple[list[str] | None, list[str]]:
    """Compare the `clips` and `config` of a checkpoint of this program with the data and the options; files without
    them pass. With `map_classes`, the classifier is reordered: first the classes of the data, then the training
    classes that the data does not contain.

    Returns:
        The names of all outputs of the network, or None if they are unknown, and lines for the log.

    Raises:
        ValueError: the test would not be valid: other classes or another order, another body layout, another
            preparation of the data, another stream, a network of this project with other arguments, or held-out clips
            that the training contained. Training only logs a warning, because this may be intended.
    """
    facts = content.get("clips") if isinstance(content, dict) else None
    facts = facts if isinstance(facts, dict) else {}
    own = None if feeder.class_names is None else [str(name) for name in feeder.class_names]
    names, notes, problems = map_classes(facts.get("class_names"), own, model, config)
    problems += body_problems(facts.get("body"), feeder)
    manifest = manifest_of(feeder)
    for key, words in (("recipe", "by the recipe"), ("missing", "with --missing")):
        if facts.get(key) and manifest.get(key) and facts[key] != manifest[key]:
            trained, found = quote(facts[key]), quote(manifest[key])
            problems.append(f"expected data prepared {words} {trained} as in the training, got {found}")
    modality = modality_of(content.get("config")) if facts else None
    if modality is not None and modality != config.modality:
        problems.append(f"expected --modality {modality} as in the training, got {config.modality}")
    trained_on, tested_on = facts.get("sha256"), manifest.get("sha256")
    trained = stored_options(content.get("config")) if isinstance(content, dict) else {}
    differs = network_problems(trained, model, config)
    (problems if config.model.startswith("model.") else notes).extend(differs)  # your own may not depend on it in tests
    seen, maybe = held_out_problems(content, feeder, config, config.weights)
    problems, notes = problems + seen, notes + maybe
    for problem in problems:
        if config.phase == "train":
            log.warning("initial weights: %s", problem)
        else:
            raise ValueError(f"{config.weights}: {problem}")
    if config.phase == "test" and trained_on and tested_on and trained_on != tested_on:
        notes.append("the data is not the data of the training: its SHA-256 differs")
    return names, notes


def map_classes(
    trained: Any, own: list[str] | None, model: nn.Module, config: Config
) -> tuple[list[str] | None, list[str], list[str]]:
    """Reorder the classifier if requested. Returns the names of the outputs of the network, lines for the log, and
    otherwise the differences between the class names of the checkpoint and of the data."""
    if not isinstance(trained, list) or own is None:
        if config.map_classes:
            missing = "the data" if own is None else "the file"
            return own, [], [f"expected class names for --map-classes, got none in {missing}"]
        return own, [], []
    trained = [str(name) for name in trained]
    if own == trained:
        return own, [], []
    new = next((name for name in own if name not in trained), None)
    if new is not None or len(set(own)) < len(own):
        hint = "got a name twice" if new is None else f"got {quote(new)}; {nearest(new, trained)}"
        return own, [], [f"expected data with the {len(trained)} classes of the training, {hint}"]
    if not config.map_classes:
        i = next(i for i, name in enumerate(trained) if [name] != own[i : i + 1])
        found = f"got {quote(own[i])} instead of" if i < len(own) else "got no"
        problem = f"expected the classes in the order of the training, {found} {quote(trained[i])} as class {i}"
        return own, [], [f"{problem}; --map-classes true reorders them by name"]
    names = own + [name for name in trained if name not in own]
    reorder_classes(model, class_axes(config, model), [trained.index(name) for name in names])
    note = "the classes of the weights were reordered to those of the data"
    if len(own) < len(trained):
        note += f", which has {len(own)} of the {len(trained)} classes; accuracies are over all {len(trained)}"
    return names, [note], []


def reorder_classes(model: nn.Module, axes: dict[str, list[int]], order: list[int]) -> None:
    """Permute the classes of a network: its output i becomes the former output order[i]. axes: the axes of the classes
    in its tensors.

    Raises:
        ValueError: an axis has another length.
    """
    tensors = dict([*model.named_parameters(), *model.named_buffers()])  # a tensor with two names is in it once
    with torch.no_grad():
        for name in axes.keys() & tensors.keys():
            value = tensors[name]
            for axis in axes[name]:
                if value.shape[axis : axis + 1] != (len(order),):
                    found = "x".join(map(str, value.shape))
                    raise ValueError(f"map_classes: {name}: expected {len(order)} classes, got the shape {found}")
                value.copy_(value.index_select(axis, torch.tensor(order)))


def body_problems(body: Any, feeder: Feeder) -> list[str]:
    """The problem, if the joints of the training clips differ from those of the data."""
    if not isinstance(body, dict) or not isinstance(feeder, DescribedFeeder):
        return []
    trained, own = list(body.get("joints") or []), list(feeder.skeleton.joints)
    if not trained or trained == own:
        return []
    return [f"expected the body {quote(body.get('name'))} of the training, got {quote(feeder.skeleton.name)}"]


def held_out_problems(content: Any, feeder: Feeder, config: Config, path: str) -> tuple[list[str], list[str]]:
    """The problem, if the training of a file contained clips that are held out now, or a note, if this is possible.
    content: the file, as it was loaded from `path`."""
    if not isinstance(content, dict):
        return [], []
    facts, trained = content.get("clips"), stored_options(content.get("config"))
    without, of_training = trained.get("hold_out"), trained.get("train_feeder_args")
    seen = [word for word in config.hold_out if word not in without] if isinstance(without, list) else []
    if not seen:
        return [], []
    trained_on = facts.get("sha256") if isinstance(facts, dict) else None
    tested_on = manifest_of(feeder).get("sha256")
    known = bool(trained_on and tested_on)
    same_data = trained_on == tested_on if known else same_path(trained.get("test_feeder_args"), config)
    split = of_training.get("split") if isinstance(of_training, dict) else None
    other_split = split is not None and split != config.test_feeder_args.get("split")
    if same_data and not other_split:
        return [f"expected weights of a training without the clips of {', '.join(seen)} (hold_out)"], []
    if not known or other_split:
        return [], [f"the clips of {', '.join(seen)} may have been training clips of {path}"]
    return [], []


def same_path(trained: Any, config: Config) -> bool:
    """Whether the test clips are from the file of the training. trained: its `test_feeder_args`."""
    path = trained.get("data_path") if isinstance(trained, dict) else None
    return path is not None and path == config.test_feeder_args.get("data_path")


def network_problems(trained: dict[str, Any], model: nn.Module, config: Config) -> list[str]:
    """The problem, if the network of the training, with the same weights, is another one. trained: its options.

    Arguments that differ are compared by the networks that they give, because they may only be spelled differently.
    """
    args = trained.get("model_args")
    if trained.get("model") != config.model or not isinstance(args, dict):
        return []
    own = config.model_args
    both = [published.defaults(model) | given for given in (own, args)]
    one, other = ({key: value for key, value in given.items() if not WITHOUT_EFFECT.match(key)} for given in both)
    differ = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    if not differ:
        return []
    model_args = {k: v for k, v in own.items() if k not in differ} | {k: v for k, v in args.items() if k in differ}
    try:
        source = build_model(replace(config, model_args=model_args), import_class(config.model))
    except ConfigError:  # arguments of another version
        return []
    if same_network(model, source):
        return []
    values = ", ".join(f"{key} {quote(other.get(key))}" for key in differ)
    found = ", ".join(quote(one.get(key)) for key in differ)
    return [f"model_args: expected {values} as in the training, got {found}"]


def same_network(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks are equal except for their weights."""
    mine, theirs = dict(one.named_modules()), dict(other.named_modules())
    return mine.keys() == theirs.keys() and all(
        type(module) is type(theirs[name]) and same_value(constants(module), constants(theirs[name]))
        for name, module in mine.items()
    )


def constants(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module and its buffers that a checkpoint does not contain."""
    buffers = {name: x for name, x in module.named_buffers(recurse=False) if name in module._non_persistent_buffers_set}
    return {name: x for name, x in vars(module).items() if name[0] != "_" and name != "training"} | buffers


def same_value(one: Any, other: Any) -> bool:
    """Whether two attributes are equal; objects of other kinds than numbers, text, arrays and their containers only
    have to be of the same type."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, str | int | float | None) and isinstance(other, str | int | float | None):
        return one == other
    return type(one) is type(other)


def modality_of(text: Any) -> str | None:
    """The stream in the configuration of a checkpoint, or None."""
    found = stored_options(text).get("modality")
    return found if isinstance(found, str) else None
