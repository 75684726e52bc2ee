"""The run directory: the files of a run, their readers, and the lock that keeps other processes out.

config.yaml        the resolved experiment; loads again to an equal configuration
environment.json   versions, device, git commit, hashes of the data, seed, command line; `earlier`: those of a resumed
                   run before, the oldest first
log.txt            what the terminal showed
finetune.csv       for fine-tuning: whether each tensor of the network was kept, mapped or new
metrics.jsonl      one JSON object per epoch
events.out.*       the same curves for TensorBoard, in the groups train, test, test_ema, best_on_... and speed
steps/             the loss during the epochs for TensorBoard, numbered by optimizer steps
last.pt, best.pt   checkpoints: the last epoch, and the best one on the test set (best_ema.pt: of the moving average)
.lock              the id of the process that is using the directory
epoch1_test_score.pkl, each_class_acc.csv, confusion_matrix.{csv,png}
robustness.{csv,png}  of --phase robustness
"""

import errno
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from torchlight.config.options import Config
from torchlight.runtime import distributed
from torchlight.runtime.logs import close_logging, set_up_logging
from torchlight.system.command import NO_SPACE, RunError
from torchlight.system.files import atomic, parse_json, read_json, read_text
from torchlight.system.lock import FolderInUse, FolderLock
from torchlight.system.paths import ROOT, folder_name, locate
from torchlight.system.text import quote

log = logging.getLogger("torchlight")
LAST, BEST, BEST_EMA = "last.pt", "best.pt", "best_ema.pt"
CONFIG, METRICS, ENVIRONMENT, FINETUNE = "config.yaml", "metrics.jsonl", "environment.json", "finetune.csv"
ROBUSTNESS = "robustness.csv"
TRACES = (LAST, BEST, METRICS)
TESTED = ("epoch1_test_*", "robustness.*")  # files of --phase test and --phase robustness, about one epoch
LEFT_BY_A_RUN = (
    LAST,
    BEST,
    BEST_EMA,
    "epoch_[0-9]*.pt",
    METRICS,
    CONFIG,
    ENVIRONMENT,
    FINETUNE,
    "log.txt",
    "events.out.*",
    "steps/events.out.*",
    *TESTED,
    "each_class_acc.csv",
    "confusion_matrix.*",
    "report.html",
    "report_*.png",
)
GROUPS = ("best_on_test_ema", "best_on_test", "test_ema", "test", "train")  # of curves in TensorBoard
SPEED = ("train_seconds", "clips_per_second", "data_share")
HALF_WRITTEN = "*.[0-9]*.tmp"  # left by a process that was killed in `files.atomic`


