"""Python configuration files of PYSKL, its descendants and mmaction2: read as data and translated into options."""

from pathlib import Path
from typing import Any

from torchlight.config.mmaction2 import MmactionGraphs, MmactionHeatmaps, is_mmaction2, read_merged
from torchlight.config.options import ConfigError
from torchlight.config.pyskl import GraphTranslation
from torchlight.config.pyskl_base import Translation
from torchlight.config.pyskl_posec3d import HeatmapTranslation, is_heatmaps


def read_python_config(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """The options that a configuration file means, and notes about what the file does not state.

    Raises:
        ValueError: the file is not one, or holds what has no equivalent here; all problems at once.
    """
    content = read_merged(Path(path))
    translation = translation_of(content)
    try:
        options = translation.options()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ConfigError(
            [f"{path}: expected the structure of a configuration of PYSKL or mmaction2 1.x, got {error!r}"]
        ) from error
    if translation.problems:
        raise ConfigError([f"{path}: {problem}" for problem in translation.problems])
    return options, translation.notes


def translation_of(content: dict[str, Any]) -> Translation:
    """The translation for the content of a file."""
    graphs, heatmaps = GraphTranslation, HeatmapTranslation
    if is_mmaction2(content):
        graphs, heatmaps = MmactionGraphs, MmactionHeatmaps
    return heatmaps(content) if is_heatmaps(content) else graphs(content)
