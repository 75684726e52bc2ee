"""Where this project is, and where the files are that a configuration names."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA_ROOT = "SKELETON_DATA"  # environment variable; `--data-root` sets it


def data_root() -> Path:
    """The folder of prepared data: `--data-root`, else the environment variable SKELETON_DATA, else `data` in the
    current folder."""
    return Path(os.environ.get(DATA_ROOT) or "data")


def locate(path: str | Path) -> Path:
    """The file that a relative path of a configuration or command line means.

    `data/...` is below the data root. What does not exist in the current folder is searched in the folder of this
    project, so that programs run from anywhere. A path that exists nowhere is returned for the message about it.
    """
    given = Path(path)
    if given.is_absolute():
        return given
    inside = data_root() / Path(*given.parts[1:]) if given.parts[:1] == ("data",) else given
    if not os.path.lexists(inside) and os.path.lexists(ROOT / given):
        return ROOT / given
    return inside