def default_work_dir(config: Config) -> Path | None:
    """work_dir/<dataset>/<split>/<model>/<modality> for a file below config/, work_dir/<name>/<modality> for another
    file; hold_out and finetune have their own folders. None without a file."""
    if not config.config:
        return None
    path = locate(config.config).resolve()
    inside = path.relative_to(ROOT / "config") if path.is_relative_to(ROOT / "config") else Path(path.name)
    without = ["without", folder_name(config.hold_out)] if config.hold_out else []
    tuned = ["finetuned"] if config.finetune else []
    return Path("work_dir") / inside.with_suffix("") / "_".join([config.modality, *tuned, *without])


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The records of the epochs in metrics.jsonl, an empty list if there is none; a last line cut off by a crash is
    left out.

    Raises:
        ValueError: a line is not a JSON object of finite numbers with an `epoch` above that of the line before; the
            message names it.
    """
    file = Path(folder) / METRICS
    if not file.exists():
        return []
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(read_text(file).split("\n")[:-1], start=1):
        origin = f"{file}: line {number}"
        line = parse_json(text, origin)
        if not isinstance(line, dict):
            raise ValueError(f"{origin}: expected an object, got {quote(line)}")
        for key, value in line.items():
            if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
                raise ValueError(f"{origin}: {quote(key)}: expected a finite number, got {quote(value)}")
        epoch, before = line.get("epoch"), lines[-1]["epoch"] if lines else 0
        if type(epoch) is not int or epoch <= before:
            raise ValueError(f"{origin}: epoch: expected a whole number above {before}, got {quote(epoch)}")
        lines.append(line)
    return lines


def read_environment(folder: str | Path) -> dict[str, Any]:
    """What environment.json holds, empty if there is none; raises ValueError if it is not a JSON object."""
    file = Path(folder) / ENVIRONMENT
    found = read_json(file) if file.exists() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{file}: expected an object, got {quote(found)}")
    return found


class RunDirectory:
    """The files of one run, as a context manager. With several processes, only rank 0 calls methods that write.

    >>> with RunDirectory(path) as run_dir:  # doctest: +SKIP
    ...     run_dir.lock()
    """

    def __init__(self, path: Path):
        self.path = path
        self.curves: EventsWriter | None = None
        self.steps: EventsWriter | None = None
        self.held: FolderLock | None = None

    def lock(self) -> None:
        """Keep other processes out of the folder, which is created if it is missing, until `close`.

        Raises:
            ValueError: another process uses the folder, or it cannot be written.
        """
        with self.opening():
            try:
                self.held = FolderLock(self.path)
            except FolderInUse as error:
                raise ValueError(
                    f"work_dir: {self.path} is in use by {error.holder}; nothing was changed; "
                    "wait until it has finished, or give another --work-dir"
                ) from None

    def refuse_existing(self) -> None:
        """Raise if the folder already holds a run.

        Raises:
            ValueError: files of a run are here.
        """
        found = [name for name in TRACES if (self.path / name).exists()]
        if found:
            raise ValueError(
                f"work_dir: found a run in {self.path} ({', '.join(found)}); nothing was changed; "
                "give --resume true to continue it, --overwrite true to replace it, or another --work-dir"
            )

    def clear(self) -> None:
        """Remove the files of an earlier run, and nothing else."""
        with self.opening():
            for pattern in LEFT_BY_A_RUN:
                for file in self.path.glob(pattern):
                    file.unlink()

    def forget_tests(self, epoch: int) -> None:
        """Remove the scores, features and curves of `epoch`, because this run trains further epochs."""
        with self.writing():
            files = sorted(file for pattern in TESTED for file in self.path.glob(pattern))
            for file in files:
                file.unlink()
        if files:
            names = ", ".join(file.name for file in files)
            log.warning("resume: removed the test results of epoch %d: %s; test again after the run", epoch, names)

    def open(self, config: Config, facts: dict[str, Any], first_epoch: int = 0) -> None:
        """Create the folder and the log and, for training, the records of a new run or those of a resumed one up to
        `first_epoch`.

        Raises:
            ValueError: the folder cannot be written, or its records are damaged.
            RunError: the disk is full.
        """
        training = config.phase == "train"
        kept = [line for line in read_metrics(self.path) if line["epoch"] <= first_epoch] if training else []
        before = read_environment(self.path) if training and config.resume else {}
        with self.opening():
            self.path.mkdir(parents=True, exist_ok=True)
            set_up_logging(self.path / "log.txt")
        if not training:
            if config.config is None:  # ensemble.py finds the labels through it
                with self.opening(), atomic(self.path / CONFIG, "w") as file:
                    file.write(config.to_yaml())
            return
        with self.writing():
            for file in self.path.glob(HALF_WRITTEN):
                file.unlink()
            with atomic(self.path / CONFIG, "w") as file:
                file.write(config.to_yaml())
            with atomic(self.path / ENVIRONMENT, "w") as file:
                json.dump(after(before, environment(config, facts)), file, indent=1)
            with atomic(self.path / METRICS, "w") as file:
                file.writelines(json.dumps(line) + "\n" for line in kept)
            self.curves = open_curves(self.path, first_epoch + 1)

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Append one epoch (numbered from 1) to metrics.jsonl and TensorBoard; raises RunError if the disk is full."""
        with self.writing():
            with open(self.path / METRICS, "a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            for key, value in line.items():
                if key != "epoch":
                    write_scalar(self.curves, tensorboard_tag(key), value, line["epoch"])
            self.curves.flush()

    def add_step(self, number: int, loss: float) -> None:
        """Add the loss at an optimizer step (numbered from 1) to TensorBoard; raises RunError if the disk is full.

        The steps have their own folder, because TensorBoard drops all points from the number at which a resumed run
        continues, and epochs are numbered differently.
        """
        with self.writing():
            if self.steps is None:
                (self.path / "steps").mkdir(exist_ok=True)
                self.steps = open_curves(self.path / "steps", number)
            write_scalar(self.steps, "step/loss", loss, number)
            self.steps.flush()

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Convert errors of the file system before the run begins to ValueError, except a full disk and too many open
        files, which remain OSError."""
        try:
            yield
        except OSError as error:
            if error.errno in (*NO_SPACE, errno.EMFILE, errno.ENFILE):
                raise
            raise ValueError(
                f"work_dir: {self.path} cannot be written ({error.strerror}); give another --work-dir"
            ) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Convert errors of the file system during the run to a RunError that names the last checkpoint."""
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.path} could not be written ({error.strerror}); {self.left()}; "
                "free some space, then give the same command with --resume true"
            ) from error

    def left(self) -> str:
        """The last checkpoint, as a part of an error message."""
        path = self.path / LAST
        return f"the last checkpoint is {path}" if path.exists() else "there is no checkpoint yet"

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if error is not None:
            log.debug("stopped by %s", kind.__name__, exc_info=error)
        self.close()

    def close(self) -> None:
        """Close the files and release the lock."""
        for curves in (self.curves, self.steps):
            if curves is not None:
                with suppress(OSError):  # a full disk, which has already been reported
                    curves.close()
        close_logging()
        if self.held is not None:
            self.held.release()


