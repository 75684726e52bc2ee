"""Import of classes and functions by the dotted paths in configurations, and checks of their arguments."""

import importlib
import inspect
import typing
from collections.abc import Callable
from typing import Any

from torchlight.system.consent import ADMITTED
from torchlight.system.paths import ROOT
from torchlight.system.text import nearest, quote, shorten
from torchlight.system.values import coerce

ROOTS = ("model", "feeders", "graph", "torchlight", "torch")
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def import_object(path: str) -> Any:
    """The object that a dotted path such as `model.ctrgcn.Model` names.

    Raises:
        ValueError: the path is outside the allowed roots, its module cannot be imported, or the object does not exist;
            the message contains the nearest names.
    """
    module_name, _, name = path.rpartition(".")
    root = path.split(".")[0]
    roots = (*ROOTS, *sorted(ADMITTED))
    if root not in roots or not all(part.isidentifier() for part in path.split(".")) or not module_name:
        expected = f"expected a dotted path below {', '.join(roots)}, e.g. model.ctrgcn.Model"
        hint = f"; give --import {root} to admit a module of your own" if root.isidentifier() and module_name else ""
        raise ValueError(f"{expected}, got {quote(path)}{hint}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise ValueError(
                f"{path}: expected the package {error.name} to be installed; pip install -r requirements.txt"
            ) from error
        siblings = [p.stem for p in (ROOT / root).glob("*.py") if p.stem != "__init__"]
        hint = nearest(module_name.split(".")[-1], siblings)
        raise ValueError(f"{shorten(path)}: no module {shorten(module_name)}; {hint}") from error
    except Exception as error:  # whatever a module of the user raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ValueError(f"{path}: expected a module that can be imported, got {reason}") from error
    if not hasattr(module, name):
        public = [n for n, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module_name]
        raise ValueError(f"{shorten(path)}: {module_name} has no {shorten(name)}; {nearest(name, public)}")
    return getattr(module, name)


def import_class(path: str) -> Callable:
    """The class, or the function that makes an object, that a dotted path names.

    Raises:
        ValueError: as `import_object`, or the path names a module or another object, or its arguments are not known.
    """
    found = import_object(path)
    if not inspect.isclass(found) and not inspect.isroutine(found):
        kind = "a module" if inspect.ismodule(found) else f"an object of the type {type(found).__name__}"
        classes = [n for n, v in vars(found).items() if inspect.isclass(v)] if inspect.ismodule(found) else []
        hint = f"; did you mean {path}.{classes[-1]}?" if len(classes) == 1 else ""
        raise ValueError(f"expected the path of a class, got {path}, which is {kind}{hint}")
    try:
        inspect.signature(found)
    except (TypeError, ValueError) as error:  # a function written in C
        raise ValueError(f"expected a class whose arguments are known, got {path}") from error
    return found


def check_arguments(target: Callable, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The arguments for `target(**arguments)`, converted to the annotated types, and a list of problems.

    Problems are unknown names (with the nearest known one), missing ones, and values of another type. A parameter
    without an annotation accepts every value.
    """
    parameters, kinds = inspect.signature(target).parameters, annotations(target)
    known = {name: parameter for name, parameter in parameters.items() if parameter.kind in NAMED}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    converted, problems = dict(arguments), []
    for name, value in arguments.items():
        if name not in known:
            if not open_ended:
                problems.append(f"{shorten(name)}: unknown argument; {nearest(name, known)}")
            continue
        try:
            converted[name] = coerce(value, kinds.get(name, Any))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    required = [name for name, parameter in known.items() if parameter.default is parameter.empty]
    missing = [f"{name}: missing; {target.__qualname__} requires it" for name in required if name not in arguments]
    return converted, problems + missing


def annotations(target: Callable) -> dict[str, Any]:
    """The types of the parameters of a class or function, as far as they are known."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except Exception:  # an annotation with a name that is not imported at run time
        return {name: kind for name, kind in getattr(function, "__annotations__", {}).items() if isinstance(kind, type)}
