"""Entry points of an installed project: commands and imports that work from any folder."""

import importlib.util
import sys
from pathlib import Path

from torchlight.system.command import start
from torchlight.system.paths import ROOT

PACKAGES = ("model", "graph", "feeders", "data")


def main() -> int:
    """The command `skeleton`: main.py from any folder."""
    sys.path.insert(0, str(ROOT))
    return start("torchlight.commands.main")


def ensemble() -> int:
    """The command `skeleton-ensemble`: ensemble.py from any folder."""
    sys.path.insert(0, str(ROOT))
    return start("torchlight.fusion.cli")


def find_packages() -> None:
    """Make the packages beside torchlight importable, after everything else on the path.

    Raises:
        ImportError: a package of another project has the same name.
    """
    if str(ROOT) not in map(str, map(Path.resolve, map(Path, sys.path))):
        sys.path.append(str(ROOT))
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        origin = found.origin if found is not None else None
        if origin is None or not Path(origin).is_relative_to(ROOT):
            place = origin or "another folder"
            raise ImportError(
                f"torchlight needs its package {name} in {ROOT}, but {place} has the same name; rename that one, "
                f"or put {ROOT} first on sys.path"
            )
