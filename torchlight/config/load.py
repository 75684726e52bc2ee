"""From YAML files and flags to one configuration: command line > file > `base:` of the file > default."""

import types
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torchlight.config import legacy
from torchlight.config.options import FIELDS, TYPES, Config, ConfigError, check_values
from torchlight.system.text import nearest, quote
from torchlight.system.yaml_files import read_yaml


def load_config(file: str | Path | None, overrides: dict[str, Any] | None = None) -> Config:
    """Defaults, then the file's base, then the file, then `overrides` (nested options merge key by key).

    Raises:
        ConfigError: all unknown keys, wrong types and wrong values at once.
    """
    problems: list[str] = []
    layers = read_layers(Path(file), problems) if file else []
    values: dict[str, Any] = {}
    layers = legacy.translate([*layers, (legacy.COMMAND_LINE, overrides or {})], problems)
    for origin, layer in layers:
        for key, value in layer.items():
            if key not in FIELDS:
                problems.append(f"{origin}: {key}: unknown option; {nearest(str(key), FIELDS)}")
                continue
            try:
                value = coerce(value, TYPES[key])
            except ValueError as error:
                problems.append(f"{origin}: {key}: {error}")
                continue
            if isinstance(value, dict):
                value = merge(values.get(key, {}), value)
            values[key] = value
    config = replace(Config(), **values, config=str(file) if file else None)
    problems += check_values(config)
    if problems:
        raise ConfigError(problems)
    config.origins = {key: origin for origin, layer in layers for key in layer}
    return config


def read_layers(file: Path, problems: list[str]) -> list[tuple[str, dict]]:
    """[(origin, options)] of a YAML file, its base first. A base has no base."""
    options = read_options(file, problems)
    base = options.pop("base", None)
    if base is None:
        return [(str(file), options)]
    if not isinstance(base, str):
        problems.append(f"{file}: base: expected the path of a YAML file, got {quote(base)}")
        return [(str(file), options)]
    base_file = file.parent / base
    base_options = read_options(base_file, problems)
    if "base" in base_options:
        further = quote(base_options.pop("base"))
        problems.append(
            f"{base_file}: base: expected no base, because {file} already names this file as base; got {further}"
        )
    return [(str(base_file), base_options), (str(file), options)]


def read_options(file: Path, problems: list[str]) -> dict[str, Any]:
    """The mapping in a YAML file; whatever is wrong with the file becomes a problem, and the mapping is empty."""
    try:
        options = read_yaml(file)
    except ValueError as error:
        problems.append(str(error))
        return {}
    if not isinstance(options, dict):
        problems.append(f"{file}: expected a mapping of options, got {type(options).__name__}")
        return {}
    return options


def merge(old: dict, new: dict) -> dict:
    """`new` over `old`, nested mappings key by key."""
    out = dict(old)
    for key, value in new.items():
        out[key] = merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def coerce(value: Any, kind: Any) -> Any:
    """`value` as the annotated type; only conversions that lose nothing (1 -> 1.0, "1e-4" -> 0.0001, 5 -> [5]).

    Raises:
        ValueError: what was found and what is allowed.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in args:
            raise ValueError(f"found {value!r}; allowed: {', '.join(map(str, args))}")
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else coerce(value, next(a for a in args if a is not type(None)))
    if origin is list:
        items = value if isinstance(value, list | tuple) else [] if value is None else [value]
        return [coerce(item, args[0]) for item in items]
    if kind is dict and isinstance(value, dict | None):
        return value or {}
    if kind is float and not isinstance(value, bool):
        try:  # YAML reads 1e-4 as text
            return float(value)
        except (TypeError, ValueError):
            pass
    if kind is str and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"found {value!r}; {kind.__name__} is needed")
