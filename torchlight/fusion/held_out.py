"""Fusion weights that are chosen on held-out training clips and applied to the test part."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.fusion import fuse
from torchlight.fusion.score_files import (
    GroundTruth,
    ScoreFile,
    name_score_files,
    read_score_files,
    read_truth,
    score_file_in,
)
from torchlight.training.run_dir import CONFIG
from torchlight.training.scores import EMA_SCORE_FILE, SCORE_FILE


def choose_on_held_out(
    paths: Sequence[Path], found: Sequence[ScoreFile], test: GroundTruth, space: str, ema: bool = False
) -> tuple[list[float], str]:
    """The weights of the streams `found` with the highest top-1 on held-out clips, and their origin in words.

    paths: runs of the same streams with `hold_out`, one per stream. They are matched by modality, or by position if the
    modality of a stream is not known or two streams have the same modality. space: see `fuse.to_space`. ema: read the
    scores of the averaged weights.

    Raises:
        ConfigError: there is not exactly one run per stream, a run has no hold_out or a different one, or clips of the
            test part are included.
    """
    score_file = EMA_SCORE_FILE if ema else SCORE_FILE
    files, configs = match([score_file_in(path, score_file) for path in paths], found)
    words = [" ".join(config.hold_out) for config in configs]
    if not all(words) or len(set(words)) > 1:
        got = "; ".join(f"{file.name}: {word or 'none'}" for file, word in zip(files, words, strict=True))
        raise ConfigError([f"weights_from: expected runs with the same hold_out, got {got}"])
    truth = read_truth(configs[0]).single()
    if shared := set(truth.name.tolist()) & set(test.name.tolist()):
        raise ConfigError(
            [f"weights_from: expected clips of the training part, got {len(shared)} of the test part ({min(shared)})"]
        )
    if truth.class_names != test.class_names:
        raise ConfigError(["weights_from: expected runs with the classes of the test part, got other classes"])
    weights, top1 = fuse.best_weights(fuse.to_space(read_score_files(files, truth), space), truth.label)
    origin = f"best on {len(truth.label)} held-out training clips of {words[0]} (top-1 {top1:.2f} there)"
    return np.round(weights, 12).tolist(), origin


def match(paths: Sequence[Path], found: Sequence[ScoreFile]) -> tuple[list[ScoreFile], list[Config]]:
    """The score files of held-out runs in the order of the streams `found`, and their configurations; raises
    ConfigError if runs and streams do not correspond."""
    if len(paths) != len(found):
        names = ", ".join(file.name for file in found)
        raise ConfigError([f"weights_from: expected {len(found)} runs, one per stream ({names}), got {len(paths)}"])
    pairs = [(file, load_config(file.path.parent / CONFIG)) for file in name_score_files(paths)]
    wanted = [file.modality for file in found]
    known = {config.modality: (file, config) for file, config in pairs}
    if None not in wanted and len(set(wanted)) == len(wanted):
        if set(known) != set(wanted):
            raise ConfigError([f"weights_from: expected runs of {', '.join(wanted)}, got {', '.join(known)}"])
        pairs = [known[modality] for modality in wanted]
    return [file for file, _ in pairs], [config for _, config in pairs]
