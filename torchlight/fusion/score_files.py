"""The score files of a fusion: finding them, and matching them with the names and labels of the test part."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.config.options import Config, ConfigError
from torchlight.contract import Feeder, multi_label_targets
from torchlight.fusion.fuse import MODALITIES
from torchlight.system.paths import ROOT, locate
from torchlight.system.text import nearest, printable
from torchlight.training.build import build_feeder, preflight
from torchlight.training.run_dir import CONFIG, LAST
from torchlight.training.scores import SCORE_FILE, align, read_scores

log = logging.getLogger("torchlight")
PREFERRED = "ctrgcn"  # the network whose data is searched first: most later work uses its preparation
ZOO = "zoo"  # the folder of the runs of published checkpoints, torchlight.zoo.catalog.layers


@dataclass(frozen=True)
class ScoreFile:
    """The scores of one stream: the file, the displayed name, and the modality if a folder in the path has its name."""

    path: Path
    name: str
    modality: str | None


@dataclass(frozen=True)
class GroundTruth:
    """The clips that are scored: name (n,), label (n,) and class names; target (n, num_class) of clips with several
    labels, None for one label per clip; group (n,): the groups in the data, None if it has none."""

    name: np.ndarray
    label: np.ndarray
    class_names: list[str]
    target: np.ndarray | None = None
    group: np.ndarray | None = None

    def single(self) -> "GroundTruth":
        """Return self if each clip has one label.

        Raises:
            ConfigError: the clips have several labels, for which top-1 accuracy is not defined.
        """
        if self.target is not None:
            raise ConfigError(
                [
                    "labels: expected clips with one label each, got several; --phase test and --phase report give the "
                    "mean average precision of a run"
                ]
            )
        return self


def find_score_files(root: Path, dataset: str, chosen: Sequence[str], file: str = SCORE_FILE) -> list[ScoreFile]:
    """The score files of the chosen models in root/<dataset>/<model>/<modality>/, in the order of MODALITIES.

    Raises:
        ValueError: there are no score files, and the message lists the commands that write them; or there are several
            models and none is chosen.
    """
    folder = root / dataset
    models = sorted(
        {path.parent.parent.name for modality in MODALITIES for path in folder.glob(f"*/{modality}/{file}")}
    )
    if not chosen and len(models) > 1:
        raise ValueError(
            f"dataset {dataset}: expected the scores of one model in {folder}, got {names_of(models)}; "
            "choose one or more with --model"
        )
    chosen = chosen or models
    missing = [model for model in chosen if model not in models]
    if missing or not chosen:
        raise ValueError(explain_missing(folder, dataset, missing[0] if missing else None, file, models))
    paths = [folder / model / modality / file for model in chosen for modality in MODALITIES]
    for path in paths:
        if not os.path.exists(path) and os.path.isdir(path.parent):  # a run that was not tested yet
            made = scoring_command(path.parent, dataset, path.parts[-3], file)
            log.warning("%s: missing, so this stream is left out; to write it: %s", *map(printable, (str(path), made)))
    return name_score_files([path for path in paths if os.path.exists(path)])


def names_of(items: Sequence[str]) -> str:
    """Names of folders in a message."""
    return ", ".join(map(printable, items))


def explain_missing(folder: Path, dataset: str, model: str | None, file: str, models: Sequence[str]) -> str:
    """The error message if there are no score files: the searched paths, and the commands that write the files."""
    pattern = f"{folder}/{model or '*'}/{{{','.join(MODALITIES)}}}/{file}"
    searched = f"dataset {dataset}: expected {pattern}, got no such file"
    if models:
        return f"{searched}; there are scores of {names_of(models)}"
    deeper = sorted({str(path.parents[2].relative_to(folder.parent)) for path in folder.glob(f"*/*/*/{file}")})
    if deeper:
        return f"{searched}; give one of these as --dataset: {names_of(deeper)}"
    known = config_names(dataset)
    if dataset == ZOO:
        test = "python main.py --phase test --save-score true --weights"
        return f"{searched}; write one for each stream: {test} zoo:{model or 'NAME'}_j, ..."
    if not known:
        config = ROOT / "config"
        datasets = {str(path.parent.relative_to(config)) for path in config.rglob("*.yaml")} - {".", "base", "search"}
        return f"{searched}, and no config/{dataset}/*.yaml; {nearest(dataset, sorted(datasets))}"
    names = [model] if model else known
    runs = [(name, folder / name / modality) for name in names for modality in MODALITIES]
    trained = [(name, run) for name, run in runs if (run / LAST).is_file()]
    if trained:
        commands = [f"  {scoring_command(run, dataset, name, file)}" for name, run in trained]
        return "\n".join([f"{searched}; test the trained streams:", *commands])
    name = names[0] if len(names) == 1 else "MODEL"
    command = scoring_command(folder / name / "MODALITY", dataset, name, file)
    which = "" if len(names) == 1 else f"MODEL is one of {', '.join(names)}; "
    return f"{searched}; train streams, and test each:\n  {command}\n{which}MODALITY is one of {', '.join(MODALITIES)}"


def config_names(dataset: str) -> list[str]:
    """Names of the YAML files in config/<dataset>/, one per network."""
    return sorted(path.stem for path in (ROOT / "config" / dataset).glob("*.yaml"))


def scoring_command(folder: Path, dataset: str, model: str, file: str) -> str:
    """The command that writes the score file of the trained run in `folder`, which is named after its modality."""
    ema = " --ema true" if "_ema_" in file else ""
    return (
        f"python main.py --config config/{dataset}/{model}.yaml --modality {folder.name} --phase test "
        f"--weights {folder}/last.pt --save-score true --work-dir {folder}{ema}"
    )


def name_score_files(paths: Sequence[Path]) -> list[ScoreFile]:
    """Score files under the shortest names that distinguish them."""
    real = [Path(os.path.realpath(path)) for path in paths]
    labels = [path.parent if path.name.startswith("epoch1_test_") else path.with_suffix("") for path in real]
    words = [[printable(word) for word in label.parts] for label in labels]
    depth = next((d for d in range(1, 20) if len({tuple(word[-d:]) for word in words}) == len(words)), 1)
    modalities = [next((name for name in reversed(word) if name in MODALITIES), None) for word in words]
    return [ScoreFile(p, "/".join(word[-depth:]), m) for p, word, m in zip(paths, words, modalities, strict=True)]


def score_file_in(path: Path, file: str = SCORE_FILE) -> Path:
    """The score file that a path names: the path itself, or the file in that folder."""
    return path / file if os.path.isdir(path) else path


def trained_modality(file: ScoreFile) -> str | None:
    """The modality in the config.yaml beside a score file; None without one."""
    beside = file.path.parent / CONFIG
    return load_config(beside).modality if beside.is_file() else None


def find_truth(
    files: Sequence[ScoreFile], dataset: str | None, data: str | None = None, split: str | None = None
) -> GroundTruth:
    """Names and labels of the test part.

    They are read from `data` if it is given, else from the data of a config.yaml beside a score file, else from any
    prepared data of the configurations in config/<dataset>/. The default of `split`, and the held-out clips, are those
    of the same configurations.

    Raises:
        ValueError: none of these exists, or `data` has no such split.
    """
    candidates = [beside for file in files if (beside := file.path.parent / CONFIG).exists()]
    known = config_names(dataset) if dataset else []
    named = [name for name in known if any(name in file.path.parts for file in files)]
    candidates += [
        locate(f"config/{dataset}/{name}.yaml") for name in dict.fromkeys([*named, PREFERRED, *known]) if name in known
    ]
    if data is not None:
        config = load_config(candidates[0]) if candidates else Config()
        truth = truth_of_data(data, split or str(config.test_feeder_args.get("split", "")), config.hold_out)
        for beside in (file.path.parent / CONFIG for file in files):
            truth = with_classes(truth, load_config(beside)) if beside.is_file() else truth
        return truth
    if not candidates:
        searched = (
            f"config.yaml beside a score file or config/{dataset}/*.yaml" if dataset else "config.yaml or --dataset"
        )
        hint = "give --dataset, a folder below config/ such as NW-UCLA, or --data, prepared data"
        raise ValueError(f"labels: expected {searched}, got neither; {hint}")
    problems: dict[str, ConfigError] = {}
    for candidate in candidates:
        config = load_config(candidate)
        place = str(config.test_feeder_args.get("data_path"))
        if place not in problems:
            try:
                return read_truth(config)
            except ConfigError as error:
                problems[place] = error
    first = next(iter(problems.values()))
    if len(problems) == 1:
        raise first
    raise ConfigError([*first.problems, f"labels: expected one of {', '.join(problems)}; give another with --data"])


def truth_of_data(data: str, split: str, hold_out: Sequence[str]) -> GroundTruth:
    """Names and labels of the test part, or of held-out clips, of a store or published file; raises ValueError."""
    try:
        clips = import_object("feeders.published_files.open_part")(data, split, "test", hold_out=hold_out)
    except ValueError as error:
        hint = "; choose a split with --split" if "split" in str(error) else ""
        raise ValueError(f"{error}{hint}") from error
    number = clips.manifest.get("num_class") or int(clips.label.max()) + 1
    names = clips.manifest.get("class_names") or [str(i) for i in range(number)]
    target = clips.target.numpy() if clips.manifest.get("targets") == "multi-label" else None
    return GroundTruth(clips.name, clips.label, [str(name) for name in names], target, clips.group)


def read_truth(config: Config) -> GroundTruth:
    """Names and labels of the test part of an experiment, from its own feeder; raises ConfigError."""
    return truth_of(build_feeder(config, preflight(config, ("feeder",))["feeder"], "test"))


def with_classes(truth: GroundTruth, config: Config) -> GroundTruth:
    """The same clips with all classes of a network that has more than their data: classes without a test clip, or the
    other classes of the training after a test with `map_classes`."""
    number, names = config.model_args.get("num_class"), truth.class_names
    if truth.target is not None or not isinstance(number, int) or number <= len(names):
        return truth
    named = names != [str(i) for i in range(len(names))]
    return replace(truth, class_names=names + [f"class {i}" if named else str(i) for i in range(len(names), number)])


def truth_of(feeder: Feeder) -> GroundTruth:
    """Names and labels of the clips of a feeder.

    Raises:
        ConfigError: there are no clips, or not one name per class.
    """
    names = [str(name) for name in feeder.class_names or range(feeder.num_class)]
    if len(names) != feeder.num_class:
        raise ConfigError([f"class_names: expected {feeder.num_class} names, got {len(names)}; prepare the data again"])
    if not len(feeder.label):
        raise ConfigError(["test_feeder_args: expected at least one test clip, got none"])
    group = getattr(feeder, "group", None)
    return GroundTruth(feeder.name, feeder.label, names, multi_label_targets(feeder), group)


def read_score_files(files: Sequence[ScoreFile], truth: GroundTruth) -> np.ndarray:
    """The scores of all files in the order of the test part: (S, n, num_class).

    Raises:
        ConfigError: all problems of all files.
    """
    arrays = []
    paths = [os.path.realpath(file.path) for file in files]
    problems = [
        f"{path}: expected each score file once, got it as {paths.count(path)} streams"
        for path in sorted({path for path in paths if paths.count(path) > 1})
    ]
    for file in files:
        try:
            arrays.append(align(read_scores(file.path), truth.name, len(truth.class_names), str(file.path)))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    return np.stack(arrays)
