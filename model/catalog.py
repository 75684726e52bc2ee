"""The networks in this folder: every file that defines a class `Model`.

A file may also define
    EXAMPLE      arguments besides the numbers of classes, joints and persons and the graph, if the defaults do not
    suffice NO_GRADIENT  name patterns of trainable parameters whose gradient is always zero
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from torch import nn

import model


def networks() -> list[str]:
    """File names without `.py`, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(model.__path__))
    return [name for name in names if is_network(load(name))]


def load(name: str) -> ModuleType:
    return importlib.import_module(f"{model.__name__}.{name}")


def is_network(module: ModuleType) -> bool:
    """Whether the file itself defines `Model`; building blocks do not."""
    return getattr(getattr(module, "Model", None), "__module__", None) == module.__name__


def example_args(name: str) -> dict[str, Any]:
    """The arguments in `EXAMPLE` of a network."""
    return dict(getattr(load(name), "EXAMPLE", {}))


def no_gradient(name: str) -> tuple[str, ...]:
    """The patterns in `NO_GRADIENT` of a network."""
    return tuple(getattr(load(name), "NO_GRADIENT", ()))


def build(name: str, **args: Any) -> nn.Module:
    """The network with these arguments; the defaults are those of `EXAMPLE`."""
    return load(name).Model(**(example_args(name) | args))
