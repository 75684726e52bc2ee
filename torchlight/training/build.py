"""From a configuration to objects, and every mistake found on the way in one list."""

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from torchlight import distillation
from torchlight.config.imports import check_arguments, import_object
from torchlight.config.options import Config, ConfigError
from torchlight.runtime.malloc import keep_memory

log = logging.getLogger("torchlight")
MOST_WORKERS = 4  # feed some 100,000 clips per second


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
        problems += distillation.find_problems(config, classes.get("objective"))
    if problems:
        raise ConfigError(problems)
    return classes


def feeder_extras(config: Config, part: str) -> dict[str, Any]:
    """What the framework itself tells a feeder."""
    extras = {"part": part, "modality": config.modality, "seed": config.seed}
    if config.hold_out:
        extras["hold_out"] = config.hold_out
    others = distillation.other_modalities(config) if part == "train" else []
    return extras | {"also": sorted({*config.train_feeder_args.get("also", []), *others})} if others else extras


def build_feeder(config: Config, feeder: Callable, part: str) -> Any:
    """The feeder of the `train` or `test` part."""
    arguments = config.train_feeder_args if part == "train" else config.test_feeder_args
    try:
        return feeder(**arguments | feeder_extras(config, part))
    except (ValueError, OSError) as error:
        raise ConfigError([f"{part}_feeder_args: {error}"]) from error


def open_feeder(config: Config, feeder: Callable, part: str, device: torch.device) -> Any:
    """The feeder of a part, proved to fit the network; on a GPU with its clips there, if they fit and nobody wants them elsewhere."""
    feeder = build_feeder(config, feeder, part)
    check_fit(config, feeder)
    if device.type == "cuda" and config.data_on_device and not config.num_worker and hasattr(feeder, "to"):
        feeder.to(device)
    return feeder


def worker_count(config: Config, feeder: Any, device: torch.device) -> int:
    """How many processes make the batches of a feeder: as many as the configuration says, else as many as pay.

    None where the clips are on a GPU, and none on a CPU: they would take the cores from the network, which needs them far longer.
    Beside a GPU a few, of the cores that processes on this machine share.
    """
    if feeder_device(feeder).type != "cpu":
        return 0
    if config.num_worker is not None:
        return config.num_worker
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


def feeder_device(feeder: Any) -> torch.device:
    """Where a feeder makes its batches."""
    return getattr(feeder, "device", torch.device("cpu"))


def build_model(config: Config, model: Callable) -> nn.Module:
    """The network, with its random initial weights."""
    try:
        return model(**config.model_args)
    except (ValueError, TypeError) as error:
        raise ConfigError([f"model_args: {error}"]) from error


def check_fit(config: Config, feeder: Any) -> None:
    """Compare what the data holds with what the network was told.

    Raises:
        ConfigError: every disagreement, before any training.
    """
    problems = []
    for argument, attribute, what in (
        ("num_class", "num_class", "classes"),
        ("num_point", "num_point", "joints"),
        ("num_person", "num_person", "persons"),
        ("in_channels", "channels", "channels"),
    ):
        told, found = config.model_args.get(argument), getattr(feeder, attribute)
        counted = argument == "num_class" and not feeder.source.manifest.get(
            "num_class"
        )  # from labels, so the last may have no clip
        if told is not None and told != found and not (counted and told > found):
            problems.append(
                f"model_args.{argument}: found {told}; the data has {found} {what}; set it to {found} or use other data"
            )
    if problems:
        raise ConfigError(problems)


def build_objective(config: Config, objective: Callable) -> nn.Module:
    """The loss."""
    try:
        return objective(**config.objective_args)
    except ValueError as error:
        raise ConfigError([f"objective_args.{error}"]) from error


def choose_device(config: Config) -> torch.device:
    """The device of this process; a GPU that is asked for and not there is replaced by the CPU, and said."""
    wanted, local_rank = config.device, int(os.environ.get("LOCAL_RANK", 0))
    if set(wanted) == {"cpu"} or not torch.cuda.is_available():
        if config.sync_bn:
            raise ConfigError(["sync_bn: found true on the CPU; PyTorch has it on GPUs only"])
        if set(wanted) != {"cpu"}:
            asked = f" (asked for: {' '.join(wanted)})" if wanted else ""
            log.warning("no GPU here%s: running on the CPU (%d threads)", asked, torch.get_num_threads())
        keep_memory()
        return torch.device("cpu")
    number = wanted[local_rank] if local_rank < len(wanted) else str(local_rank)
    if not number.isdigit() or int(number) >= torch.cuda.device_count():
        raise ConfigError(
            [f"device: found {' '.join(wanted)}; allowed: cpu, or GPU numbers below {torch.cuda.device_count()}"]
        )
    device = torch.device("cuda", int(number))
    torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.tf32
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return device
