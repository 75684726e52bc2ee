"""Dotted paths from configurations to classes: one resolver, our rooms and torch only."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from torchlight.system.paths import ROOT
from torchlight.system.text import nearest

ROOTS = ("model", "feeders", "graph", "torchlight", "torch")


def import_object(path: str) -> Any:
    """The object that a dotted path such as `model.ctrgcn.Model` names.

    Raises:
        ValueError: the path leaves the allowed roots, or names nothing; the nearest names are given.
    """
    module_name, _, name = path.rpartition(".")
    root = path.split(".")[0]
    if root not in ROOTS or not module_name:
        raise ValueError(f"found {path!r}; a dotted path below {', '.join(ROOTS)} is needed, e.g. model.ctrgcn.Model")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise ValueError(
                f"{path}: needs the package {error.name}, which is not installed; pip install -r requirements.txt"
            ) from error
        siblings = [p.stem for p in (ROOT / root).glob("*.py") if p.stem != "__init__"]
        raise ValueError(
            f"found {path!r}; there is no module {module_name}; {nearest(module_name.split('.')[-1], siblings)}"
        ) from error
    if not hasattr(module, name):
        public = [n for n, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module_name]
        raise ValueError(f"found {path!r}; {module_name} has no {name}; {nearest(name, public)}")
    return getattr(module, name)


def check_arguments(target: Callable, arguments: dict[str, Any]) -> list[str]:
    """What is wrong with calling `target(**arguments)`: unknown names with the nearest known one, missing names. Empty if it binds."""
    parameters = inspect.signature(target).parameters
    problems = [
        f"{name}: unknown argument; {nearest(name, parameters)}" for name in arguments if name not in parameters
    ]
    required = [
        n for n, p in parameters.items() if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    return problems + [f"{name}: missing; {target.__qualname__} needs it" for name in required if name not in arguments]
