"""Construction of objects from a configuration; all mistakes are reported in one list."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from torchlight.config.imports import check_arguments, import_class
from torchlight.config.options import FEEDER_ARGS, Config, ConfigError
from torchlight.contract import ClassObjective, DrawnFeeder, Feeder, kind_of_targets, manifest_of, missing_attributes
from torchlight.system.command import is_out_of_memory
from torchlight.training import teacher
from torchlight.training.run_dir import CONFIG

MOST_PARAMETERS = 3 * 10**8  # thirty times the largest published network
MOST_TENSORS = 10**4  # of parameters
OBJECTIVE = "an objective, with forward(model, batch) and predict(model, batch)"
MOST_BYTES = 2**36  # of a batch
PADDED_FRAMES = 300  # of the published files of NTU RGB+D and Kinetics-Skeleton
MOST_CLIPS = 10**9  # of an epoch
FRAMEWORK = {  # arguments of a feeder that are not allowed in train_feeder_args and test_feeder_args
    "part": "the framework sets it",
    "modality": "it is the option modality",
    "seed": "it is the option seed",
    "hold_out": "it is the option hold_out",
}


def example_config(config: Config) -> str:
    """The configuration of the run whose checkpoint is given, else one of this project."""
    beside = Path(config.weights or "").parent / CONFIG
    return str(beside) if config.weights and beside.is_file() else "config/NW-UCLA/ctrgcn.yaml"


def preflight(config: Config, needs: tuple[str, ...]) -> dict[str, Callable]:
    """Resolve the classes that a phase needs and check their arguments, without reading data or writing files.

    The arguments in `config` are converted to the types that the classes declare (1 -> 1.0).

    Raises:
        ConfigError: all problems at once.
    """
    problems = teacher.find_problems(config) if "objective" in needs else []
    extras = feeder_extras(replace(config, teacher=[]), "train")
    classes: dict[str, Callable] = {}
    for key in needs:
        path = getattr(config, key)
        if path is None:
            problems.append(f"{key}: missing; give --config FILE, such as {example_config(config)}")
            continue
        try:
            classes[key] = import_class(path)
            check_kind(key, path, classes[key])
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        for source in FEEDER_ARGS if key == "feeder" else (f"{key}_args",):
            given = getattr(config, source)
            if source == "train_feeder_args" and not given and config.phase != "train":
                continue  # a file for tests may have test_feeder_args only
            taken = sorted(set(given) & set(FRAMEWORK)) if key == "feeder" else []
            problems += [f"{source}.{name}: expected nothing, because {FRAMEWORK[name]}" for name in taken]
            arguments, wrong = check_arguments(classes[key], given | extras if key == "feeder" else given)
            problems += [f"{source}.{problem}" for problem in wrong]
            setattr(config, source, {name: arguments[name] for name in given})
    if problems:
        raise ConfigError(problems)
    return classes


def feeder_extras(config: Config, part: str) -> dict[str, Any]:
    """The arguments of a feeder that the framework sets."""
    extras = {"part": part, "modality": config.modality, "seed": config.seed}
    if config.hold_out:
        extras["hold_out"] = config.hold_out
    others = teacher.other_modalities(config) if part == "train" else []
    return extras | {"also": sorted({*config.train_feeder_args.get("also", []), *others})} if others else extras


def check_kind(key: str, path: str, target: Callable) -> None:
    """Refuse a class that is clearly not a model or an objective. The result of a function is checked after its call.

    Raises:
        ValueError: the class is not of the expected kind.
    """
    if not inspect.isclass(target) or key == "feeder":
        return
    if not issubclass(target, nn.Module):
        raise ValueError(f"expected a subclass of torch.nn.Module, got {path}")
    if key == "objective" and not hasattr(target, "predict"):
        raise ValueError(f"expected {OBJECTIVE}, got {path}")


def build_feeder(config: Config, feeder: Callable, part: str) -> Feeder:
    """The feeder of the `train` or `test` part. If its data does not state the number of classes, it is the number of
    the network, because the last classes may have no clip in this part.

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
    check_size(config, built, part)
    stated = config.model_args.get("num_class")
    counted = built.class_names is None and not manifest_of(built).get("num_class")
    if counted and isinstance(stated, int) and stated > built.num_class:
        with suppress(AttributeError):  # a property of your own feeder
            built.num_class = stated
    return built


