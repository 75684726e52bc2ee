"""Conversion of a value from YAML or the command line to an annotated type, without loss of information."""

import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from torchlight.system.text import quote

LISTS = (list, tuple, Sequence, Collection, Iterable)
MAPPINGS = (dict, Mapping)
LARGEST = 2**63 - 1  # largest 64-bit integer
NAMES = {int: "an integer", float: "a finite number", bool: "true or false", str: "text", type(None): "null"}


def coerce(value: Any, kind: Any) -> Any:
    """`value` as the type `kind`: 1 -> 1.0, "1e-4" -> 0.0001, 5 -> [5] for a list, 5 -> "5".

    NumPy numbers are treated like Python numbers. Numbers must be finite, and integers must fit into 64 bits. A type
    other than None, bool, int, float, str, Literal, and unions, lists and mappings of these accepts every value.

    Raises:
        ValueError: `expected ..., got ...`.
    """
    origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
    value = value.item() if isinstance(value, np.generic) else value
    if origin is Literal:
        if any(value == arg and type(value) is type(arg) for arg in args):
            return value
    elif origin in (types.UnionType, typing.Union):
        return _coerce_union(value, kind)
    elif origin in LISTS:
        return _coerce_list(value, kind)
    elif origin in MAPPINGS:
        if isinstance(value, dict | None):
            return {key: coerce(item, args[1] if args else Any) for key, item in (value or {}).items()}
    elif origin is float:
        number = _number(value)
        if number is not None:
            return number
    elif origin is int:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
            return value
    elif origin is str:
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value) if isinstance(value, str) or abs(value) <= LARGEST else quote(value)
    elif origin not in (bool, None, type(None)) or isinstance(value, bool if origin is bool else type(None)):
        return value
    raise ValueError(f"expected {describe(kind)}, got {quote(value)}")


def describe(kind: Any) -> str:
    """A type in an error message.

    >>> describe(int | None), describe(list[float]), describe(Literal["a", "b"])
    ('an integer or null', 'a list, each a finite number', 'a or b')
    """
    origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is Literal:
        *others, last = (str(arg) or "''" for arg in args)
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (types.UnionType, typing.Union):
        return " or ".join(describe(arg) for arg in args)
    if origin in LISTS:
        return f"a list, each {describe(args[0])}" if args and args[0] is not Any else "a list"
    if origin in MAPPINGS:
        return "a mapping"
    return NAMES.get(type(None) if origin is None else origin, getattr(origin, "__name__", str(origin)))


def _coerce_union(value: Any, kind: Any) -> Any:
    """The value as the first member of its own type, else as the first member that it can be converted to."""
    members = typing.get_args(kind)
    for member in sorted(members, key=lambda member: member is not type(value)):
        try:
            return coerce(value, member)
        except ValueError:
            continue
    raise ValueError(f"expected {describe(kind)}, got {quote(value)}")


def _coerce_list(value: Any, kind: Any) -> list[Any]:
    """The value as a list: a single value becomes a list of length 1, null an empty list."""
    items = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
    args = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and Ellipsis not in args:
        if len(items) != len(args):
            raise ValueError(f"expected a list of length {len(args)}, got {quote(value)}")
        return [coerce(item, arg) for item, arg in zip(items, args, strict=True)]
    return [coerce(item, args[0] if args else Any) for item in items]


def _number(value: Any) -> float | None:
    """A finite float, or None. YAML reads 1e-4 as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
