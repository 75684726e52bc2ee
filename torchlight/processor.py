"""The Processor runs a phase: it builds what the phase needs, lets the Trainer or the engine work, and writes what comes out."""

import logging
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from torchlight import distillation
from torchlight.config.imports import import_object
from torchlight.config.options import FIELDS, Config, ConfigError
from torchlight.fusion import scores
from torchlight.report import class_tables as analysis
from torchlight.runtime import distributed
from torchlight.runtime.seed import seed_everything
from torchlight.system.command import RunError
from torchlight.training import build, checkpoint, engine
from torchlight.training.model_size import model_size
from torchlight.training.run_dir import RunDirectory, default_work_dir
from torchlight.training.sampler import TestBatches, TrainBatches
from torchlight.training.trainer import HINT, Trainer, autocast, synchronise_norms

log = logging.getLogger("torchlight")


class Processor:
    """One command line, from configuration to files."""

    def __init__(self, config: Config):
        self.config = config
        self.records: RunDirectory | None = None

    def __enter__(self) -> "Processor":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            log.debug("stopped by %s: %s", kind.__name__, error, exc_info=error)
        if self.records is not None:
            self.records.close()
        distributed.stop()

    def run(self) -> None:
        """Do what `phase` says."""
        phases = {"train": self.train, "test": self.test, "model_size": self.model_size, "show": self.show}
        phases |= {"report": self.report, "export-weights": self.export_weights}
        try:
            phases[self.config.phase]()
        except RuntimeError as error:
            reason = explain(error)
            if reason is None:
                raise
            raise RunError(f"{reason[0]}; {self.left()}{reason[1]}") from error

    def left(self) -> str:
        """What a broken run has left, as a part of its message."""
        return f"{self.records.left()}; " if self.records and self.config.phase == "train" else ""

    # What the phases share

    def prepare(self, parts: tuple[str, ...]) -> None:
        """Build feeders, network and objective; every mistake shows here, before anything is written."""
        config = self.config
        classes = build.preflight(config, ("feeder", "model", "objective"))
        if config.phase == "train":
            distillation.check_files(config)
        self.records = RunDirectory(self.find_work_dir())
        if config.phase == "train" and not (config.resume or config.overwrite):
            self.records.refuse_existing()
        self.device = build.choose_device(config)
        distributed.start(self.device)
        self.feeders = {part: build.open_feeder(config, classes["feeder"], part, self.device) for part in parts}
        seed_everything(config.seed)  # the same initial weights on every rank
        self.model = build.build_model(config, classes["model"])
        self.objective = build.build_objective(config, classes["objective"]).to(self.device)
        if config.weights:
            key = "model_ema" if config.ema and not config.weights_key else config.weights_key
            checkpoint.load_weights(self.model, config.weights, key, config.ignore_weights)
        self.model.to(self.device)
        if config.teacher and config.phase == "train":
            self.objective.teacher = self.load_teacher(classes["feeder"])
        seed_everything(config.seed, distributed.rank())

    def load_teacher(self, feeder: Callable) -> distillation.Teacher:
        """The frozen networks of `teacher`, each proved on the test part of its modality."""
        config, models, inputs = self.config, [], []
        self.teacher_lines = []
        for number, teacher in enumerate(distillation.teacher_configs(config), start=1):
            part = "test" if teacher.modality == config.modality else f"test_{teacher.modality}"
            try:
                if part not in self.feeders:
                    self.feeders[part] = build.open_feeder(teacher, feeder, "test", self.device)
                build.check_fit(teacher, self.feeders[part])
                model = build.build_model(teacher, import_object(teacher.model))
                checkpoint.load_weights(model, teacher.weights, teacher.weights_key)
            except ValueError as error:
                raise ConfigError([f"teacher {number}: {line}" for line in str(error).splitlines()]) from error
            model = engine.for_inference(model.to(self.device))
            prediction = self.predict(model, part)
            top1 = scores.top_k(prediction.scores, prediction.label, 1)
            self.teacher_lines.append(distillation.check_trained(number, teacher, top1, self.feeders[part].num_class))
            models.append(model)
            inputs.append(distillation.batch_key(teacher, config))
        if config.teacher_cache:
            distillation.check_repeats(self.feeders["train"])
        return distillation.Teacher(models, inputs, len(self.feeders["train"].label) if config.teacher_cache else 0)

    def find_work_dir(self) -> Path:
        """The run directory that the configuration or its place below config/ gives."""
        path = Path(self.config.work_dir) if self.config.work_dir else default_work_dir(self.config)
        if path is None:
            raise ConfigError(
                [f"work_dir: missing; {self.config.config} does not lie below config/, so give --work-dir"]
            )
        self.config.work_dir = str(path)
        return path

    def loader(self, part: str, batches: TrainBatches | TestBatches, title: str) -> tqdm:
        """Whole batches from the feeder, perhaps in worker processes, with a bar where somebody watches."""
        feeder = self.feeders[part]
        workers = build.worker_count(self.config, feeder, self.device)
        loader = DataLoader(
            feeder,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=whole_batch,
            pin_memory=build.feeder_device(feeder) != self.device,
            worker_init_fn=start_worker,
            multiprocessing_context="fork"
            if workers and sys.platform == "linux"
            else None,  # shares the pages of the data
            generator=torch.Generator(),  # or each pass would take a number from the one that dropout and mixup draw from
        )
        return tqdm(loader, title, leave=False, disable=distributed.rank() > 0 or not sys.stderr.isatty())

    def predict(self, model: nn.Module, part: str = "test", features: bool = False) -> engine.Prediction:
        """Scores (or features) of the whole test part, by the network as it is for inference; each clip is seen by exactly one process.

        Raises:
            RunError: some are not finite.
        """
        rank, world_size = distributed.rank(), distributed.world_size()
        batches = TestBatches(len(self.feeders[part]), self.config.test_batch_size, rank, world_size)
        loader = self.loader(part, batches, part)
        network = engine.for_inference(model)
        network = PooledFeatures(network) if features else network
        prediction = engine.evaluate(
            network, self.objective, loader, self.device, partial(autocast, self.config, self.device), features
        )
        broken = int((~np.isfinite(prediction.scores)).any(1).sum())
        if broken:
            raise RunError(
                f"found scores that are no finite numbers for {broken} of {len(prediction.label)} clips; {self.left()}{HINT}"
            )
        return prediction

    def write_class_tables(self) -> None:
        """Per-class accuracy and confusion matrix of the last evaluation of the network itself."""
        feeder = self.feeders["test"]
        names = feeder.class_names or [str(i) for i in range(self.prediction.scores.shape[1])]
        with self.records.writing():
            analysis.write_class_tables(
                self.records.path, analysis.confusion_matrix(self.prediction.scores, self.prediction.label), names
            )

    # Phases

    def train(self) -> None:
        """Train, evaluate every eval_interval epochs, keep last.pt and best.pt."""
        config = self.config
        self.prepare(("train", "test"))
        if config.sync_bn:
            synchronise_norms(self.model)
        length = len(self.feeders["train"])
        batches = TrainBatches(
            length, config.batch_size, config.seed, distributed.rank(), distributed.world_size(), config.update_freq
        )
        trainer = Trainer(
            config,
            self.device,
            self.model,
            self.objective,
            batches,
            partial(self.train_loader, batches),
            self.evaluate,
            self.records,
        )
        resumed = trainer.resume() if config.resume else False
        if config.resume and not resumed:
            log.warning("resume: no run in %s yet; starting from the beginning", self.records.path)
        if config.overwrite:
            distributed.on_main(self.records.clear)
        distributed.on_main(partial(self.records.open, config, self.facts(), trainer.epoch))
        self.describe(batches)
        trained = trainer.fit()
        if not trained:
            log.info("nothing to do: all %d epochs are trained", config.num_epoch)
        figures = trained or {f"test_{key}": value for key, value in self.evaluate(self.model).items()}
        distributed.on_main(self.write_class_tables)
        best = trainer.best["test"]
        log.info(
            "last epoch (%d): test top-1 %.2f %%, top-5 %.2f %%",
            trainer.epoch,
            figures["test_top1"],
            figures["test_top5"],
        )
        log.info(
            "best epoch (%d): test top-1 %.2f %%, chosen on the test clips and so not a fair estimate",
            best["epoch"],
            best["top1"],
        )

    def train_loader(self, batches: TrainBatches, epoch: int) -> tqdm:
        """The batches of an epoch."""
        self.feeders["train"].set_epoch(epoch)
        return self.loader("train", batches, f"epoch {epoch + 1}")

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Loss and accuracy on the test part."""
        prediction = self.predict(model)
        if model is self.model:  # and not its moving average
            self.prediction = prediction
        return {"loss": prediction.loss} | {
            f"top{k}": scores.top_k(prediction.scores, prediction.label, k) for k in (1, 5)
        }

    def facts(self) -> dict[str, Any]:
        """What environment.json keeps beside versions: the data by its hashes, and the device."""
        return {"data": self.feeders["train"].source.manifest.get("sha256"), "device": device_name(self.device)}

    def describe(self, batches: TrainBatches) -> None:
        """The first lines of a run."""
        config, devices = self.config, distributed.world_size()
        parameters = sum(p.numel() for p in self.model.parameters())
        log.info(
            "%s, %s parameters, %s stream, on %s",
            config.model,
            f"{parameters:,}",
            config.modality,
            device_name(self.device),
        )
        log.info(
            "%d training and %d test clips, %d steps per epoch",
            batches.length,
            len(self.feeders["test"]),
            batches.steps,
        )
        if config.hold_out:
            log.info(
                "the test clips are the training clips of %s, held out; the test part itself is not read",
                ", ".join(config.hold_out),
            )
        share = config.batch_size // (devices * config.update_freq)
        log.info(
            "batch size %d = %d per device x %d device(s) x %d accumulation step(s); base_lr %g belongs to the whole",
            *(config.batch_size, share, devices, config.update_freq, config.base_lr),
        )
        feeder = self.feeders["train"]
        workers = build.worker_count(config, feeder, self.device)
        log.info(
            "batches are made %s",
            f"by {workers} worker(s)" if workers else f"in this process, on {build.feeder_device(feeder)}",
        )
        for line in self.teacher_lines if config.teacher else ():
            log.info(line)
        log.info("run directory: %s", self.records.path)

    def test(self) -> None:
        """Accuracy and class tables of given weights on the test part; scores and features on request."""
        if not self.config.weights:
            raise ConfigError(
                ["weights: missing; --phase test needs the file to test, e.g. --weights work_dir/.../last.pt"]
            )
        self.prepare(("test",))
        distributed.on_main(partial(self.records.open, self.config, {}))
        figures = self.evaluate(self.model)
        distributed.on_main(self.write_class_tables)
        log.info(
            "%s: test top-1 %.2f %%, top-5 %.2f %% of %d clips, loss %.4f",
            *(self.config.weights, figures["top1"], figures["top5"], len(self.prediction.label), figures["loss"]),
        )
        if self.config.save_score:
            name = scores.EMA_SCORE_FILE if self.config.ema else scores.SCORE_FILE
            distributed.on_main(partial(self.write_rows, name, self.prediction))
        if self.config.save_feature:
            features = self.predict(self.model, features=True)
            distributed.on_main(partial(self.write_rows, scores.FEATURE_FILE, features))

    def write_rows(self, name: str, prediction: engine.Prediction) -> None:
        """Write {sample name: row} into the run directory; rows are logits, or probabilities where a test takes several clips."""
        with self.records.writing():
            scores.write_scores(
                self.records.path / name, self.feeders["test"].name[prediction.index], prediction.scores
            )
        log.info("wrote %s", self.records.path / name)

    def report(self) -> None:
        """One HTML page about the run in work_dir."""
        from torchlight.report.page import write_report  # matplotlib is slow to import

        log.info("wrote %s", write_report([self.find_work_dir()], None))

    def model_size(self) -> None:
        """Parameters, multiply-adds and activation memory of one clip."""
        classes = build.preflight(self.config, ("feeder", "model"))
        model = build.build_model(self.config, classes["model"])
        feeder = build.build_feeder(self.config, classes["feeder"], "test")
        build.check_fit(self.config, feeder)
        for key, value in model_size(model, feeder.shape).items():
            log.info("%-42s %s", key, value)

    def export_weights(self) -> None:
        """The flat state dict of a checkpoint under the published names, for the original programs."""
        if not self.config.weights:
            raise ConfigError(["weights: missing; --phase export-weights needs the checkpoint to export"])
        classes = build.preflight(self.config, ("model",))
        model = build.build_model(self.config, classes["model"])
        key = "model_ema" if self.config.ema else self.config.weights_key
        checkpoint.load_weights(model, self.config.weights, key, self.config.ignore_weights)
        file = Path(self.config.weights).with_suffix(".ema_weights.pt" if self.config.ema else ".weights.pt")
        checkpoint.save(file, model.state_dict())
        log.info("wrote %s: %d entries", file, len(model.state_dict()))

    def show(self) -> None:
        """The resolved configuration, each value with its origin."""
        for name in FIELDS:
            value = yaml.safe_dump({name: getattr(self.config, name)}, default_flow_style=True, width=1000).strip()[
                1:-1
            ]
            log.info("%-90s # %s", value, self.config.origins.get(name, "default"))


def explain(error: RuntimeError) -> tuple[str, str] | None:
    """What happened and what to do, for errors that are no fault of a program; None for all others."""
    text = str(error).split("\n")[0]
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "the device is out of memory",
            "lower batch_size, raise update_freq, or keep the clips elsewhere with --data-on-device false",
        )
    if "DataLoader worker" in text:
        return text, "lower num_worker if memory ran out, then --resume true"
    if isinstance(error, torch.distributed.DistError) or "gloo" in text:
        return "another process of the group broke off", "its own message tells why"
    return None


class PooledFeatures(nn.Module):
    """(N, C, T, V, M) -> (N, C_out): the last block's features, averaged over frames, joints and persons."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.model.features(data).mean((2, 3, 4))


def whole_batch(batch: Any) -> Any:
    """Feeders make whole batches; there is nothing left to collate."""
    return batch


def start_worker(_: int) -> None:
    """One thread per worker, as the cores belong to the network; signals to the whole group are left to the process that trains."""
    torch.set_num_threads(1)
    for asked_to_leave in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked_to_leave, signal.SIG_IGN)


def device_name(device: torch.device) -> str:
    """What a reader of the log wants to know about a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
