"""An experiment: the objects for training and testing, built once from a configuration."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from torchlight.config.imports import import_object
from torchlight.config.options import Config, ConfigError
from torchlight.contract import (
    Batch,
    EpochObjective,
    FeatureModel,
    Feeder,
    MovableFeeder,
    multi_label_targets,
)
from torchlight.runtime import distributed
from torchlight.runtime.seed import rng_state, seed_everything, set_rng_state
from torchlight.system.command import RunError, is_out_of_memory
from torchlight.system.files import sha256
from torchlight.system.paths import locate
from torchlight.system.text import quote
from torchlight.training import build, checkpoint, engine, finetune, optim, published, teacher
from torchlight.training.device import autocast, check_distinct, choose_device
from torchlight.training.identity import check_identity
from torchlight.training.loader import make_loader
from torchlight.training.metrics import accuracies, mean_average_precision
from torchlight.training.run_dir import RunDirectory, default_work_dir
from torchlight.training.sampler import TestBatches
from torchlight.training.scores import top_k

DIVERGED = "lower base_lr, lengthen warm_up_epoch, set clip_grad, or look for NaN in the data (prepare.py --check)"


@dataclass
class Experiment:
    """A configuration and the objects that it describes. `notes` are lines for the log of the run."""

    config: Config
    run_dir: RunDirectory
    device: torch.device
    feeders: dict[str, Feeder]
    model: nn.Module
    objective: nn.Module
    notes: list[str]
    initial_weights: dict[str, Any] | None = None  # file and sha256
    class_names: Sequence[str] | None = None  # of the outputs of the network
    start: finetune.Start | None = None  # of a fine-tuning


@contextmanager
def open_experiment(config: Config, parts: tuple[str, ...]) -> Iterator[Experiment]:
    """Lock the run directory and build the feeders of these parts, the network and the objective; nothing else is
    written.

    Raises:
        ConfigError: all mistakes in the options, or those of the first object that cannot be built.
        ValueError: another process uses the run directory, or it contains a run and neither `resume` nor `overwrite` is
            given.
    """
    classes = build.preflight(config, ("feeder", "model", "objective"))
    training = config.phase == "train"
    run_dir = RunDirectory(find_work_dir(config))
    device = choose_device(config)
    distributed.start(device)
    check_distinct(device)
    with run_dir:
        distributed.on_main(run_dir.lock)  # before its content is read
        if training and not (config.resume or config.overwrite):
            distributed.on_main(run_dir.refuse_existing)
        yield build_experiment(config, parts, classes, run_dir, device)


def build_experiment(
    config: Config, parts: tuple[str, ...], classes: dict[str, Callable], run_dir: RunDirectory, device: torch.device
) -> Experiment:
    """Build everything from the classes of `build.preflight`; raises ConfigError."""
    feeders = {part: open_feeder(config, classes["feeder"], part, device) for part in parts}
    seed_everything(config.seed)  # the same initial weights on every rank
    model = build.build_model(config, classes["model"])
    objective = build.build_objective(config, classes["objective"])
    build.check_targets(config, objective, feeders["test"])
    if "train" in feeders:
        build.tell_classes(objective, feeders["train"])
    objective = objective.to(device)
    initial, names, notes, start = None, feeders["test"].class_names, [], None
    if config.weights:
        key = "model_ema" if config.ema and not config.weights_key else config.weights_key
        checkpoint.load_weights(model, config.weights, key, config.ignore_weights, config.model_args)
        if not config.ignore_weights:
            content = published.identity(config.weights) or checkpoint.load(config.weights)
            names, notes = check_identity(content, model, feeders["test"], config)
        initial = {"file": config.weights, "sha256": sha256(config.weights)}
    if config.finetune and config.phase == "train":
        start = finetune.begin(config, model, feeders["test"], run_dir.path)
        initial, notes = start.initial, start.notes
    notes = [*data_notes(config, parts), *notes]
    experiment = Experiment(config, run_dir, device, feeders, model.to(device), objective, notes, initial, names, start)
    if config.teacher and config.phase == "train":
        objective.teacher = load_teachers(experiment, classes["feeder"])
    seed_everything(config.seed, distributed.rank())
    return experiment


def data_notes(config: Config, parts: tuple[str, ...]) -> list[str]:
    """Where the data of these parts was found."""
    arguments = [config.train_feeder_args if part == "train" else config.test_feeder_args for part in parts]
    places = [str(given["data_path"]) for given in arguments if given.get("data_path")]
    return [f"data: {locate(place).absolute()}" for place in dict.fromkeys(places)]


def find_work_dir(config: Config) -> Path:
    """The run directory of the configuration, or the default for its file; stored in `config.work_dir`."""
    path = Path(config.work_dir) if config.work_dir else default_work_dir(config)
    if path is None:
        raise ConfigError(["work_dir: missing; without --config there is no default; give --work-dir"])
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([f"work_dir: expected a folder, got {quote(str(path))} ({reason})"]) from error
    config.work_dir = str(path)
    return path


def open_feeder(config: Config, feeder: Callable, part: str, device: torch.device) -> Feeder:
    """Build the feeder of a part, check it against `model_args`, and move its clips to the GPU if they fit there."""
    built = build.build_feeder(config, feeder, part)
    build.check_fit(config, built)
    if device.type == "cuda" and config.data_on_device and not config.num_worker and isinstance(built, MovableFeeder):
        built.to(device)
    return built


def load_teachers(experiment: Experiment, feeder: Callable) -> teacher.Teacher:
    """The frozen networks of the option `teacher`, each tested on the test part of its modality.

    Raises:
        ConfigError: a teacher cannot be built, does not fit the data (its shape, stream, classes, body or preparation),
            or is not better than chance.
    """
    config, models, inputs = experiment.config, [], []
    weights, together = teacher.teacher_weights(config), 0
    feeders = {config.modality: experiment.feeders["test"]}
    for number, entry in enumerate(teacher.teacher_configs(config), start=1):
        try:
            if entry.modality not in feeders:
                feeders[entry.modality] = open_feeder(entry, feeder, "test", experiment.device)
            clips = feeders[entry.modality]
            build.check_fit(entry, clips)
            model = build.build_model(entry, import_object(entry.model))
            checkpoint.load_weights(model, entry.weights, entry.weights_key, model_args=entry.model_args)
            content = published.identity(entry.weights) or checkpoint.load(entry.weights)
            tested = replace(entry, phase="test", map_classes=False, hold_out=[])  # differences are errors
            _, notes = check_identity(content, model, clips, tested)
        except ValueError as error:
            raise ConfigError([f"teacher {number}: {line}" for line in str(error).splitlines()]) from error
        experiment.notes += [f"teacher {number}: {note}" for note in notes]
        model = engine.for_inference(model.to(experiment.device))
        prediction = predict(experiment, model, clips)
        top1 = top_k(prediction.scores, prediction.label, 1)
        experiment.notes.append(teacher.check_trained(number, entry, top1, clips.num_class))
        models.append(model)
        inputs.append(teacher.batch_key(entry, config))
        together = together + weights[number - 1] * prediction.scores
    if len(models) > 1:
        top1 = top_k(together, prediction.label, 1)
        experiment.notes.append(f"the {len(models)} teachers together: {config.tested} top-1 {top1:.2f} %")
    train = experiment.feeders["train"]
    if config.teacher_cache:
        teacher.check_repeats(train)
    return teacher.Teacher(models, inputs, len(train.label) if config.teacher_cache else 0, weights)


def predict(
    experiment: Experiment, model: nn.Module, feeder: Feeder | None = None, features: bool = False
) -> engine.Prediction:
    """Scores (or pooled features) of all clips of a feeder; None: the test part. Each clip is processed by exactly one
    process.

    Raises:
        RunError: some of them are not finite.
    """
    config, device = experiment.config, experiment.device
    feeder = experiment.feeders["test"] if feeder is None else feeder
    batches = TestBatches(len(feeder), config.test_batch_size, distributed.rank(), distributed.world_size())
    network = engine.for_inference(model)
    if features:
        network = PooledFeatures(network)
    loader = make_loader(config, feeder, batches, device, title="test")
    prediction = engine.evaluate(
        network, experiment.objective, loader, device, partial(autocast, config, device), features
    )
    targets = None if features else multi_label_targets(feeder)
    if targets is not None:  # the network may have classes that do not occur in the data
        more = prediction.scores.shape[1] - targets.shape[1]
        prediction.target = np.pad(targets[prediction.index], ((0, 0), (0, more)))
    broken = int((~np.isfinite(prediction.scores)).any(1).sum())
    if broken:
        left = f"{experiment.run_dir.left()}; " if config.phase == "train" else ""
        raise RunError(
            f"expected finite scores, got {broken} of {len(prediction.label)} clips without; {left}{DIVERGED}"
        )
    return prediction


class PooledFeatures(nn.Module):
    """Inputs of a network -> (N, C_out): the features of the last block, averaged over frames, joints and persons."""

    def __init__(self, model: FeatureModel):
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model.features(*inputs).mean((2, 3, 4))


def test_figures(experiment: Experiment, model: nn.Module) -> tuple[dict[str, float], engine.Prediction]:
    """Loss and accuracies (percent) of a network on the test part, and its scores."""
    prediction = predict(experiment, model)
    plain = experiment.config.objective == Config().objective
    name = "loss" if plain else "cross_entropy"  # the training loss of other objectives is not the cross entropy
    if prediction.target is not None:
        figures = {"map": mean_average_precision(prediction.scores, prediction.target)}
    else:
        figures = accuracies(prediction.scores, prediction.label)
    return {name: prediction.loss} | figures, prediction


def rehearse(experiment: Experiment) -> None:
    """Build the first training batch, train on two of its clips and predict them.

    Thus an experiment that cannot be trained is refused before anything is written. Parameters, buffers and random
    generators are unchanged afterwards. Memory is needed for a copy of the weights and their gradients. Ranks do not
    communicate.

    Raises:
        ConfigError: the batch cannot be built, or the objective has parameters of its own, or gives no loss that
            reaches a parameter, or no logits.
        RunError: a part of the experiment raised it.
    """
    config, model, feeder = experiment.config, experiment.model, experiment.feeders["train"]
    if config.freeze_epoch and all(any(w in name for w in config.freeze) for name, _ in model.named_parameters()):
        raise ConfigError([f"freeze: expected words that leave some parameters to train, got {quote(config.freeze)}"])
    if own := [name for name, p in experiment.objective.named_parameters() if p.requires_grad]:
        expected = "no parameters to train, because only those of the network are trained and saved"
        hint = "make them part of the network, as model/contrastive.py does"
        raise ConfigError([f"objective: expected {expected}, got {', '.join(own[:3])}; {hint}"])
    state, saved = rng_state(), {name: (value.detach().clone(), value.requires_grad) for name, value in tensors(model)}
    try:
        share = config.batch_size // (config.update_freq * distributed.world_size())
        feeder.batch(list(range(min(share, len(feeder)))), 0)
        batch = engine.to_device(feeder.batch(list(range(min(2, len(feeder)))), 0), experiment.device)
        train_and_predict(experiment, batch)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, RunError) or is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ConfigError([f"the first training step failed, nothing was written: {reason}"]) from error
    finally:
        set_rng_state(state)
        model.train()
        for name, value in tensors(model):
            value.detach().copy_(saved[name][0])
            value.requires_grad_(saved[name][1]).grad = None
        if isinstance(getattr(experiment.objective, "teacher", None), teacher.Teacher):
            experiment.objective.teacher.forget()


def tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Names and values of all parameters and buffers, including those that are not in the state dict."""
    return [*model.named_parameters(), *model.named_buffers()]


def train_and_predict(experiment: Experiment, batch: Batch) -> None:
    """A backward pass and a prediction with a copy of the objective; raises ValueError if their results are
    unusable."""
    config, model, number = experiment.config, experiment.model, len(batch["label"])
    known = getattr(experiment.objective, "teacher", None)  # never changed, and too large to copy
    objective = copy.deepcopy(experiment.objective, {} if known is None else {id(known): known})
    optim.set_frozen(model, config.freeze, config.freeze_epoch > 0)
    if isinstance(objective, EpochObjective):
        objective.set_epoch(1)
    with autocast(config, experiment.device):
        loss, logits, _ = objective(model.train(), batch)
    loss.backward()
    if all(parameter.grad is None for parameter in model.parameters()):
        raise ValueError("expected a loss that depends on trained parameters of the network, got another")
    with torch.no_grad(), autocast(config, experiment.device):
        scores = objective.predict(model.eval(), batch)
    for name, found in (("logits", logits), ("predict", scores)):
        if found is not None and (
            found.ndim != 2 or len(found) != number or found.shape[1] <= int(batch["label"].max())
        ):
            raise ValueError(f"{name}: expected logits (N, num_class) of {number} clips, got {tuple(found.shape)}")
