"""Python configuration files read as data: parsed, never executed.

Such a file is a sequence of assignments of literals, `dict(...)` calls, names assigned before, text subscripts of
these, f-strings of text and names, and lists of numbers that are repeated (`[1] * 60`) or joined (`[1] + [2]`).
Anything else is refused with its line number.
"""

import ast
import math
from pathlib import Path
from typing import Any

from torchlight.system.files import read_text
from torchlight.system.text import quote

MAX_BYTES = 2**20
MAX_TEXT = 10**4  # characters of an f-string; assigned to its own name it would double with every line
MAX_NUMBERS = 10**4  # of a list that is repeated or joined
MAX_VALUES = 10**5  # with every name written out: a value that contains a name twice doubles
MAX_LEVELS = 50  # of containers in containers


class Refused(Exception):
    """An expression that is not read, and its line."""

    def __init__(self, node: ast.AST, what: str):
        super().__init__(what)
        self.line = getattr(node, "lineno", 0)


def read_python(path: str | Path) -> dict[str, Any]:
    """The top-level names of a Python configuration file and their values.

    Raises:
        ValueError: the file cannot be read, is not Python, or holds anything but assignments of literals; the message
            has the line number.
    """
    text = read_text(path, MAX_BYTES)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ValueError(f"{path}{line}: expected a Python file, got {type(error).__name__}: {error}") from error
    names: dict[str, Any] = {}
    for statement in tree.body:
        try:
            assign(statement, names)
        except Refused as error:
            raise ValueError(f"{path}:{error.line}: expected an assignment of literal values, got {error}") from None
        except RecursionError:
            raise ValueError(f"{path}:{statement.lineno}: expected a simpler value, got too many levels") from None
    try:
        count, levels = extent(names, {})
    except RecursionError:
        count = levels = math.inf
    if count > MAX_VALUES or levels > MAX_LEVELS:
        raise ValueError(f"{path}: expected up to {MAX_VALUES:,} values in {MAX_LEVELS} levels, got more")
    return names


def extent(found: Any, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """The number of values and of levels with shared containers written out; infinite if one contains itself."""
    if not isinstance(found, dict | list | tuple):
        return 1, 0
    if id(found) not in known:
        known[id(found)] = math.inf, math.inf
        items = [extent(item, known) for item in (found.values() if isinstance(found, dict) else found)]
        known[id(found)] = 1 + sum(count for count, _ in items), 1 + max((levels for _, levels in items), default=0)
    return known[id(found)]


def assign(statement: ast.stmt, names: dict[str, Any]) -> None:
    """One assignment: `name = value` or `name['key'] = value`."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise Refused(statement, f"a statement of the kind {type(statement).__name__}")
    target, found = statement.targets[0], value(statement.value, names)
    if isinstance(target, ast.Name):
        names[target.id] = found
    elif isinstance(target, ast.Subscript):
        mapping, key = subscript(target, names)
        mapping[key] = found
    else:
        raise Refused(target, f"a target of the kind {type(target).__name__}")


def subscript(node: ast.Subscript, names: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The mapping and the text key of `mapping['key']`."""
    mapping, key = value(node.value, names), node.slice
    if not isinstance(mapping, dict) or not isinstance(key, ast.Constant) or not isinstance(key.value, str):
        raise Refused(node, "a subscript other than mapping['key']")
    return mapping, key.value


def value(node: ast.expr, names: dict[str, Any]) -> Any:
    """The value of an expression; the same object for the same name, as in Python."""
    match node:
        case ast.Constant(value=str() | int() | float() | None as constant):  # a bool is an int
            return constant
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items):
            return [value(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(value(item, names) for item in items)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words) if all(word.arg for word in words):
            return {word.arg: value(word.value, names) for word in words}
        case ast.BinOp(left=left, op=ast.Add() | ast.Mult() as op, right=right):
            return combined(node, value(left, names), op, value(right, names))
        case ast.Name(id=name):
            if name not in names:
                raise Refused(node, f"the name {name}, which has no value yet")
            return names[name]
        case ast.Subscript():
            mapping, key = subscript(node, names)
            if key not in mapping:
                raise Refused(node, f"the key {quote(key)}, which does not exist")
            return mapping[key]
        case ast.JoinedStr(values=parts):
            text = "".join(text_of(part, names) for part in parts)
            if len(text) > MAX_TEXT:
                raise Refused(node, f"an f-string of more than {MAX_TEXT} characters")
            return text
    raise Refused(node, f"an expression of the kind {type(node).__name__}")


def combined(node: ast.expr, left: Any, op: ast.operator, right: Any) -> list[int | float]:
    """A list of numbers that is repeated, or two that are joined."""
    joins = isinstance(op, ast.Add)
    lists, times = ((left, right), 1) if joins else ((left,), right)
    if not all(map(is_numbers, lists)) or type(times) is not int:
        raise Refused(node, "an expression of the kind BinOp")
    if sum(map(len, lists)) * times > MAX_NUMBERS:
        raise Refused(node, f"a list of more than {MAX_NUMBERS} numbers")
    return left + right if joins else left * times


def is_numbers(found: Any) -> bool:
    """Whether a value is a list of numbers."""
    return isinstance(found, list) and all(isinstance(item, int | float) for item in found)


def text_of(part: ast.expr, names: dict[str, Any]) -> str:
    """A part of an f-string: text, or `{name}` of a text or number."""
    match part:
        case ast.Constant(value=str() as text):
            return text
        case ast.FormattedValue(value=ast.Name() as name, conversion=-1, format_spec=None):
            found = value(name, names)
            if isinstance(found, str | int | float):
                return str(found)
    raise Refused(part, "an f-string with more than names of texts and numbers")
