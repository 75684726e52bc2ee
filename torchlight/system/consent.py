"""Code that the user admits with `--import` on the command line, and a configuration cannot admit: modules outside
this project, and .pt2 files, which can run code when PyTorch opens them."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from torchlight.system.text import quote

ADMITTED: dict[str, str] = {}  # top-level name of a module: the word after --import
PROGRAM = ".pt2"
PROGRAMS: set[Path] = set()  # files of torch.export


def admit(word: str) -> None:
    """Import a module, given by its name or the path of its .py file, and admit dotted paths into it; or admit the path
    of a .pt2 file, which is not opened here.

    Modules are searched in the current folder and on PYTHONPATH.

    Raises:
        ValueError: there is no such module, another module has its name, or it cannot be imported.
    """
    path = Path(word)
    if path.suffix.lower() in (".py", PROGRAM) and not path.is_file():
        raise ValueError(f"--import: expected a {path.suffix} file, got {quote(word)}, which does not exist")
    if path.suffix.lower() == PROGRAM:
        PROGRAMS.add(path.resolve())
        return
    is_file = path.suffix == ".py"
    name = path.stem if is_file else word
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"--import: expected the name of a module or the path of a .py file, got {quote(word)}")
    folder = str(path.resolve().parent) if is_file else os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)  # at the end, so that no module of this project is shadowed; workers inherit it
    try:
        if is_file:
            found = importlib.util.find_spec(name)
            if found is None or found.origin is None or not Path(found.origin).samefile(path):
                origin = "another place" if found is None or found.origin is None else found.origin
                raise ValueError(f"--import: {word}: expected a name that no other module has, got that of {origin}")
        importlib.import_module(name)
    except ValueError:
        raise
    except Exception as error:  # a user's module can raise any exception
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ValueError(f"--import: {word}: expected a module that can be imported, got {reason}") from error
    ADMITTED[name.split(".")[0]] = word


def is_admitted(path: str | Path) -> bool:
    """Whether the user admitted this .pt2 file."""
    return Path(path).resolve() in PROGRAMS