def stated_shape(config: Config, feeder: Callable) -> tuple[int, int, int, int] | None:
    """The shape of a test clip as the configuration states it, without data: (C, T, V, M), or (K, T, H, W) for a feeder
    with a `size`; None if it is not stated. If the number of frames is not stated, it is `PADDED_FRAMES`, to which the
    clips of the benchmarks are padded."""
    arguments = {name: p.default for name, p in inspect.signature(feeder).parameters.items()} | config.test_feeder_args
    frames, args, size = arguments.get("window_size") or PADDED_FRAMES, config.model_args, arguments.get("size")
    plane = (size, size) if "size" in arguments else (args.get("num_point"), args.get("num_person"))
    sizes = (args.get("in_channels", 3), frames, *plane)
    return sizes if all(isinstance(size, int) and size > 0 for size in sizes) else None


def check_size(config: Config, feeder: Feeder, part: str) -> None:
    """Refuse batches and epochs that are too large for any machine, before memory is allocated.

    Raises:
        ConfigError: a batch or the number of clips is too large.
    """
    clips = feeder.__len__()  # len() is limited to 64 bits
    size = 4 * min(clips, config.batch_size if part == "train" else config.test_batch_size)  # bytes of float32
    for length in feeder.shape:
        size *= length
    if size > MOST_BYTES:
        shape, limit = "x".join(map(str, feeder.shape)), MOST_BYTES // 2**30
        raise ConfigError(
            [f"{part}_feeder_args: expected batches of at most {limit} GiB, got clips of {shape} numbers"]
        )
    if clips > MOST_CLIPS:
        raise ConfigError([f"{part}_feeder_args: expected at most {MOST_CLIPS} clips per epoch, got {clips}"])


def build_model(config: Config, model: Callable) -> nn.Module:
    """The network with random initial weights; raises ConfigError for arguments that the network refuses."""
    try:
        with limited_parameters():
            built = model(**config.model_args)
    except (ValueError, TypeError, RuntimeError) as error:
        text = "expected a network that fits into memory" if is_out_of_memory(error) else str(error)
        raise ConfigError([f"model_args: {line}" for line in text.splitlines()]) from error
    if not isinstance(built, nn.Module):
        raise ConfigError([f"model: expected a torch.nn.Module, got {type(built).__name__}"])
    return built


def class_axes(config: Config, model: nn.Module) -> dict[str, list[int]]:
    """The tensors of the network whose shape depends on the number of classes, with the axes of the classes. For a
    network without `num_class`, those of the last layer, with the first axis."""
    own, number = model.state_dict(), config.model_args.get("num_class")
    last = list(own)[-1]
    layer = last.rpartition(".")[0]
    axes = {name: [0] for name in own if name == last or (layer and name.rpartition(".")[0] == layer)}
    if not isinstance(number, int):
        return axes
    args = config.model_args | {"num_class": number + 1}
    other = build_model(replace(config, model_args=args), import_class(config.model)).state_dict()
    found = {}
    for name, value in own.items():
        shape = other[name].shape if name in other else ()
        if shape != value.shape:
            found[name] = [axis for axis, size in enumerate(shape) if value.shape[axis : axis + 1] != (size,)]
    return found or axes


