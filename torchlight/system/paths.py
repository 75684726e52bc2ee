"""The locations of this project and of the files named in configurations."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from torchlight.system.text import quote

ROOT = Path(__file__).resolve().parents[2]
DATA_ROOT = "SKELETON_DATA"  # environment variable; `--data-root` sets it


def data_root() -> Path:
    """The folder of prepared data: `--data-root`, else the environment variable SKELETON_DATA, else `data` in the
    current folder."""
    return Path(os.environ.get(DATA_ROOT) or "data")


def set_data_root(folder: str | Path | None) -> None:
    """Use a folder (`--data-root`) as data root, also in other processes started from this one; None: keep the present
    one.

    Raises:
        ValueError: this folder, or that of SKELETON_DATA, does not exist.
    """
    root = folder or os.environ.get(DATA_ROOT)
    if root and not Path(root).is_dir():
        origin = "--data-root" if folder else DATA_ROOT
        raise ValueError(f"{origin}: expected a folder that exists, got {quote(str(root))}")
    if folder:
        os.environ[DATA_ROOT] = str(folder)


def below_data_root(path: str | Path, root: Path | None = None) -> Path:
    """`data/...` below the data root, or below `root`; another path is not changed."""
    given = Path(path)
    return (root or data_root()) / Path(*given.parts[1:]) if given.parts[:1] == ("data",) else given


def locate(path: str | Path) -> Path:
    """Resolve a path from a configuration or the command line.

    `data/...` is below the data root. A path that does not exist there or in the current folder is searched in the
    folder of this project, so that programs can run from any folder. If it exists in neither place, the first one is
    returned for use in error messages.
    """
    given = Path(path)
    if given.is_absolute():
        return given
    inside = below_data_root(given)
    if not os.path.lexists(inside) and os.path.lexists(ROOT / given):
        return ROOT / given
    return inside


def folder_name(words: Sequence[str]) -> str:
    """A name of a folder for these words, different for different words: the words themselves, with _ doubled, or their
    hash if they are long or contain other characters.

    >>> folder_name(["s01", "s02"]), folder_name(["s01_s02"]), folder_name(["rat 1/left"])
    ('s01_s02', 's01__s02', 'fold_f9c45eb8')
    """
    name = "_".join(word.replace("_", "__") for word in words)
    plain = all(re.fullmatch(r"[a-z0-9]([\w.-]*[a-z0-9])?", word, re.ASCII | re.IGNORECASE) for word in words)
    if plain and len(name) <= 100:
        return name
    return f"fold_{hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:8]}"
