"""The Trainer: the state of a training run, its epochs and its checkpoints."""

import logging
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchlight import checkpoint, distributed, engine, optim
from torchlight.config import Config
from torchlight.record import BEST, LAST, RunDirectory
from torchlight.sampler import TrainBatches
from torchlight.seed import rng_state, set_rng_state

log = logging.getLogger("torchlight")


class RunError(RuntimeError):
    """Training cannot go on; the text says what happened, what is left and what to do."""


class Terminated(Exception):
    """The cluster asked us to leave, and everything is saved."""


class Trainer:
    """Trains `model` on the batches that `loader` makes; `evaluate(model)` gives the test figures of an epoch.

    Where it stands is (epoch, step): finished epochs, and optimizer steps done in the next one.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        model: nn.Module,
        objective: nn.Module,
        batches: TrainBatches,
        loader: Callable[[int], Any],
        evaluate: Callable[[nn.Module], dict[str, float]],
        records: RunDirectory,
    ):
        self.config, self.device, self.model, self.objective = config, device, model, objective
        self.batches, self.loader, self.evaluate, self.records = batches, loader, evaluate, records
        self.optimizer = optim.build_optimizer(config, model)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.average = optim.MovingAverage(model, config.ema_decay) if config.ema_decay else None
        self.network = model
        self.meter, self.clock = engine.Meter(), engine.Clock()
        self.epoch = self.step = 0
        self.best: dict[str, dict[str, float]] = {}
        self.leaving = False

    # Epochs

    def fit(self) -> dict[str, Any]:
        """Train to the last epoch; returns the record of the last one (empty if there was nothing left to do)."""
        config, line = self.config, {}
        previous = signal.signal(signal.SIGTERM, self.on_sigterm)
        try:
            while self.epoch < config.num_epoch:
                line = self.train_epoch()
        finally:
            signal.signal(signal.SIGTERM, previous)
        return line

    def train_epoch(self) -> dict[str, Any]:
        """Train what is left of the current epoch, perhaps evaluate, record and save. Returns the record."""
        config, number = self.config, self.epoch + 1
        self.freeze_or_release()
        self.batches.set(self.epoch, self.step)
        done, self.clock = self.step, engine.Clock()
        self.set_schedule()
        if hasattr(self.objective, "set_epoch"):
            self.objective.set_epoch(number)
        engine.train_one_epoch(
            self.network,
            self.objective,
            self.loader(self.epoch),
            self.optimizer,
            self.device,
            self.meter,
            self.clock,
            config.update_freq,
            config.clip_grad,
            partial(autocast, config, self.device),
            self.scaler,
            self.after_step,
        )
        means, seconds = self.check_finite(), self.clock.total
        line: dict[str, Any] = {"epoch": number, "lr": self.lr} | {f"train_{key}": value for key, value in means.items()}
        line |= {"train_seconds": seconds, "data_share": self.clock.data / seconds}
        line["clips_per_second"] = (self.batches.steps - done) * config.batch_size / seconds
        last = number == config.num_epoch
        if number % config.eval_interval == 0 or last:
            line |= self.evaluate_all(number)
        self.epoch, self.step, self.meter = number, 0, engine.Meter()
        self.records.add_metrics(line)
        log.info(epoch_line(line, config.num_epoch))
        self.save_best(number)
        if number % config.save_interval == 0 or last or self.leaving:
            self.save(LAST)
        self.leave_if_asked()
        return line

    def after_step(self) -> None:
        """After each optimizer step: the moving average, and from time to time a look at the loss, a checkpoint, a signal."""
        self.step += 1
        if self.average is not None:
            self.average.update(self.model)
        config, whole = self.config, self.step == self.batches.steps
        if config.save_every_steps and self.step % config.save_every_steps == 0 and not whole:
            self.check_finite()
            self.save(LAST)
        if self.step % config.log_interval == 0 or self.device.type == "cpu":
            self.check_finite()
        if not whole and (self.records.world_size == 1 or self.step % config.log_interval == 0):
            self.leave_if_asked(save=True)
        if not whole:
            self.set_schedule()

    def set_schedule(self) -> None:
        """The learning rate and weight decay of the coming step."""
        step = self.epoch * self.batches.steps + self.step
        self.lr = optim.set_schedule(self.optimizer, self.config, step, self.batches.steps)

    def freeze_or_release(self) -> None:
        """Freeze what the recipe freezes in its first epochs, and wrap the network as it is now."""
        if self.config.freeze:
            frozen = self.epoch < self.config.freeze_epoch
            names = optim.set_frozen(self.model, self.config.freeze, frozen)
            if not names:
                raise ValueError(f"freeze: found {self.config.freeze}; no parameter's name contains that")
            if self.epoch in (0, self.config.freeze_epoch):
                log.info("%s %d parameters: %s ...", "frozen:" if frozen else "released:", len(names), ", ".join(names[:3]))
        if self.network is self.model or self.epoch == self.config.freeze_epoch:
            self.network = wrap(self.model, self.config, self.device)

    def check_finite(self) -> dict[str, float]:
        """The running means; stops at a loss that is no number any more, before anything of it is saved."""
        means = self.meter.means()
        if not torch.isfinite(torch.tensor(means["loss"])):
            raise RunError(
                f"the loss became {means['loss']} in epoch {self.epoch + 1}, at or before step {self.step}; {self.left()}; "
                "lower base_lr, lengthen warm_up_epoch, set clip_grad, or look for NaN in the data (prepare.py --check)"
            )
        return means

    def evaluate_all(self, number: int) -> dict[str, float]:
        """Test figures of the weights and of their moving average; remembers the best epoch of each, chosen on the test set."""
        line: dict[str, float] = {}
        for prefix, model in (("test", self.model), ("test_ema", self.average and self.average.model)):
            if model is None:
                continue
            line |= {f"{prefix}_{key}": value for key, value in self.evaluate(model).items()}
            if line[f"{prefix}_top1"] > self.best.get(prefix, {"top1": -1})["top1"]:
                self.best[prefix] = {"top1": line[f"{prefix}_top1"], "epoch": number}
            line |= {f"best_on_{prefix}_{key}": value for key, value in self.best[prefix].items()}
        return line

    # Checkpoints

    def save_best(self, number: int) -> None:
        """Keep this epoch's weights if they are the best on the test set so far: before last.pt, so that no crash falls in between."""
        for prefix, name in (("test", BEST), ("test_ema", "best_ema.pt")):
            if self.best.get(prefix, {}).get("epoch") == number:
                self.save(name)

    def save(self, name: str) -> None:
        """Write everything that the run needs to go on, whole or not at all."""
        rng = distributed.gather(rng_state())
        sums = distributed.gather(self.meter.sums)
        if distributed.rank() > 0:
            return
        content: dict[str, Any] = {"model": self.model.state_dict()}
        if self.average is not None:
            content["model_ema"] = self.average.model.state_dict()
        content |= {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        content |= {"epoch": self.epoch, "step": self.step, "sums": sums, "best": self.best, "rng": rng, "config": self.config.to_yaml()}
        path = self.records.path / name
        try:
            checkpoint.save(path, content)
            if name == LAST and self.step == 0:
                checkpoint.keep_latest(path, self.epoch, self.config.keep)
        except OSError as error:
            raise RunError(
                f"{path} could not be written ({error.strerror}); {self.left()}; "
                "free some room, then give the same command with --resume true"
            ) from error

    def resume(self) -> bool:
        """Continue from last.pt, or from the newest whole checkpoint beside it. False: nothing there yet.

        Raises:
            ValueError: checkpoints are there but none is whole, or they belong to another experiment.
        """
        candidates = checkpoint.resume_candidates(self.records.path / LAST)
        content = None
        for path in candidates:
            try:
                content = checkpoint.load(path)
                break
            except ValueError as error:
                log.warning("resume: %s", error)
        if content is None and candidates:
            best = self.records.path / BEST
            raise ValueError(f"resume: no whole checkpoint in {best.parent}; start anew with --overwrite true, or from --weights {best}")
        if content is None:
            return False
        checkpoint.check_same_experiment(content, self.config, path)
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.model.load_state_dict(content["model_ema"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.epoch, self.step, self.best = content["epoch"], content["step"], content["best"]
        if len(content["rng"]) == distributed.world_size():
            set_rng_state(content["rng"][distributed.rank()])
            self.meter.sums = {k: v.to(self.device) for k, v in content["sums"][distributed.rank()].items()}
        else:
            log.warning("resume: %d processes before, %d now: dropout draws other numbers", len(content["rng"]), distributed.world_size())
        log.info("resumed from %s after epoch %d%s", path, self.epoch, f", step {self.step}" if self.step else "")
        return True

    # Leaving

    def on_sigterm(self, *_: object) -> None:
        """The cluster wants the machine back."""
        self.leaving = True

    def leave_if_asked(self, save: bool = False) -> None:
        """Save and leave after a SIGTERM to any of the processes."""
        if any(distributed.gather(self.leaving)):
            if save:
                self.check_finite()
                self.save(LAST)
            raise Terminated(f"SIGTERM: {self.left()}; the same command with --resume true goes on from there")

    def left(self) -> str:
        """Which checkpoint a reader of an error message has."""
        path: Path = self.records.path / LAST
        return f"the last checkpoint is {path}" if path.exists() else "there is no checkpoint yet"


def autocast(config: Config, device: torch.device) -> AbstractContextManager:
    """The arithmetic of the forward pass."""
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, config.precision))


def wrap(model: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """The network as the engine calls it: SyncBN, DDP and torch.compile as asked; its weights stay those of `model`."""
    if distributed.world_size() > 1:
        model = nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    return torch.compile(model) if config.compile else model


def epoch_line(line: dict[str, Any], num_epoch: int) -> str:
    """One aligned line per epoch."""
    text = f"epoch {line['epoch']:>3}/{num_epoch}  lr {line['lr']:.5f}  loss {line['train_loss']:7.4f}  train {line['train_top1']:6.2f} %"
    if "test_top1" in line:
        text += f"  test {line['test_top1']:6.2f} %  top-5 {line['test_top5']:6.2f} %"
    if "test_ema_top1" in line:
        text += f"  ema {line['test_ema_top1']:6.2f} %"
    return text + f"  {line['clips_per_second']:7.1f} clips/s  data {100 * line['data_share']:4.1f} %"