@contextmanager
def limited_parameters() -> Iterator[None]:
    """Context in which a network with too many parameters is refused during its construction.

    Raises:
        ValueError: more than `MOST_PARAMETERS` or `MOST_TENSORS`.
    """
    count = tensors = 0

    def add(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:  # before its values are initialized
        nonlocal count, tensors
        tensors += 1
        count += 0 if parameter is None else parameter.numel()
        if count > MOST_PARAMETERS or tensors > MOST_TENSORS:
            raise ValueError(f"expected at most {MOST_PARAMETERS:,} parameters in {MOST_TENSORS:,} tensors, got more")

    handle = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        handle.remove()


def check_fit(config: Config, feeder: Feeder) -> None:
    """Compare the sizes of the data with the arguments of the network; persons only if a batch separates them.

    Raises:
        ConfigError: all differences.
    """
    problems = []
    for argument, attribute, what in (
        ("num_class", "num_class", "classes"),
        ("num_point", "num_point", "joints"),
        ("num_person", "num_person", "persons"),
        ("in_channels", "shape", "channels"),
    ):
        stated, found = config.model_args.get(argument), getattr(feeder, attribute)
        found = found[0] if attribute == "shape" else found
        # if classes are counted from labels, the last ones may have no clip
        counted = argument == "num_class" and not manifest_of(feeder).get("num_class")
        if stated is None or stated == found or (argument == "num_person" and isinstance(feeder, DrawnFeeder)):
            continue
        takes_first = argument == "in_channels" and getattr(import_class(config.model), "takes_first_channels", False)
        if takes_first and stated < found:
            continue
        subset = argument == "num_class" and config.phase == "test" and stated > found
        if not (subset and config.map_classes) and not (counted and stated > found):
            hint = "; --map-classes true tests some of the classes, by their names" if subset else ""
            problems.append(
                f"model_args.{argument}: expected {found}, because the data has {found} {what}, got {stated}{hint}"
            )
    low, high = int(min(feeder.label, default=0)), int(max(feeder.label, default=0))
    if low < 0 or high >= feeder.num_class:
        problems.append(f"feeder: expected labels from 0 to {feeder.num_class - 1}, got {low} to {high}")
    if problems:
        raise ConfigError(problems)


def build_objective(config: Config, objective: Callable) -> nn.Module:
    """The objective; raises ConfigError for arguments that it refuses, or if it is not an objective."""
    try:
        built = objective(**config.objective_args)
    except (ValueError, TypeError) as error:
        raise ConfigError([f"objective_args.{line}" for line in str(error).splitlines()]) from error
    if not isinstance(built, nn.Module) or not hasattr(built, "predict"):
        raise ConfigError([f"objective: expected {OBJECTIVE}, got {config.objective}"])
    return built


def check_targets(config: Config, objective: nn.Module, feeder: Feeder) -> None:
    """Compare the kind of labels of the clips with the kinds that the objective supports (`targets` of its class).

    Raises:
        ConfigError: the objective would ignore labels, or needs several labels per clip.
    """
    kind, taken = kind_of_targets(feeder), getattr(objective, "targets", ())
    if kind == "multi-label" and kind not in taken:
        expected, got = "torchlight.objective.MultiLabel for clips with several labels", config.objective
    elif kind == "soft" and kind not in taken:
        expected, got = "torchlight.objective.Classification for clips with weights of labels", config.objective
    elif kind is None and "multi-label" in taken:
        expected, got = "clips with several labels", f"{config.objective} for clips with one label each"
    else:
        return
    raise ConfigError([f"objective: expected {expected}, got {got}"])


def tell_classes(objective: nn.Module, feeder: Feeder) -> None:
    """Pass the classes of the training clips to an objective with `set_classes`; raises ConfigError if it refuses
    them."""
    if not isinstance(objective, ClassObjective):
        return
    names = [str(name) for name in feeder.class_names or range(feeder.num_class)]
    given = None if kind_of_targets(feeder) is None else feeder.target
    counts = np.bincount(feeder.label, minlength=feeder.num_class) if given is None else given.astype(float).sum(0)
    try:
        objective.set_classes(names, counts, len(feeder.label))
    except ValueError as error:
        raise ConfigError([f"objective_args.{line}" for line in str(error).splitlines()]) from error
