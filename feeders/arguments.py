"""Arguments of feeders as fields of dataclasses: values are checked against annotations and bounds."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from torchlight.system.text import quote

MAX_REPEAT = 1_000_000
MAX_TEXT = 4096  # characters of a path or name


def bounded(default: float, low: float, high: float) -> Any:
    """A field for a number from `low` to `high`."""
    return dataclasses.field(default=default, metadata={"bounds": (low, high)})


def check_arguments(arguments: Any) -> None:
    """Check the fields of a dataclass object; integers in float fields become floats, sequences tuples.

    Raises:
        ValueError: a value that does not fit the annotation or the bounds of its field, NaN included.
    """
    hints = typing.get_type_hints(type(arguments))
    for field in dataclasses.fields(arguments):
        bounds, value = field.metadata.get("bounds"), getattr(arguments, field.name)
        try:
            setattr(arguments, field.name, check_value(value, hints[field.name], bounds))
        except (TypeError, ValueError, OverflowError):
            expected = describe(hints[field.name], bounds)
            raise ValueError(f"{field.name}: expected {expected}, got {quote(value)}") from None


def check_value(value: Any, kind: Any, bounds: tuple[float, float] | None = None) -> Any:
    """The value in the type `kind`; raises ValueError or TypeError if it does not fit."""
    value = value.item() if isinstance(value, np.number) else value
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ValueError
        return value
    if typing.get_origin(kind) is Sequence:
        if not isinstance(value, list | tuple):
            raise TypeError
        return tuple(check_value(item, typing.get_args(kind)[0], bounds) for item in value)
    accepted = {float: (int, float)}.get(kind, kind)
    if not isinstance(value, accepted) or isinstance(value, bool) and kind is not bool:
        raise TypeError
    if kind is str and (len(value) > MAX_TEXT or "\0" in value):
        raise ValueError
    if bounds is not None and not bounds[0] <= value <= bounds[1]:  # NaN fails every comparison
        raise ValueError
    return kind(value)


def describe(kind: Any, bounds: tuple[float, float] | None = None) -> str:
    """What `check_value` accepts, in words."""
    if typing.get_origin(kind) is Literal:
        *others, last = (repr(word) for word in typing.get_args(kind))
        return f"{', '.join(others)} or {last}"
    if typing.get_origin(kind) is Sequence:
        return f"a list, each item {describe(typing.get_args(kind)[0], bounds)}"
    between = f" from {bounds[0]} to {bounds[1]}" if bounds else ""
    return {bool: "true or false", str: "text", int: "a whole number", float: "a number"}[kind] + between


def check_interval(p: Sequence[float]) -> None:
    """Raise ValueError unless `p_interval` is [p] or [low, high] with 0 < low <= high <= 1."""
    if len(p) not in (1, 2) or not all(0 < x <= 1 for x in p) or list(p) != sorted(p):
        raise ValueError(f"p_interval: expected [p] or [low, high] with 0 < low <= high <= 1, got {quote(list(p))}")
