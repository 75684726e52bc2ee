"""The streams of a fusion: finding their score files, and joining them with the names and labels of the test part."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torchlight.config.load import load_config
from torchlight.config.options import ConfigError
from torchlight.fusion.fuse import MODALITIES
from torchlight.system.paths import ROOT
from torchlight.system.text import nearest
from torchlight.training.build import build_feeder, preflight
from torchlight.training.run_dir import CONFIG
from torchlight.training.scores import SCORE_FILE, align, read_scores

log = logging.getLogger("torchlight")


@dataclass(frozen=True)
class Stream:
    """One score file, the name it is shown under, and its modality if its folder tells."""

    path: Path
    name: str
    modality: str | None


@dataclass(frozen=True)
class GroundTruth:
    """The clips that are scored: names (n,), label (n,) and class names."""

    name: np.ndarray
    label: np.ndarray
    class_names: list[str]


def find_streams(root: Path, dataset: str, chosen: Sequence[str], file: str = SCORE_FILE) -> list[Stream]:
    """The score files of the chosen models in root/<dataset>/<model>/<modality>/, in the order of MODALITIES.

    Raises:
        ValueError: there are none, or those of several models and none is chosen; says what was found and what makes the missing ones.
    """
    folder = root / dataset
    models = sorted(
        {path.parent.parent.name for modality in MODALITIES for path in folder.glob(f"*/{modality}/{file}")}
    )
    if not chosen and len(models) > 1:
        raise ValueError(
            f"dataset {dataset}: found scores of {', '.join(models)} in {folder}; choose one or more with --model"
        )
    chosen = chosen or models
    if not chosen or not set(chosen) <= set(models):
        raise ValueError(
            nothing_found(folder, dataset, next((m for m in chosen if m not in models), None), file, models)
        )
    paths = [folder / model / modality / file for model in chosen for modality in MODALITIES]
    for path in paths:
        if not path.exists():
            log.warning(
                "%s: not there, so this stream is left out; it is made by: %s",
                path,
                command(path, dataset, path.parts[-3]),
            )
    return name_streams([path for path in paths if path.exists()])


def nothing_found(folder: Path, dataset: str, model: str | None, file: str, models: list[str]) -> str:
    """The message where there is nothing to fuse: what was looked for, and the commands that make it."""
    looked = f"dataset {dataset}: found no {folder}/{model or '*'}/{{{','.join(MODALITIES)}}}/{file}"
    if models:
        return f"{looked}; there are scores of {', '.join(models)}"
    deeper = sorted({str(path.parents[2].relative_to(folder.parent)) for path in folder.glob(f"*/*/*/{file}")})
    if deeper:
        return f"{looked}; there are scores in {', '.join(deeper)}; give one of them as --dataset"
    configs = sorted((ROOT / "config" / dataset).glob("*.yaml"))
    if not configs:
        known = sorted(
            {str(path.parent.relative_to(ROOT / "config")) for path in (ROOT / "config").rglob("*.yaml")}
            - {".", "base"}
        )
        return f"{looked}, and no config/{dataset}/*.yaml; {nearest(dataset, known)}"
    chosen = model or ("ctrgcn" if any(path.stem == "ctrgcn" for path in configs) else configs[0].stem)
    made = [f"  {command(folder / chosen / modality / file, dataset, chosen)}" for modality in MODALITIES]
    return "\n".join([f"{looked}; one score file for each stream is needed; make them, after training, with", *made])


def command(path: Path, dataset: str, model: str) -> str:
    """The command that writes the score file `path` of a trained run."""
    ema = " --ema true" if "_ema_" in path.name else ""
    return (
        f"python main.py --config config/{dataset}/{model}.yaml --modality {path.parent.name} --phase test "
        f"--weights {path.parent}/last.pt --save-score true --work-dir {path.parent}{ema}"
    )


def name_streams(paths: Sequence[Path]) -> list[Stream]:
    """Streams under the shortest names that tell them apart."""
    labels = [
        path.parent if path.name.startswith("epoch1_test_") else path.with_suffix("")
        for path in map(Path.resolve, paths)
    ]
    parts = [label.parts for label in labels]
    depth = next((d for d in range(1, 20) if len({part[-d:] for part in parts}) == len(parts)), 1)
    modalities = [next((word for word in reversed(part) if word in MODALITIES), None) for part in parts]
    return [Stream(p, "/".join(part[-depth:]), m) for p, part, m in zip(paths, parts, modalities, strict=True)]


def score_file(path: Path, file: str = SCORE_FILE) -> Path:
    """The score file that a path means: itself, or the one in that folder."""
    return path / file if path.is_dir() else path


def find_config(streams: Sequence[Stream], dataset: str | None) -> Path:
    """The experiment whose test feeder knows names and labels: a stream's own config.yaml, or the first of config/<dataset>/.

    Raises:
        ValueError: there is neither.
    """
    for stream in streams:
        if (stream.path.parent / CONFIG).exists():
            return stream.path.parent / CONFIG
    found = sorted((ROOT / "config" / dataset).glob("*.yaml")) if dataset else []
    if not found:
        where = f"config/{dataset}/*.yaml" if dataset else "--dataset"
        raise ValueError(
            f"labels: found no config.yaml beside the score files and no {where}; give --dataset as below config/, e.g. NW-UCLA"
        )
    return next((path for path in found if any(path.stem in stream.path.parts for stream in streams)), found[0])


def open_test_part(config_file: Path) -> GroundTruth:
    """Names and labels of the test part of an experiment, through its own feeder."""
    config = load_config(config_file)
    feeder = build_feeder(config, preflight(config, ("feeder",))["feeder"], "test")
    return GroundTruth(feeder.name, feeder.label, feeder.class_names or [str(i) for i in range(feeder.num_class)])


def read_streams(streams: Sequence[Stream], part: GroundTruth) -> np.ndarray:
    """All score files in the order of the test part: (S, n, num_class).

    Raises:
        ConfigError: everything that is wrong with any of the files.
    """
    problems, arrays = [], []
    paths = [stream.path.resolve() for stream in streams]
    problems += [
        f"{path}: found the same file as two streams; each is needed once"
        for path in sorted({p for p in paths if paths.count(p) > 1})
    ]
    for stream in streams:
        try:
            arrays.append(align(read_scores(stream.path), part.name, len(part.class_names), str(stream.path)))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    return np.stack(arrays)
