"""Optional packages."""

import importlib
from types import ModuleType


def optional(name: str, command: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ValueError: it is missing or cannot be loaded; the message contains the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:  # also for a missing system library, such as libGL
        package, reason = name.split(".")[0], " ".join(str(error).split())
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        raise ValueError(
            f"{package}: {'the package is missing' if missing else f'cannot be loaded ({reason})'}; {command}"
        ) from error
