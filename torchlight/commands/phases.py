"""The phases of main.py, as functions of a configuration."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchlight.commands.show import show
from torchlight.config.checks import idle_schedule
from torchlight.config.imports import import_object
from torchlight.config.options import RUN, Config, ConfigError
from torchlight.contract import Feeder, manifest_of, multi_label_targets
from torchlight.report import class_tables
from torchlight.runtime import distributed
from torchlight.system.command import RunError, is_out_of_memory
from torchlight.training import build, checkpoint, engine, scores
from torchlight.training.device import device_name, synchronize_norms
from torchlight.training.experiment import (
    Experiment,
    find_work_dir,
    open_experiment,
    predict,
    rehearse,
    test_figures,
)
from torchlight.training.loader import feeder_device, worker_count
from torchlight.training.metrics import average_precision, class_recall, in_words, lowest
from torchlight.training.model_size import model_size
from torchlight.training.resume import take_optimizer
from torchlight.training.run_dir import RunDirectory
from torchlight.training.sampler import TrainBatches
from torchlight.training.trainer import Trainer

log = logging.getLogger("torchlight")


def run(config: Config) -> None:
    """Run the phase of the configuration. Phases that need only one process run on rank 0.

    Raises:
        ValueError: a mistake in the options or in a file.
        RunError: the run cannot continue.
        Terminated: SIGTERM was received and everything is saved.
    """
    if config.phase not in RUN and distributed.rank() > 0:
        return
    try:
        PHASES[config.phase](config)
    except (RuntimeError, MemoryError) as error:
        reason = explain(error)
        if reason is None:
            raise
        raise RunError(f"{reason[0]}; {left_behind(config)}{reason[1]}") from error
    except KeyboardInterrupt as error:
        hint = f"; {left_behind(config)}--resume true continues the run" if config.phase == "train" else ""
        raise KeyboardInterrupt(f"interrupted{hint}") from error
    finally:
        distributed.stop()


def explain(error: RuntimeError | MemoryError) -> tuple[str, str] | None:
    """The cause and the remedy of memory errors, worker errors and errors of other processes; None for other errors."""
    text = str(error).split("\n")[0]
    if isinstance(error, RunError):  # explained already
        return None
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "the device is out of memory",
            "lower batch_size, raise update_freq, or keep the clips in main memory with --data-on-device false",
        )
    if is_out_of_memory(error):
        return "out of memory", "lower batch_size, raise update_freq, or use fewer workers (num_worker)"
    if "DataLoader worker" in text:
        return text, "lower num_worker if memory ran out, then --resume true"
    if "ancdata" in text or "Too many open files" in text:
        return "too many open files", "raise the limit (ulimit -n) or use fewer workers (num_worker)"
    if isinstance(error, torch.distributed.DistError) or "gloo" in text:
        return "another process of the group failed", "see the message of that process"
    return None


def left_behind(config: Config) -> str:
    """The last checkpoint of a training that failed, as a part of its message."""
    return f"{RunDirectory(Path(config.work_dir)).left()}; " if config.phase == "train" and config.work_dir else ""


def train(config: Config) -> None:
    """Train, evaluate every eval_interval epochs, keep last.pt and best.pt."""
    with open_experiment(config, ("train", "test")) as experiment:
        run_dir, length = experiment.run_dir, len(experiment.feeders["train"])
        rank, world_size = distributed.rank(), distributed.world_size()
        label = balanced_label(config, experiment.feeders["train"])
        batches = TrainBatches(length, config.batch_size, config.seed, rank, world_size, config.update_freq, label)
        rehearse(experiment)
        if config.sync_bn:
            synchronize_norms(experiment.model)
        trainer = Trainer(experiment, batches)
        resumed = trainer.resume() if config.resume else False
        if config.resume and not resumed:
            level = logging.INFO if config.resume == "auto" else logging.WARNING
            log.log(level, "resume: no checkpoint in %s; starting from the beginning", run_dir.path)
        if config.weights_optimizer and not resumed:
            take_optimizer(trainer.optimizer, config)
            experiment.notes.append(f"the optimizer continues with the state in {config.weights}")
        if config.overwrite:
            distributed.on_main(run_dir.clear)
        distributed.on_main(partial(run_dir.open, config, facts(experiment), trainer.epoch))
        if resumed and trainer.epoch < config.num_epoch:
            distributed.on_main(partial(run_dir.forget_tests, trainer.epoch))
        if experiment.start and not resumed:
            distributed.on_main(partial(write_start, experiment))
        describe(experiment, batches)
        figures = trainer.fit()
        if not figures:
            log.info("nothing to do: all %d epochs are trained", config.num_epoch)
            found, trainer.prediction = test_figures(experiment, experiment.model)
            figures = {f"test_{key}": value for key, value in found.items()}
        distributed.on_main(partial(write_class_tables, experiment, trainer.prediction))
        word = config.tested
        log.info("last epoch (%d): %s %s", trainer.epoch, word, in_words(figures, "test_"))
        log.info("%s", lowest_classes(experiment, trainer.prediction))
        if best := trainer.best.get("test"):
            log.info(
                "best epoch (%d): %s %s, selected on the %s clips and so not a fair estimate",
                *(best["epoch"], word, in_words(best), word),
            )


def write_start(experiment: Experiment) -> None:
    """Write the origin of each tensor (kept, mapped or new) into the run directory, for fine-tuning."""
    with experiment.run_dir.writing():
        experiment.start.write(experiment.run_dir.path)


def facts(experiment: Experiment) -> dict[str, Any]:
    """The content of environment.json besides versions: hashes of the data, and the device."""
    data = manifest_of(experiment.feeders["train"]).get("sha256")
    return {"data": data, "device": device_name(experiment.device), "initial_weights": experiment.initial_weights}


def describe(experiment: Experiment, batches: TrainBatches) -> None:
    """Log the first lines of a training."""
    config, processes, train = experiment.config, distributed.world_size(), experiment.feeders["train"]
    parameters = sum(p.numel() for p in experiment.model.parameters())
    log.info(
        "%s, %s parameters, %s stream, on %s",
        *(config.model, f"{parameters:,}", config.modality, device_name(experiment.device)),
    )
    log.info(
        "%d training and %d %s clips, %d steps per epoch",
        *(batches.length, len(experiment.feeders["test"]), config.tested, batches.steps),
    )
    if experiment.initial_weights:
        log.info("initial weights: %(file)s (SHA-256 %(sha256).12s...)", experiment.initial_weights)
    if config.hold_out:
        log.info(
            "the test clips are the training clips of %s, held out; the test part is not read",
            ", ".join(config.hold_out),
        )
    share = config.batch_size // (processes * config.update_freq)
    log.info(
        "batch size %d = %d per process x %d process(es) x %d accumulation step(s); base_lr %g is for the global "
        "batch size",
        *(config.batch_size, share, processes, config.update_freq, config.base_lr),
    )
    for note in idle_schedule(config):
        log.warning(note)
    workers = worker_count(config, train, experiment.device)
    log.info(
        "batches are made %s", f"by {workers} worker(s)" if workers else f"in this process, on {feeder_device(train)}"
    )
    for line in experiment.notes:
        log.info(line)
    log.info("run directory: %s", experiment.run_dir.path)


def test(config: Config) -> None:
    """Accuracy and class tables of given weights on the test part; scores and features on request."""
    if not config.weights:
        raise ConfigError(
            ["weights: missing; --phase test needs the file to test, e.g. --weights work_dir/.../last.pt"]
        )
    with open_experiment(config, ("test",)) as experiment:
        distributed.on_main(partial(experiment.run_dir.open, config, {}))
        for line in experiment.notes:
            log.info(line)
        figures, prediction = test_figures(experiment, experiment.model)
        distributed.on_main(partial(write_class_tables, experiment, prediction))
        log.info(
            "%s: %s %s of %d clips, %scross entropy %.4f",
            *(config.weights, config.tested, in_words(figures), len(prediction.label)),
            *("" if prediction.target is None else "binary ", prediction.loss),
        )
        log.info("%s", lowest_classes(experiment, prediction))
        if config.save_score:
            name = scores.EMA_SCORE_FILE if config.ema else scores.SCORE_FILE
            distributed.on_main(partial(write_rows, experiment, name, prediction))
        if config.save_feature:
            features = predict(experiment, experiment.model, features=True)
            distributed.on_main(partial(write_rows, experiment, scores.FEATURE_FILE, features))


def balanced_label(config: Config, feeder: Feeder) -> np.ndarray | None:
    """The labels that `sampler: balanced` needs, None for another sampler; raises ConfigError for clips with several
    labels."""
    if config.sampler != "balanced":
        return None
    if multi_label_targets(feeder) is not None:
        raise ConfigError(
            ["sampler: expected shuffled for clips with several labels, got balanced; use objective_args.pos_weight"]
        )
    return feeder.label


def names_of_classes(experiment: Experiment, prediction: engine.Prediction) -> list[str]:
    """Names of the columns of the scores."""
    return [str(name) for name in experiment.class_names or range(prediction.scores.shape[1])]


def lowest_classes(experiment: Experiment, prediction: engine.Prediction) -> str:
    """The classes with the lowest recall, in words."""
    names = names_of_classes(experiment, prediction)
    if prediction.target is not None:
        return f"lowest average precision: {lowest(average_precision(prediction.scores, prediction.target), names)}"
    return f"lowest recall: {lowest(class_recall(prediction.scores, prediction.label), names)}"


def write_class_tables(experiment: Experiment, prediction: engine.Prediction) -> None:
    """Write the recall of each class and the confusion matrix into the run directory; for clips with several labels the
    average precision of each class."""
    names, folder = names_of_classes(experiment, prediction), experiment.run_dir.path
    with experiment.run_dir.writing():
        if prediction.target is not None:
            precision = average_precision(prediction.scores, prediction.target)
            class_tables.write_average_precision(folder, precision, prediction.target, names)
        else:
            matrix = class_tables.confusion_matrix(prediction.scores, prediction.label)
            class_tables.write_class_tables(folder, matrix, names)


def write_rows(experiment: Experiment, name: str, prediction: engine.Prediction) -> None:
    """Write {sample name: row} into the run directory; rows are logits, or probabilities if a test averages several
    samples of a clip."""
    file = experiment.run_dir.path / name
    with experiment.run_dir.writing():
        scores.write_scores(file, experiment.feeders["test"].name[prediction.index], prediction.scores)
    log.info("wrote %s", file)


def report(config: Config) -> None:
    """Write one HTML page about the run in work_dir, or about the runs in its subfolders."""
    from torchlight.report.page import write_report  # matplotlib is slow to import

    with RunDirectory(find_work_dir(config)) as run_dir:
        if run_dir.path.is_dir():  # `lock` would create it
            run_dir.lock()
        log.info("wrote %s", write_report([run_dir.path], None))


def size(config: Config) -> None:
    """Print parameters, multiply-adds and activation memory of one clip. Data is not needed."""
    classes = build.preflight(config, ("feeder", "model"))
    model = build.build_model(config, classes["model"])
    try:
        feeder = build.build_feeder(config, classes["feeder"], "test")
    except ConfigError:
        shape = build.stated_shape(config, classes["feeder"])
        if shape is None:
            raise
        log.info("the data is not available; the size is for clips of %d frames", shape[1])
    else:
        build.check_fit(config, feeder)
        shape = feeder.shape
    for key, value in model_size(model, shape).items():
        print(f"{key:<42} {value}")


def export_weights(config: Config) -> None:
    """Write the state dict of a checkpoint under the published names, for the original programs or for PYSKL."""
    if not config.weights:
        raise ConfigError(["weights: missing; --phase export-weights needs the checkpoint to export"])
    classes = build.preflight(config, ("model",))
    model = build.build_model(config, classes["model"])
    key = "model_ema" if config.ema else config.weights_key
    checkpoint.load_weights(model, config.weights, key, config.ignore_weights, config.model_args)
    state, ema = model.state_dict(), "ema_" if config.ema else ""
    file = Path(config.weights).with_suffix(f".{ema}weights.pt")
    content = state
    if config.export_names == "pyskl":
        state = import_object("model.published.to_published")(state, config.model, config.model_args)
        file, content = Path(config.weights).with_suffix(f".{ema}pyskl.pth"), {"state_dict": state, "meta": {}}
    checkpoint.save(file, content)
    log.info("wrote %s: %d entries", file, len(state))


def predict_sources(config: Config) -> None:
    """Label recordings; see `torchlight.commands.predict`."""
    from torchlight.commands.predict import predict as run_predict  # its readers are slow to import

    run_predict(config)


def robustness(config: Config) -> None:
    """Test on degraded clips; see `torchlight.commands.robustness`."""
    from torchlight.commands.robustness import measure  # the tools of prediction are slow to import

    measure(config)


def export(config: Config) -> None:
    """Write a network for other programs; see `torchlight.commands.export`."""
    from torchlight.commands.export import export as run_export  # the readers of poses are slow to import

    run_export(config)


PHASES: dict[str, Callable[[Config], None]] = {
    "train": train,
    "test": test,
    "predict": predict_sources,
    "report": report,
    "robustness": robustness,
    "model_size": size,
    "export-weights": export_weights,
    "export": export,
    "show": show,
}
