"""Arguments of feeders as fields of dataclasses: values are checked against annotations and bounds."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

from torchlight.system.text import quote
from torchlight.system.values import coerce, describe

MAX_REPEAT = 1_000_000
MAX_TEXT = 4096  # characters of a path or name


def bounded(default: float, low: float, high: float) -> Any:
    """A field for a number from `low` to `high`."""
    return dataclasses.field(default=default, metadata={"bounds": (low, high)})


def check_arguments(arguments: Any) -> None:
    """Convert the fields of a dataclass object to their annotations as `coerce` does; sequences become tuples.

    Raises:
        ValueError: a value, such as NaN, does not fit the annotation or the bounds of its field.
    """
    hints = typing.get_type_hints(type(arguments))
    for field in dataclasses.fields(arguments):
        given, bounds = getattr(arguments, field.name), field.metadata.get("bounds")
        try:
            value = coerce(given, hints[field.name])
            if bounds and not bounds[0] <= value <= bounds[1]:
                raise ValueError
            if isinstance(value, str) and (len(value) > MAX_TEXT or "\0" in value):
                raise ValueError
        except ValueError:
            expected = describe(hints[field.name]) + (f" from {bounds[0]} to {bounds[1]}" if bounds else "")
            raise ValueError(f"{field.name}: expected {expected}, got {quote(given)}") from None
        setattr(arguments, field.name, tuple(value) if isinstance(value, list) else value)


def check_interval(p: Sequence[float]) -> None:
    """Raise ValueError unless `p_interval` is [p] or [low, high] with 0 < low <= high <= 1."""
    if len(p) not in (1, 2) or not all(0 < x <= 1 for x in p) or list(p) != sorted(p):
        raise ValueError(f"p_interval: expected [p] or [low, high] with 0 < low <= high <= 1, got {quote(list(p))}")
