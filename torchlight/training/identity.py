"""What a checkpoint says it was trained for, compared with what it is used for: classes, body, preparation and
stream."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from torchlight.config.options import Config
from torchlight.contract import DescribedFeeder, Feeder, manifest_of
from torchlight.system.text import nearest, quote
from torchlight.system.yaml_files import parse_yaml

log = logging.getLogger("torchlight")


def check_identity(content: Any, model: nn.Module, feeder: Feeder, config: Config) -> None:
    """Compare the `clips` and `config` of a checkpoint of this program with the data and the options; files without
    them pass. With `map_classes`, the classifier is reordered to the class order of the data.

    Raises:
        ValueError: testing would measure something else: other classes or another order, another body, another
            preparation of the data, or another stream. A training only warns, because it may be meant.
    """
    facts = content.get("clips") if isinstance(content, dict) else None
    if not isinstance(facts, dict):
        return
    problems = [
        *class_problems(facts.get("class_names"), feeder.class_names, model, config),
        *body_problems(facts.get("body"), feeder),
    ]
    recipe, own = facts.get("recipe"), manifest_of(feeder).get("recipe")
    if recipe and own and recipe != own:
        problems.append(f"expected data prepared by the recipe {quote(recipe)} as in the training, got {quote(own)}")
    modality = modality_of(content.get("config"))
    if modality is not None and modality != config.modality:
        problems.append(f"expected --modality {modality} as in the training, got {config.modality}")
    for problem in problems:
        if config.phase == "train":
            log.warning("initial weights: %s", problem)
        else:
            raise ValueError(f"{config.weights}: {problem}")


def class_problems(trained: Any, tested: Sequence[str] | None, model: nn.Module, config: Config) -> list[str]:
    """How the class names of a checkpoint and of the data differ; none after the classifier was reordered."""
    if not isinstance(trained, list) or tested is None or [str(name) for name in tested] == trained:
        return []
    own = [str(name) for name in tested]
    if sorted(own) != sorted(trained) or len(set(own)) < len(own):
        new = next((name for name in own if name not in trained), own[0])
        return [
            f"expected data with the {len(trained)} classes of the training, got {quote(new)}; {nearest(new, trained)}"
        ]
    if not config.map_classes:
        i = next(i for i, name in enumerate(own) if name != trained[i])
        return [
            f"expected the classes in the order of the training, got {quote(own[i])} instead of {quote(trained[i])} as "
            f"class {i}; --map-classes true reorders them by name"
        ]
    reorder_classes(model, [trained.index(name) for name in own])
    log.info("the classes of the weights were reordered to those of the data")
    return []


def reorder_classes(model: nn.Module, order: list[int]) -> None:
    """Make output i of the classifier, the last layer with parameters, what output order[i] was."""
    classifier = list(dict(model.named_parameters()))[-1].rpartition(".")[0]
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.rpartition(".")[0] == classifier and value.shape[0] == len(order):
                value.copy_(value[order].clone())


def body_problems(body: Any, feeder: Feeder) -> list[str]:
    """Whether the joints of the training clips are others than those of the data."""
    if not isinstance(body, dict) or not isinstance(feeder, DescribedFeeder):
        return []
    trained, own = list(body.get("joints") or []), list(feeder.skeleton.joints)
    if not trained or trained == own:
        return []
    return [f"expected the body {quote(body.get('name'))} of the training, got {quote(feeder.skeleton.name)}"]


def modality_of(text: Any) -> str | None:
    """The stream in the configuration of a checkpoint, or None."""
    try:
        options = parse_yaml(text, "config") if isinstance(text, str) else None
    except ValueError:
        return None
    found = options.get("modality") if isinstance(options, dict) else None
    return found if isinstance(found, str) else None
