"""Checkpoints for resuming a run: selection of the file, and checks that its content fits the run before anything is
loaded."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from torchlight.config.options import Config, Records
from torchlight.runtime.seed import rng_state, set_rng_state
from torchlight.system.text import quote
from torchlight.system.yaml_files import parse_yaml
from torchlight.training import checkpoint, optim
from torchlight.training.run_dir import BEST, LAST

log = logging.getLogger("torchlight")
FREE_TO_CHANGE = (
    "work_dir",
    "device",
    "num_worker",
    "data_on_device",
    "tf32",
    "cuda_graph",
    "test_batch_size",
    *(f.name for f in fields(Records)),
)
DATA = ("sha256", "recipe", "class_names", "body")  # facts about the clips that a run keeps until its end
ENTRIES = {"SGD": ("momentum_buffer",), "Adam": ("step", "exp_avg", "exp_avg_sq")}  # of a parameter in an optimizer


def numbered(last: Path) -> list[Path]:
    """The epoch_<n>.pt beside last.pt, the latest first."""
    files = [path for path in last.parent.glob("epoch_*.pt") if path.stem[6:].isdecimal()]
    return sorted(files, key=lambda path: -int(path.stem[6:]))


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run directory that a run can be continued from, the newest first."""
    return [path for path in (folder / LAST, *numbered(folder / LAST)) if path.exists()]


def forget(last: Path, keep: int) -> None:
    """Remove all but the `keep` latest epoch_<n>.pt."""
    for old in numbered(last)[keep:]:
        old.unlink()


def read_newest(folder: Path, config: Config, check: Callable[[dict[str, Any]], None]) -> tuple[Path, dict] | None:
    """The path and content of the newest checkpoint in a run directory that can be continued; None if there is no
    checkpoint.

    A damaged checkpoint, or one that `check` refuses with a ValueError, is skipped with a warning.

    Raises:
        ValueError: there are checkpoints and none of them can be continued, or one belongs to another experiment.
    """
    candidates, problems = checkpoints(folder), []
    for path in candidates:
        try:
            content = checkpoint.load(path)
            check_outline(content, path)
        except ValueError as error:
            problems.append(str(error))
            continue
        check_same_experiment(content, config, path)
        try:
            check(content)
        except ValueError as error:
            problems.append(f"{path}: not a checkpoint of this program: {error}")
            continue
        for problem in problems:
            log.warning("resume: %s", problem)
        return path, content
    if candidates:
        raise ValueError(
            f"resume: {problems[0]}; no whole checkpoint in {folder}; "
            f"start again with --overwrite true, or from --weights {folder / BEST}"
        )
    return None


def check_outline(content: Any, path: Path) -> None:
    """Raise ValueError unless the content of a file has the fields of a checkpoint and a configuration."""
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path}: not a checkpoint of this program: expected a mapping, got {kind}")
    if "optimizer" not in content and "config" not in content:
        raise ValueError(f"{path}: contains weights only; start a new run from it with --weights {path}")
    for name in ("model", "optimizer", "scaler", "epoch", "step", "best", "config", "rng", "sums"):
        if name not in content:
            raise ValueError(f"{path}: not a checkpoint of this program: {name}: missing")
    origin = f"{path}: not a checkpoint of this program: config"
    if not isinstance(content["config"], str):
        raise ValueError(f"{origin}: expected YAML text, got {quote(content['config'])}")
    found = parse_yaml(content["config"], origin)
    if not isinstance(found, dict):
        raise ValueError(f"{origin}: expected a mapping of options, got {quote(found)}")


def check_same_experiment(content: dict[str, Any], config: Config, path: Path) -> None:
    """Compare the configuration of a checkpoint with that of the run that continues it.

    Raises:
        ValueError: an option that results depend on differs; num_epoch may, with a warning.
    """
    defaults = yaml.safe_load(Config().to_yaml())  # for options that are newer than the checkpoint
    old, new = defaults | parse_yaml(content["config"], path), yaml.safe_load(config.to_yaml())
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key) and key not in FREE_TO_CHANGE]
    if changed == ["num_epoch"]:
        log.warning("resume: num_epoch was %s and is %s now", quote(old["num_epoch"]), new["num_epoch"])
    elif changed:
        lines = ", ".join(f"{key} was {quote(old.get(key))} and is {quote(new.get(key))}" for key in changed)
        raise ValueError(
            f"resume: {path} belongs to another experiment ({lines}); give the options it was started with, or "
            f"start a new run from its weights with --weights {path} and another --work-dir (--weights-optimizer true "
            "keeps the momentum)"
        )


