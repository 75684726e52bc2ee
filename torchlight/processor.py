"""The Processor runs a phase: it owns epochs, files, resuming and logging; the engine does the work."""

import logging
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from torchlight import analysis, build, checkpoint, distributed, engine, scores
from torchlight.config import Config, ConfigError
from torchlight.optim import build_optimizer, learning_rate
from torchlight.record import BEST, LAST, RunDirectory, default_work_dir
from torchlight.sampler import TestBatches, TrainBatches
from torchlight.seed import rng_state, seed_everything, set_rng_state
from torchlight.size import model_size

log = logging.getLogger("torchlight")


class Processor:
    """One command line, from configuration to files."""

    def __init__(self, config: Config):
        self.config = config
        self.device = build.choose_device(config)
        distributed.start(self.device)
        self.rank, self.world_size = distributed.rank(), distributed.world_size()
        self.run_directory: RunDirectory | None = None

    def __enter__(self) -> "Processor":
        return self

    def __exit__(self, *_: object) -> None:
        if self.run_directory is not None:
            self.run_directory.close()
        distributed.stop()

    def run(self) -> None:
        """Do what `phase` says."""
        {"train": self.train, "test": self.test, "model_size": self.model_size}[self.config.phase]()

    def prepare(self, parts: tuple[str, ...]) -> None:
        """Build feeders, network and objective; every mistake shows here, before anything is written."""
        config = self.config
        classes = build.preflight(config, ("feeder", "model", "objective"))
        self.work_dir = self.find_work_dir()
        self.run_directory = RunDirectory(self.work_dir)
        if config.phase == "train" and not (config.resume or config.overwrite):
            self.run_directory.refuse_existing()
        self.feeders = {part: build.build_feeder(config, classes["feeder"], part) for part in parts}
        for feeder in self.feeders.values():
            build.check_fit(config, feeder)
        seed_everything(config.seed)  # the same initial weights on every rank
        self.model = build.build_model(config, classes["model"])
        try:
            self.objective = classes["objective"](**config.objective_args).to(self.device)
        except ValueError as error:
            raise ConfigError([f"objective_args.{error}"]) from error
        if config.weights:
            checkpoint.load_weights(self.model, config.weights, config.weights_key, config.ignore_weights)
        self.model.to(self.device)
        seed_everything(config.seed, self.rank)

    def find_work_dir(self) -> Path:
        """The run directory that the configuration or its place below config/ gives."""
        path = Path(self.config.work_dir) if self.config.work_dir else default_work_dir(self.config)
        if path is None:
            raise ConfigError([f"work_dir: missing; {self.config.config} does not lie below config/, so give --work-dir"])
        self.config.work_dir = str(path)
        return path

    def loader(self, part: str, batches: TrainBatches | TestBatches) -> DataLoader:
        """Whole batches from the feeder, in worker processes."""
        return DataLoader(
            self.feeders[part],
            batch_sampler=batches,
            num_workers=self.config.num_worker,
            collate_fn=lambda batch: batch,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=lambda worker: torch.set_num_threads(1),
        )

    # Training

    def train(self) -> None:
        """Train, evaluate every eval_interval epochs, keep last.pt and best.pt."""
        config = self.config
        self.prepare(("train", "test"))
        batches = TrainBatches(len(self.feeders["train"]), config.batch_size, config.seed, self.rank, self.world_size)
        self.optimizer = build_optimizer(config, self.model)
        self.best = {"top1": -1.0, "epoch": 0}
        first_epoch = self.resume() if config.resume else 0
        if config.overwrite:
            self.run_directory.clear()
        self.run_directory.open(
            config, {"data": self.feeders["train"].source.manifest.get("sha256"), "device": device_name(self.device)}, first_epoch
        )
        self.describe(batches)
        self.network = self.wrap(self.model)
        line: dict[str, Any] = {}
        for epoch in range(first_epoch, config.num_epoch):
            line = self.train_epoch(epoch, batches)
        self.conclude(line)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The network as the engine calls it: DDP where there are several processes."""
        if self.world_size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, device_ids=[self.device.index] if self.device.type == "cuda" else None)

    def train_epoch(self, epoch: int, batches: TrainBatches) -> dict[str, Any]:
        """One epoch: train, perhaps evaluate, record, save. Returns the record."""
        config, number, last = self.config, epoch + 1, epoch + 1 == self.config.num_epoch
        lr = learning_rate(config, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        batches.set(epoch)
        self.feeders["train"].set_epoch(epoch)
        meter, clock = engine.Meter(), engine.Clock()
        shown = self.progress(self.loader("train", batches), f"epoch {number}")
        engine.train_one_epoch(
            self.network,
            self.objective,
            shown,
            self.optimizer,
            self.device,
            meter,
            clock,
            after_step=self.watch(meter, config.log_interval),
        )
        means = meter.means()
        self.check_finite(means)
        line: dict[str, Any] = {"epoch": number, "lr": lr} | {f"train_{k}": v for k, v in means.items()}
        line |= {
            "train_seconds": clock.total,
            "data_share": clock.data / clock.total,
            "clips_per_second": len(batches) * config.batch_size / clock.total,
        }
        if number % config.eval_interval == 0 or last:
            line |= self.evaluate(number)
        self.run_directory.add_metrics(line)
        log.info(epoch_line(line, config.num_epoch))
        if number % config.save_interval == 0 or last:
            self.save(LAST, number)
        if self.best["epoch"] == number:
            self.save(BEST, number)
        return line

    def watch(self, meter: engine.Meter, interval: int):
        """A function to call after each optimizer step: every `interval` steps it looks whether the loss is still a number."""
        steps = 0

        def after_step() -> None:
            nonlocal steps
            steps += 1
            if steps % interval == 0:
                self.check_finite(meter.means())

        return after_step

    def check_finite(self, means: dict[str, float]) -> None:
        """Stop at a loss that is no number any more, before anything of it is saved."""
        if not torch.isfinite(torch.tensor(means["loss"])):
            raise ValueError(
                f"the loss is {means['loss']}: training has diverged; {self.work_dir / LAST} still holds the last good epoch; "
                "lower base_lr, add warm_up_epoch, or look for NaN in the data"
            )

    def evaluate(self, number: int) -> dict[str, float]:
        """Accuracy on the test part; remembers the best epoch, which is thereby chosen on the test set."""
        prediction = self.predict()
        line = {"test_loss": prediction.loss}
        line |= {f"test_top{k}": scores.top_k(prediction.logits, prediction.label, k) for k in (1, 5)}
        if line["test_top1"] > self.best["top1"]:
            self.best = {"top1": line["test_top1"], "epoch": number}
        return line | {"best_on_test_top1": self.best["top1"], "best_on_test_epoch": self.best["epoch"]}

    def predict(self) -> engine.Prediction:
        """Logits of the whole test part."""
        batches = TestBatches(len(self.feeders["test"]), self.config.test_batch_size, self.rank, self.world_size)
        return engine.evaluate(self.model, self.objective, self.progress(self.loader("test", batches), "test"), self.device)

    def progress(self, batches: DataLoader, title: str) -> tqdm:
        """A bar, on a terminal only."""
        return tqdm(batches, title, leave=False, disable=self.rank > 0 or not sys.stderr.isatty())

    def save(self, name: str, number: int) -> None:
        """Write a checkpoint after epoch `number`."""
        if self.rank == 0:
            content = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": number}
            checkpoint.save(self.work_dir / name, content | {"best": self.best, "rng": rng_state(), "config": self.config.to_yaml()})

    def resume(self) -> int:
        """Load last.pt; returns the number of finished epochs."""
        file = self.work_dir / LAST
        if not file.exists():
            log.warning("resume: no %s yet; starting from the beginning", file)
            return 0
        content = checkpoint.load(file)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.best = content["best"]
        set_rng_state(content["rng"])
        log.info("resumed from %s after epoch %d", file, content["epoch"])
        return content["epoch"]

    def describe(self, batches: TrainBatches) -> None:
        """The first lines of a run."""
        config = self.config
        parameters = sum(p.numel() for p in self.model.parameters())
        log.info("%s, %s parameters, %s stream, on %s", config.model, f"{parameters:,}", config.modality, device_name(self.device))
        log.info("%d training and %d test clips, %d steps per epoch", len(self.feeders["train"]), len(self.feeders["test"]), batches.steps)
        log.info(
            "batch size %d: %d per device on %d device(s); base_lr %g",
            config.batch_size,
            config.batch_size // self.world_size,
            self.world_size,
            config.base_lr,
        )
        log.info("run directory: %s", self.work_dir)

    def conclude(self, line: dict[str, Any]) -> None:
        """The last words: both accuracies, named as what they are."""
        if not line:
            log.info("nothing to do: all %d epochs are trained", self.config.num_epoch)
            return
        log.info("last epoch (%d): test top-1 %.2f %%, top-5 %.2f %%", line["epoch"], line["test_top1"], line["test_top5"])
        log.info(
            "best epoch (%d): test top-1 %.2f %% - chosen on the test set, so not a fair estimate", self.best["epoch"], self.best["top1"]
        )

    # Testing

    def test(self) -> None:
        """Accuracy and class tables of given weights on the test part; the scores on request."""
        if not self.config.weights:
            raise ConfigError(["weights: missing; --phase test needs the file to test, e.g. --weights work_dir/.../last.pt"])
        self.prepare(("test",))
        self.run_directory.open(self.config, {})
        prediction = self.predict()
        if self.rank > 0:
            return
        feeder = self.feeders["test"]
        top1, top5 = (scores.top_k(prediction.logits, prediction.label, k) for k in (1, 5))
        log.info(
            "%s: test top-1 %.2f %%, top-5 %.2f %% of %d clips, loss %.4f",
            self.config.weights,
            top1,
            top5,
            len(prediction.label),
            prediction.loss,
        )
        names = feeder.class_names or [str(i) for i in range(feeder.num_class)]
        analysis.write_class_tables(self.work_dir, analysis.confusion_matrix(prediction.logits, prediction.label), names)
        if self.config.save_score:
            file = self.work_dir / scores.SCORE_FILE
            scores.write_scores(file, feeder.name[prediction.index], prediction.logits)
            log.info("scores: %s", file)

    def model_size(self) -> None:
        """Parameters, multiply-adds and activation memory of one clip."""
        classes = build.preflight(self.config, ("feeder", "model"))
        model = build.build_model(self.config, classes["model"])
        feeder = build.build_feeder(self.config, classes["feeder"], "test")
        build.check_fit(self.config, feeder)
        for key, value in model_size(model, feeder.shape).items():
            log.info("%-42s %s", key, value)


def device_name(device: torch.device) -> str:
    """What a reader of the log wants to know about a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({torch.get_num_threads()} threads)"


def epoch_line(line: dict[str, Any], num_epoch: int) -> str:
    """One aligned line per epoch."""
    text = f"epoch {line['epoch']:>3}/{num_epoch}  lr {line['lr']:.5f}  loss {line['train_loss']:7.4f}  train {line['train_top1']:6.2f} %"
    if "test_top1" in line:
        text += f"  test {line['test_top1']:6.2f} %  top-5 {line['test_top5']:6.2f} %"
    return text + f"  {line['clips_per_second']:7.1f} clips/s  data {100 * line['data_share']:4.1f} %"