def open_curves(folder: Path, first: int) -> EventsWriter:
    """A new file of TensorBoard, whose numbers begin with `first`; later ones of an interrupted run are dropped."""
    curves = EventsWriter(str(folder / "events"), f".{os.getpid()}")
    restart = SessionLog(status=SessionLog.START)
    curves.write_event(Event(wall_time=time.time(), step=first, session_log=restart))
    return curves


def write_scalar(curves: EventsWriter, tag: str, value: float, step: int) -> None:
    """Add a point to a curve of TensorBoard."""
    curves.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))


def tensorboard_tag(key: str) -> str:
    """The name of a curve of metrics.jsonl in TensorBoard, which shows those of one group together.

    >>> tensorboard_tag("test_ema_top1"), tensorboard_tag("lr"), tensorboard_tag("clips_per_second")
    ('test_ema/top1', 'train/lr', 'speed/clips_per_second')
    """
    if key == "lr":
        return "train/lr"
    if key in SPEED:
        return f"speed/{key}"
    group = next((group for group in GROUPS if key.startswith(f"{group}_")), None)
    return key if group is None else f"{group}/{key.removeprefix(f'{group}_')}"


def environment(config: Config, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts besides the configuration that results depend on."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),  # without the folder of the program
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "devices": distributed.world_size(),
        "cuda": torch.version.cuda,
        "seed": config.seed,
        **facts,
    }


def after(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The content of environment.json for a run that had the content `before` until it was resumed.

    >>> after({"torch": "2.5"}, {"torch": "2.6"}), after({"torch": "2.6"}, {"torch": "2.6"})
    ({'torch': '2.6', 'earlier': [{'torch': '2.5'}]}, {'torch': '2.6'})
    """
    latest = {key: value for key, value in before.items() if key != "earlier"}
    earlier = before["earlier"] if isinstance(before.get("earlier"), list) else []
    if latest and latest != now:
        earlier = [*earlier, latest]
    return now | ({"earlier": earlier} if earlier else {})


def git_commit() -> str | None:
    """The commit of this code, with -dirty if it was changed since; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with suppress(OSError):  # git is not installed
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or None
    return None
