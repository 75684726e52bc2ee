"""From YAML files and flags to one configuration: command line > file > `base:` of the file > default."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchlight.config import legacy
from torchlight.config.checks import check_values, find_without_effect
from torchlight.config.options import (
    COMMAND_LINE,
    FIELDS,
    SHARED,
    TYPES,
    Config,
    ConfigError,
)
from torchlight.config.python_configs import read_python_config
from torchlight.system.paths import ROOT, locate
from torchlight.system.text import nearest, quote, shorten
from torchlight.system.values import coerce
from torchlight.system.yaml_files import read_yaml
from torchlight.zoo import catalog

log = logging.getLogger("torchlight")
MOST_PROBLEMS = 20  # number of unknown options of a file that are reported by name
Layer = tuple[str, dict[str, Any]]  # where options come from, and the options


def load_config(file: str | Path | Sequence[str | Path] | None, overrides: dict[str, Any] | None = None) -> Config:
    """Defaults, then the file's base, then the file, then `overrides` of the command line; mappings merge key by key.

    If there are several files, each with its base, later ones override earlier ones; `config.config` is the first one.
    Without a file, weights from the zoo provide their own options.

    Raises:
        ConfigError: all unknown keys, wrong types, wrong values and options without effect at once.
    """
    problems: list[str] = []
    files = [file] if file and isinstance(file, str | Path) else list(file or ())
    layers = [layer for one in files for layer in read_layers(locate(one), problems)]
    layers = layers if files else read_zoo(overrides or {}, problems)
    layers = [
        (origin, share(origin, options, problems)) for origin, options in [*layers, (COMMAND_LINE, overrides or {})]
    ]
    if legacy.is_old(layers):
        layers = legacy.translate(layers, problems)
    values = combine(layers, problems)
    if "device" in values:
        values["device"] = " ".join(values["device"]).split()  # device: 0 1, as in files of other programs
    config = replace(Config(), **values, config=str(files[0]) if files else None)
    problems += check_values(config)
    given = [key for origin, options in layers if origin == COMMAND_LINE for key in options]
    refused, ignored = find_without_effect(config, given)
    if problems or refused:
        raise ConfigError(problems + refused)
    if ignored:
        log.warning("no effect in --phase %s: %s", config.phase, ", ".join(ignored))
    config.origins = {key: origin for origin, layer in layers for key in layer}
    if files:
        config.origins["config"] = COMMAND_LINE
    return config


def read_layers(file: Path, problems: list[str]) -> list[Layer]:
    """[(origin, options)] of a YAML file, its base first, or of a Python file. A base has no base."""
    if file.suffix == ".py":
        return [(str(file), read_foreign(file, problems))]
    options = read_options(file, problems)
    base = options.pop("base", None)
    if base is None:
        return [(str(file), options)]
    if not isinstance(base, str):
        problems.append(f"{file}: base: expected the path of a YAML file, got {quote(base)}")
        return [(str(file), options)]
    beside = file.parent / base
    base_file = beside if os.path.lexists(beside) else ROOT / base  # so that a recipe may be in any folder
    if not os.path.lexists(base_file):
        problems.append(f"{file}: base: expected a file in this file's folder or the project's, got {quote(base)}")
        return [(str(file), options)]
    base_options = read_options(base_file, problems)
    if "base" in base_options:
        further = quote(base_options.pop("base"))
        problems.append(
            f"{base_file}: base: expected no base, because {file} already names this file as base; got {further}"
        )
    return [(os.path.normpath(base_file), base_options), (str(file), options)]


def read_options(file: Path, problems: list[str]) -> dict[str, Any]:
    """The mapping in a YAML file. If the file is invalid, the reason is added to `problems`, and the mapping is
    empty."""
    try:
        options = read_yaml(file)
    except ValueError as error:
        problems.append(str(error))
        return {}
    if not isinstance(options, dict):
        problems.append(f"{file}: expected a mapping of options, got {type(options).__name__}")
        return {}
    return options


def read_zoo(overrides: dict[str, Any], problems: list[str]) -> list[Layer]:
    """The configuration of `--weights zoo:NAME`, which is used if no other one is given."""
    weights = overrides.get("weights")
    if not isinstance(weights, str) or not weights.startswith(catalog.PREFIX):
        return []
    try:
        entry = catalog.find(weights)
    except ValueError as error:
        problems.append(str(error))
        return []
    for note in catalog.notes(entry):
        log.info("%s: %s", weights, note)
    return [(weights, options) for options in catalog.layers(entry)]


def read_foreign(file: Path, problems: list[str]) -> dict[str, Any]:
    """The options that correspond to a Python file of PYSKL or mmaction2; problems as in `read_options`."""
    try:
        options, notes = read_python_config(file)
    except ValueError as error:
        problems += str(error).splitlines()
        return {}
    for note in notes:
        log.info("%s: %s", file, note)
    return options


def share(origin: str, options: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """The options of one layer with `feeder_args` written out for both feeders, whose own arguments override it."""
    options = dict(options)
    for key, names in SHARED.items():
        shared = options.pop(key, None)
        if shared is not None and not isinstance(shared, dict):
            problems.append(f"{origin}: {key}: expected a mapping, got {quote(shared)}")
        elif shared:
            own = {name: options.get(name) for name in names}
            options |= {name: merge(shared, own[name] or {}) for name in names if isinstance(own[name], dict | None)}
    return options


def combine(layers: list[Layer], problems: list[str]) -> dict[str, Any]:
    """The values of all layers, converted to their types; each layer overrides those before it."""
    values: dict[str, Any] = {}
    for origin, layer in layers:
        unknown = [key for key in layer if key not in FIELDS]
        for key in unknown[:MOST_PROBLEMS]:
            problems.append(f"{origin}: {shorten(key)}: unknown option; {nearest(key, [*FIELDS, *SHARED])}")
        if len(unknown) > MOST_PROBLEMS:
            problems.append(f"{origin}: {len(unknown) - MOST_PROBLEMS} more unknown options")
        for key, value in layer.items():
            if key not in FIELDS:
                continue
            try:
                value = coerce(value, TYPES[key])
            except ValueError as error:
                problems.append(f"{origin}: {key}: {error}")
                continue
            values[key] = merge(values.get(key, {}), value) if isinstance(value, dict) else value
    return values


def merge(old: dict, new: dict) -> dict:
    """`new` over `old`, nested mappings key by key."""
    out = dict(old)
    for key, value in new.items():
        out[key] = merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out
