"""From a configuration to objects, and every mistake found on the way in one list."""

from collections.abc import Callable
from typing import Any

from torch import nn

from torchlight.config.imports import check_arguments, import_object
from torchlight.config.options import Config, ConfigError
from torchlight.contract import Feeder, manifest_of, missing_attributes
from torchlight.training import teacher


def preflight(config: Config, needs: tuple[str, ...]) -> dict[str, Callable]:
    """Resolve the classes that a phase needs and bind their arguments, without reading data or touching files.

    Raises:
        ConfigError: all problems at once.
    """
    problems: list[str] = []
    classes: dict[str, Callable] = {}
    for key in needs:
        path = getattr(config, key)
        if path is None:
            problems.append(f"{key}: missing; a dotted path is needed")
            continue
        try:
            classes[key] = import_object(path)
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        sources = ("train_feeder_args", "test_feeder_args") if key == "feeder" else (f"{key}_args",)
        for source in sources:
            arguments = getattr(config, source)
            if source == "train_feeder_args" and not arguments and config.phase != "train":
                continue  # old files of tests name the test part alone
            if key == "feeder":
                taken = sorted(set(arguments) & {"part", "modality", "seed", "hold_out"})
                problems += [
                    f"{source}.{name}: is set by the framework; use the option {name} or leave it out" for name in taken
                ]
                arguments = {**arguments, **feeder_extras(config, "train")}
            problems += [f"{source}.{problem}" for problem in check_arguments(classes[key], arguments)]
    if "objective" in needs:
        problems += teacher.find_problems(config, classes.get("objective"))
    if problems:
        raise ConfigError(problems)
    return classes


def feeder_extras(config: Config, part: str) -> dict[str, Any]:
    """What the framework itself tells a feeder."""
    extras = {"part": part, "modality": config.modality, "seed": config.seed}
    if config.hold_out:
        extras["hold_out"] = config.hold_out
    others = teacher.other_modalities(config) if part == "train" else []
    return extras | {"also": sorted({*config.train_feeder_args.get("also", []), *others})} if others else extras


def build_feeder(config: Config, feeder: Callable, part: str) -> Feeder:
    """The feeder of the `train` or `test` part.

    Raises:
        ConfigError: its arguments or its data are wrong, or it is not a feeder.
    """
    arguments = config.train_feeder_args if part == "train" else config.test_feeder_args
    try:
        built = feeder(**arguments | feeder_extras(config, part))
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError([f"{part}_feeder_args: {line}" for line in str(error).splitlines()]) from error
    missing = missing_attributes(built)
    if missing:
        raise ConfigError(
            [f"feeder: expected the attributes of torchlight.contract.Feeder, got none of {', '.join(missing)}"]
        )
    return built


def build_model(config: Config, model: Callable) -> nn.Module:
    """The network, with its random initial weights; raises ConfigError for arguments that it refuses."""
    try:
        built = model(**config.model_args)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError([f"model_args: {line}" for line in str(error).splitlines()]) from error
    if not isinstance(built, nn.Module):
        raise ConfigError([f"model: expected a torch.nn.Module, got {type(built).__name__}"])
    return built


def check_fit(config: Config, feeder: Feeder) -> None:
    """Compare what the data holds with what the network was told.

    Raises:
        ConfigError: all differences.
    """
    problems = []
    for argument, attribute, what in (
        ("num_class", "num_class", "classes"),
        ("num_point", "num_point", "joints"),
        ("num_person", "num_person", "persons"),
        ("in_channels", "channels", "channels"),
    ):
        told, found = config.model_args.get(argument), getattr(feeder, attribute)
        counted = argument == "num_class" and not manifest_of(feeder).get(
            "num_class"
        )  # the last class may have no clip
        if told is not None and told != found and not (counted and told > found):
            problems.append(f"model_args.{argument}: expected {found}, because the data has {found} {what}, got {told}")
    low, high = int(min(feeder.label, default=0)), int(max(feeder.label, default=0))
    if low < 0 or high >= feeder.num_class:
        problems.append(f"feeder: expected labels from 0 to {feeder.num_class - 1}, got {low} to {high}")
    if problems:
        raise ConfigError(problems)


def build_objective(config: Config, objective: Callable) -> nn.Module:
    """The loss; raises ConfigError for arguments that it refuses, or if it is not an objective."""
    try:
        built = objective(**config.objective_args)
    except (ValueError, TypeError) as error:
        raise ConfigError([f"objective_args.{line}" for line in str(error).splitlines()]) from error
    if not isinstance(built, nn.Module) or not hasattr(built, "predict"):
        raise ConfigError(
            [
                f"objective: expected a torch.nn.Module with forward(model, batch) and predict(model, batch), got {config.objective}"
            ]
        )
    return built
