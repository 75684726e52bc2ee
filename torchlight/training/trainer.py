"""The Trainer: the state of a training run, its epochs and its checkpoints."""

import logging
import math
import signal
from functools import partial
from typing import Any

import torch

from torchlight.contract import EpochObjective
from torchlight.runtime import distributed
from torchlight.runtime.seed import rng_state, set_rng_state
from torchlight.system.command import RunError, Terminated
from torchlight.system.text import quote
from torchlight.training import checkpoint, engine, finetune, optim, resume
from torchlight.training.clip_facts import clip_facts
from torchlight.training.cuda_graph import step_graphs
from torchlight.training.device import autocast, wrap
from torchlight.training.experiment import DIVERGED, Experiment, test_figures
from torchlight.training.loader import make_loader
from torchlight.training.run_dir import BEST, BEST_EMA, LAST
from torchlight.training.sampler import TrainBatches

log = logging.getLogger("torchlight")
LISTEN_INTERVAL = 10  # optimizer steps after which several processes agree on whether one of them received SIGTERM


class Trainer:
    """The state of a training run: `epoch` counts finished epochs, `step` the optimizer steps of the next one.

    Raises:
        ValueError: `freeze` names no parameter.
    """

    def __init__(self, experiment: Experiment, batches: TrainBatches):
        self.experiment = experiment
        self.batches = batches
        self.config = config = experiment.config
        self.device = device = experiment.device
        self.run_dir = experiment.run_dir
        self.model = experiment.model
        self.objective = experiment.objective
        unknown = [word for word in config.freeze if not any(word in name for name, _ in self.model.named_parameters())]
        if unknown:
            raise ValueError(f"freeze: expected parts of parameter names, got {', '.join(map(quote, unknown))}")
        start = experiment.start
        backbone = start.backbone if start else set()
        self.optimizer = optim.build_optimizer(config, self.model, device.type == "cuda", backbone)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.average = optim.MovingAverage(self.model, config.ema_decay) if config.ema_decay else None
        self.stepper = engine.Stepper(
            self.optimizer,
            device,
            config.update_freq,
            config.clip_grad,
            partial(autocast, config, device),
            self.scaler,
            self.after_step,
            step_graphs(config, device, self.model, self.objective),
            finetune.frozen_norms(self.model, start, config),
        )
        self.network = self.model  # wrapped for training
        self.meter = engine.Meter()
        self.clock = engine.Clock(device)
        self.epoch = 0
        self.step = 0
        self.lr = 0.0
        self.recorded = [0.0, 0.0]  # sum and samples of the loss at the last record of a step
        self.best: dict[str, dict[str, float]] = {}
        self.prediction: engine.Prediction | None = None  # scores of the weights in the last evaluation
        self.leaving = False
        self.clip_facts = clip_facts(experiment.feeders["train"], experiment.feeders["test"])

    # Epochs

    def fit(self) -> dict[str, Any]:
        """Train up to the last epoch; returns the record of the last epoch (empty if all epochs were already
        trained)."""
        config, line = self.config, {}
        previous = signal.signal(signal.SIGTERM, self.on_sigterm)
        try:
            while self.epoch < config.num_epoch:
                line = self.train_epoch()
        finally:
            signal.signal(signal.SIGTERM, previous)
        return line

    def train_epoch(self) -> dict[str, Any]:
        """Train the remaining steps of the current epoch, evaluate if it is due, record and save. Returns the
        record."""
        config, number = self.config, self.epoch + 1
        self.freeze_or_release()
        self.batches.set(self.epoch, self.step)
        done, self.clock = self.step, engine.Clock(self.device)
        self.recorded = self.meter.totals().get("loss", [0.0, 0.0])
        self.set_schedule()
        if isinstance(self.objective, EpochObjective):
            self.objective.set_epoch(number)
        train = self.experiment.feeders["train"]
        loader = make_loader(config, train, self.batches, self.device, self.epoch, f"epoch {number}")
        engine.train_one_epoch(self.network, self.objective, loader, self.stepper, self.meter, self.clock)
        means, seconds = self.check_finite(), self.clock.total
        line: dict[str, Any] = {"epoch": number, "lr": self.lr} | {
            f"train_{key}": value for key, value in means.items()
        }
        line |= {"train_seconds": seconds, "data_share": self.clock.data / seconds}
        line["clips_per_second"] = (self.batches.steps - done) * config.batch_size / seconds
        last = number == config.num_epoch
        if number % config.eval_interval == 0 or last:
            figures, self.prediction = self.evaluate()
            line |= figures | self.update_best(number, figures)
        self.epoch, self.step, self.meter = number, 0, engine.Meter()
        distributed.on_main(partial(self.run_dir.add_metrics, line))
        log.info(epoch_line(line, config.num_epoch, config.tested))
        self.save_best(number)
        leaving = self.asked_to_leave()
        if number % config.save_interval == 0 or last or leaving:
            self.save(LAST)
        if leaving and not last:
            self.leave()
        return line

    def after_step(self) -> None:
        """After each optimizer step: update the moving average, and at intervals check the loss, save, and react to
        SIGTERM."""
        self.step += 1
        if self.average is not None:
            self.average.update()
        config, alone = self.config, distributed.world_size() == 1
        number = self.epoch * self.batches.steps + self.step
        if number % config.log_interval == 0:
            self.record_step(number)
        if self.step == self.batches.steps:
            return
        save = config.save_every_steps and self.step % config.save_every_steps == 0
        leaving = (alone or self.step % LISTEN_INTERVAL == 0) and self.asked_to_leave()
        cheap = alone and self.device.type == "cpu"  # reading the loss does not wait for a device
        if save or leaving or cheap:
            self.check_finite()
        if save or leaving:
            self.save(LAST)
        if leaving:
            self.leave()
        self.set_schedule()

    def record_step(self, number: int) -> None:
        """Record the mean loss of the steps since the last record, within this epoch; number: of all steps."""
        self.check_finite()
        totals = self.meter.totals()["loss"]
        total, samples = (now - before for now, before in zip(totals, self.recorded, strict=True))
        self.recorded = totals
        distributed.on_main(partial(self.run_dir.add_step, number, total / samples))

    def set_schedule(self) -> None:
        """Set the learning rate and weight decay of the next step."""
        step = self.epoch * self.batches.steps + self.step
        self.lr = optim.set_schedule(self.optimizer, self.config, step, self.batches.steps)

    def freeze_or_release(self) -> None:
        """Freeze parameters in the first epochs or release them, and wrap the network after each such change."""
        if self.config.freeze:
            frozen = self.epoch < self.config.freeze_epoch
            names = optim.set_frozen(self.model, self.config.freeze, frozen)
            if self.stepper.graphs is not None and self.epoch == self.config.freeze_epoch:
                self.stepper.graphs.forget()
            if self.epoch in (0, self.config.freeze_epoch):
                log.info(
                    "%s %d parameters: %s ...", "frozen:" if frozen else "released:", len(names), ", ".join(names[:3])
                )
        if self.network is self.model or self.epoch == self.config.freeze_epoch:
            self.network = wrap(self.model, self.config, self.device)

    def check_finite(self) -> dict[str, float]:
        """The running means.

        Raises:
            RunError: the loss or another term is not finite; nothing of these steps is saved.
        """
        means = self.meter.means()
        for key in sorted(means, key=lambda key: key != "loss"):
            if not math.isfinite(means[key]):
                raise RunError(
                    f"the {key} became {means[key]} in epoch {self.epoch + 1}, at or before step {self.step}; "
                    f"{self.run_dir.left()}; {DIVERGED}"
                )
        return means

    def evaluate(self) -> tuple[dict[str, float], engine.Prediction]:
        """Test metrics of the weights and of their moving average, and the scores of the weights."""
        distributed.broadcast_buffers(self.model)  # test the running statistics that are saved
        figures, prediction = test_figures(self.experiment, self.model)
        line = {f"test_{key}": value for key, value in figures.items()}
        if self.average is not None:
            distributed.broadcast_buffers(self.average.model)
            figures, _ = test_figures(self.experiment, self.average.model)
            line |= {f"test_ema_{key}": value for key, value in figures.items()}
        return line, prediction

    def update_best(self, number: int, line: dict[str, Any]) -> dict[str, float]:
        """The best epoch so far of the weights and of their moving average, selected on the test set, given epoch
        `number`."""
        for prefix in ("test", "test_ema"):
            key = "map" if f"{prefix}_map" in line else "top1"
            value = line.get(f"{prefix}_{key}", -1.0)
            if value > self.best.get(prefix, {key: -1.0})[key]:
                self.best[prefix] = {key: value, "epoch": number}
        return {f"best_on_{p}_{key}": value for p, best in self.best.items() for key, value in best.items()}

    # Checkpoints

    def save_best(self, number: int) -> None:
        """Save the weights of this epoch if they are the best on the test set. This happens before last.pt is written,
        so that a crash cannot lose them."""
        for prefix, name in (("test", BEST), ("test_ema", BEST_EMA)):
            if self.best.get(prefix, {}).get("epoch") == number:
                self.save(name)

    def save(self, name: str) -> None:
        """Write everything that the run needs to continue, completely or not at all.

        Raises:
            RunError: the weights are not finite, or the disk is full.
        """
        if not torch.stack([p.isfinite().all() for p in self.model.parameters()]).all():
            raise RunError(
                f"the weights became infinite in the last step before this checkpoint; {self.run_dir.left()}; "
                f"{DIVERGED}"
            )
        content: dict[str, Any] = {"model": self.model.state_dict()}
        if self.average is not None:
            content["model_ema"] = self.average.model.state_dict()
        content |= {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        content |= {"epoch": self.epoch, "step": self.step, "best": self.best, "config": self.config.to_yaml()}
        content |= {"clips": self.clip_facts, "initial_weights": self.experiment.initial_weights}
        sums = {key: pair.cpu() for key, pair in self.meter.sums.items()}
        content |= {"rng": distributed.gather(rng_state()), "sums": distributed.gather(sums)}
        distributed.on_main(partial(self.write, name, content))

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write the files of one checkpoint."""
        path = self.run_dir.path / name
        with self.run_dir.writing():
            if name == LAST and self.step == 0 and self.config.keep:
                checkpoint.save(path.with_name(f"epoch_{self.epoch}.pt"), content)
            checkpoint.save(path, content)
            if name == LAST:
                resume.forget(path, self.config.keep)

    def resume(self) -> bool:
        """Continue from the newest whole checkpoint in the run directory; False if there is no checkpoint.

        Raises:
            ValueError: none of the checkpoints is whole, or they belong to another experiment.
        """
        averaged, steps = self.average is not None, self.batches.steps
        check = partial(
            resume.check_content,
            model=self.model,
            averaged=averaged,
            optimizer=self.optimizer,
            scaler=self.scaler,
            steps=steps,
        )
        newest = resume.read_newest(self.run_dir.path, self.config, check)
        if newest is None:
            return False
        path, content = newest
        resume.check_same_data(content.get("clips"), self.clip_facts, path)
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.model.load_state_dict(content["model_ema"])
        optim.load_state(self.optimizer, content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.epoch, self.step, self.best = content["epoch"], content["step"], content["best"]
        if self.experiment.initial_weights is None and isinstance(content.get("initial_weights"), dict):
            self.experiment.initial_weights = content["initial_weights"]
        rank, before, now = distributed.rank(), len(content["rng"]), distributed.world_size()
        if before == now:
            set_rng_state(content["rng"][rank])
        else:
            log.warning("resume: %d processes before, %d now: random numbers of dropout differ", before, now)
        # the last rank also takes the sums of ranks that no longer exist
        for sums in content["sums"][rank : None if rank == now - 1 else rank + 1]:
            self.meter.take(sums, self.device)
        log.info("resumed from %s after epoch %d%s", path, self.epoch, f", step {self.step}" if self.step else "")
        return True

    # Leaving

    def on_sigterm(self, *_: object) -> None:
        """Remember the signal; the training loop saves and stops after the current step."""
        self.leaving = True

    def asked_to_leave(self) -> bool:
        """Whether any of the processes received SIGTERM; the same answer on all of them."""
        return any(distributed.gather(self.leaving))

    def leave(self) -> None:
        """Stop after everything is saved."""
        raise Terminated(f"SIGTERM: {self.run_dir.left()}; the same command with --resume true continues from there")


def epoch_line(line: dict[str, Any], num_epoch: int, tested: str = "test") -> str:
    """One aligned line per epoch; tested: what the evaluation was made on."""
    text = f"epoch {line['epoch']:>3}/{num_epoch}  lr {line['lr']:.5f}  loss {line['train_loss']:7.4f}"
    if "train_top1" in line:  # not where every batch was mixed
        text += f"  train {line['train_top1']:6.2f} %"
    words = {"top1": "", "map": "mAP ", "macro": "macro ", "top5": "top-5 "}
    found = [f"{word}{line[f'test_{key}']:6.2f} %" for key, word in words.items() if f"test_{key}" in line]
    text += f"  {tested} {'  '.join(found)}" if found else ""
    ema = line.get("test_ema_top1", line.get("test_ema_map"))
    text += "" if ema is None else f"  ema {ema:6.2f} %"
    return text + f"  {line['clips_per_second']:7.1f} clips/s  data {100 * line['data_share']:4.1f} %"