def check_same_data(found: Any, facts: Mapping[str, Any], path: Path) -> None:
    """Compare the facts about the clips in a checkpoint with those of the data that continues the run; what one of them
    does not contain is not compared.

    Raises:
        ValueError: the data or the body layout is not that of the checkpoint.
    """
    old, new = (flat(facts) if isinstance(facts, Mapping) else {} for facts in (found, facts))
    changed = [key for key in old if key in new and None not in (old[key], new[key]) and old[key] != new[key]]
    if changed:
        lines = ", ".join(f"{key} was {quote(old[key])} and is {quote(new[key])}" for key in changed)
        raise ValueError(
            f"resume: {path} was trained on other data ({lines}); give the data it was started with, or start a new "
            f"run from its weights with --weights {path} and another --work-dir"
        )


def flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in DATA, those of nested mappings as `body.parents`, without those that no result depends on."""
    found: dict[str, Any] = {}
    for key in DATA:
        value = facts.get(key)
        found |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, Mapping) else {key: value}
    return {key: value for key, value in found.items() if key not in ("body.name", "body.maps")}


def take_optimizer(optimizer: torch.optim.Optimizer, config: Config) -> None:
    """Give the optimizer of a new run the state of the one that trained `config.weights`; its settings, such as the
    learning rate, stay those of the new run.

    Raises:
        ValueError: the file has no optimizer state, or one of another optimizer or of other parameters.
    """
    path = config.weights
    content = checkpoint.load(path)
    if not isinstance(content, dict) or not isinstance(content.get("optimizer"), dict):
        raise ValueError(f"{path}: expected an optimizer state, got weights only; leave out --weights-optimizer")
    trained = content.get("config")
    options = parse_yaml(trained, f"{path}: config") if isinstance(trained, str) else None
    kind = options.get("optimizer") if isinstance(options, dict) else None
    if kind != config.optimizer:
        raise ValueError(f"{path}: expected the optimizer state of {config.optimizer}, got that of {quote(kind)}")
    try:
        check_optimizer(content["optimizer"], optimizer, started=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; leave out --weights-optimizer") from error
    optim.load_state(optimizer, content["optimizer"] | {"param_groups": optimizer.state_dict()["param_groups"]})


def check_content(
    content: dict[str, Any],
    model: nn.Module,
    averaged: bool,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    steps: int,
) -> None:
    """Compare a checkpoint with the objects of a run; nothing is changed.

    Args:
        averaged: whether the run keeps a moving average of the weights.
        steps: optimizer steps per epoch.

    Raises:
        ValueError: `<field>: expected ..., got ...`.
    """
    own = model.state_dict()
    for name in ("model", *(["model_ema"] if averaged else [])):
        check_state_dict(content.get(name), own, name)
    check_whole(content["epoch"], 0, 10**9, "epoch")
    check_whole(content["step"], 0, steps - 1, "step")
    check_optimizer(content["optimizer"], optimizer, started=content["epoch"] + content["step"] > 0)
    check_mapping(content["scaler"], "scaler")
    for key in scaler.state_dict():
        check_number(content["scaler"].get(key), f"scaler.{key}", low=0.0)
    check_mapping(content["best"], "best")
    for key, entry in content["best"].items():
        check_mapping(entry, f"best.{key}")
        figure = "map" if "map" in entry else "top1"
        check_number(entry.get(figure), f"best.{key}.{figure}", low=0.0)
        check_whole(entry.get("epoch"), 1, 10**9, f"best.{key}.epoch")
    for name in ("rng", "sums"):
        if not isinstance(content[name], list) or len(content[name]) != len(content["rng"]) or not content[name]:
            raise ValueError(f"{name}: expected a list with one entry per process, got {describe(content[name])}")
    for number, state in enumerate(content["rng"]):
        check_generators(state, f"rng[{number}]")
    for number, sums in enumerate(content["sums"]):
        check_mapping(sums, f"sums[{number}]")
        for key, pair in sums.items():
            check_tensor(pair, torch.zeros(2, dtype=torch.float64), f"sums[{number}].{key}")


def check_state_dict(found: Any, own: Mapping[str, Tensor], name: str) -> None:
    """Raise ValueError unless `found` has finite tensors with the names and shapes of `own`."""
    check_mapping(found, name)
    unknown = [key for key in found if key not in own]
    if unknown:
        raise ValueError(f"{name}: expected the weights of this network, got {quote(unknown[0])} as well")
    for key, value in own.items():
        check_tensor(found.get(key), value, f"{name}.{key}")


def check_optimizer(found: Any, own: torch.optim.Optimizer, started: bool) -> None:
    """Raise ValueError unless `found` is a state dict of `own`; `started`: after at least one step."""
    check_mapping(found, "optimizer")
    groups, states = found.get("param_groups"), found.get("state")
    expected = own.state_dict()["param_groups"]
    check_mapping(states, "optimizer.state")
    if not isinstance(groups, list) or len(groups) != len(expected):
        raise ValueError(f"optimizer.param_groups: expected a list of {len(expected)}, got {describe(groups)}")
    parameters: dict[int, Tensor] = {}
    for number, (group, wanted) in enumerate(zip(groups, expected, strict=True)):
        name = f"optimizer.param_groups[{number}]"
        check_mapping(group, name)
        if group.get("params") != wanted["params"]:
            raise ValueError(f"{name}.params: expected {quote(wanted['params'])}, got {quote(group.get('params'))}")
        for key in [key for key in wanted if key in group]:  # settings of a newer PyTorch keep their value
            check_setting(group[key], wanted[key], f"{name}.{key}")
        parameters |= dict(zip(wanted["params"], own.param_groups[number]["params"], strict=True))
    if isinstance(own, torch.optim.SGD):
        entries = ENTRIES["SGD"] if any(group["momentum"] for group in own.param_groups) else ()
    else:
        entries = ENTRIES["Adam"]
    if started and entries and not states:
        raise ValueError("optimizer.state: expected the state of each parameter, got none")
    for index, state in states.items():
        name = f"optimizer.state[{quote(index)}]"
        if index not in parameters:
            raise ValueError(f"{name}: expected the number of a parameter")
        check_mapping(state, name)
        for entry in entries:
            if state.get(entry) is None and entry == "momentum_buffer":  # a parameter without gradient
                continue
            like = torch.zeros(()) if entry == "step" else parameters[index]
            check_tensor(state.get(entry), like, f"{name}.{entry}", finite=False)


def check_setting(found: Any, own: Any, name: str) -> None:
    """Raise ValueError unless a setting of an optimizer has the type of `own`: numbers, truth values or None."""
    if isinstance(own, tuple | list):
        if not isinstance(found, tuple | list) or len(found) != len(own):
            raise ValueError(f"{name}: expected {len(own)} values, got {describe(found)}")
        for one, other in zip(found, own, strict=True):
            check_setting(one, other, name)
    elif isinstance(own, bool) or own is None:
        if not isinstance(found, bool | None):
            raise ValueError(f"{name}: expected true, false or nothing, got {describe(found)}")
    else:
        check_number(found, name)


def check_generators(state: Any, name: str) -> None:
    """Raise ValueError unless `state` can be given to the random generators."""
    check_mapping(state, name)
    current = rng_state()
    try:
        set_rng_state(state)
    except Exception as error:  # the generators raise any exception
        raise ValueError(f"{name}: expected the state of the random generators ({type(error).__name__})") from error
    finally:
        set_rng_state(current)


def check_tensor(found: Any, own: Tensor, name: str, finite: bool = True) -> None:
    """Raise ValueError unless `found` is a dense tensor of the shape and kind (float or not) of `own`, with finite
    values."""
    if not isinstance(found, Tensor) or not checkpoint.is_plain(found):
        raise ValueError(f"{name}: expected a dense tensor, got {describe(found)}")
    if found.shape != own.shape or found.is_floating_point() != own.is_floating_point():
        raise ValueError(
            f"{name}: expected {own.dtype} of shape {tuple(own.shape)}, got {found.dtype} of shape {tuple(found.shape)}"
        )
    if finite and not found.isfinite().all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")


def check_mapping(found: Any, name: str) -> None:
    """Raise ValueError unless `found` is a dict."""
    if not isinstance(found, dict):
        raise ValueError(f"{name}: expected a mapping, got {describe(found)}")


def check_whole(found: Any, low: int, high: int, name: str) -> None:
    """Raise ValueError unless `found` is a whole number from `low` to `high`."""
    if type(found) is not int or not low <= found <= high:
        upper = f" to {high}" if high < 10**9 else ""
        raise ValueError(f"{name}: expected a whole number from {low}{upper}, got {describe(found)}")


def check_number(found: Any, name: str, low: float = -math.inf) -> None:
    """Raise ValueError unless `found` is a finite number of at least `low`."""
    if type(found) not in (int, float) or not low <= found < math.inf:
        raise ValueError(
            f"{name}: expected a finite number{f' from {low:g}' if low > -math.inf else ''}, got {describe(found)}"
        )


def describe(found: Any) -> str:
    """A value in an error message; of a tensor its kind only."""
    if isinstance(found, Tensor):
        return f"a {str(found.layout).removeprefix('torch.')} tensor on {found.device.type}"
    return quote(found)
