"""Comparison of a checkpoint with the data that it is used for: classes, body layout, preparation and stream."""

import logging
from typing import Any

import torch
from torch import nn

from torchlight.config.options import Config
from torchlight.contract import DescribedFeeder, Feeder, manifest_of
from torchlight.system.text import nearest, quote
from torchlight.training.build import class_axes
from torchlight.training.checkpoint import stored_options

log = logging.getLogger("torchlight")


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
            preparation of the data, or another stream. Training only logs a warning, because this may be intended.
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
    for problem in problems:
        if config.phase == "train":
            log.warning("initial weights: %s", problem)
        else:
            raise ValueError(f"{config.weights}: {problem}")
    trained_on, tested_on = facts.get("sha256"), manifest.get("sha256")
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


def modality_of(text: Any) -> str | None:
    """The stream in the configuration of a checkpoint, or None."""
    found = stored_options(text).get("modality")
    return found if isinstance(found, str) else None
