"""The run directory: what a run leaves, and how it is protected.

config.yaml        the resolved experiment; loads again to an equal configuration
environment.json   versions, device, git commit, hashes of the data, seed, command line
log.txt            what the terminal showed
metrics.jsonl      one JSON object per epoch
events.out.*       the same curves for TensorBoard
last.pt, best.pt   checkpoints: the last epoch, and the best one on the test set (best_ema.pt: of the moving average)
epoch1_test_score.pkl, each_class_acc.csv, confusion_matrix.{csv,png}
"""

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
from torchlight.system.command import RunError
from torchlight.system.files import atomic
from torchlight.system.paths import ROOT

log = logging.getLogger("torchlight")
LAST, BEST, BEST_EMA = "last.pt", "best.pt", "best_ema.pt"
CONFIG, METRICS, ENVIRONMENT = "config.yaml", "metrics.jsonl", "environment.json"
TRACES = (LAST, BEST, METRICS)
LEFT_BY_A_RUN = (
    LAST,
    BEST,
    BEST_EMA,
    "epoch_[0-9]*.pt",
    METRICS,
    CONFIG,
    ENVIRONMENT,
    "log.txt",
    "events.out.*",
    "epoch1_test_*",
    "each_class_acc.csv",
    "confusion_matrix.*",
    "report.html",
    "report_*.png",
)
HALF_WRITTEN = "*.[0-9]*.tmp"  # what a kill within `files.atomic` leaves


def default_work_dir(config: Config) -> Path | None:
    """work_dir/<dataset>/<split>/<model>/<modality> for a file below config/ (with hold_out another folder); None for any other file."""
    try:
        inside = Path(config.config or "").resolve().relative_to(ROOT / "config")
    except ValueError:
        return None
    without = ["without", *config.hold_out] if config.hold_out else []
    return Path("work_dir") / inside.with_suffix("") / "_".join([config.modality, *without])


class RunDirectory:
    """The files of one run; of several processes only rank 0 calls what writes."""

    def __init__(self, path: Path):
        self.path = path
        self.curves: EventsWriter | None = None

    def refuse_existing(self) -> None:
        """Raise if a run lives here.

        Raises:
            ValueError: traces of a run are here.
        """
        found = [name for name in TRACES if (self.path / name).exists()]
        if found:
            raise ValueError(
                f"work_dir: found a run in {self.path} ({', '.join(found)}); nothing was changed; "
                "give --resume true to go on with it, --overwrite true to replace it, or another --work-dir"
            )

    def clear(self) -> None:
        """Remove what an earlier run left here, and nothing else."""
        for pattern in LEFT_BY_A_RUN:
            for file in self.path.glob(pattern):
                file.unlink()

    def open(self, config: Config, facts: dict[str, Any], first_epoch: int = 0) -> None:
        """Create the folder, the log and, for training, the records of a new run or the shortened ones of a resumed one.

        Raises:
            ValueError: the folder cannot be written.
            RunError: the disk is full.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            set_up_logging(self.path / "log.txt")
        except OSError as error:
            raise ValueError(
                f"work_dir: {self.path} cannot be written ({error.strerror}); give another --work-dir"
            ) from error
        if config.phase != "train":
            return
        with self.writing():
            for file in self.path.glob(HALF_WRITTEN):
                file.unlink()
            with atomic(self.path / CONFIG, "w") as file:
                file.write(config.to_yaml())
            with atomic(self.path / ENVIRONMENT, "w") as file:
                json.dump(environment(config, facts), file, indent=1)
            kept = [line for line in self.read_metrics() if line["epoch"] <= first_epoch]
            with atomic(self.path / METRICS, "w") as file:
                file.writelines(json.dumps(line) + "\n" for line in kept)
            self.curves = EventsWriter(str(self.path / "events"), f".{os.getpid()}")
            restart = SessionLog(
                status=SessionLog.START
            )  # TensorBoard forgets what an interrupted run said about later epochs
            self.curves.write_event(Event(wall_time=time.time(), step=first_epoch + 1, session_log=restart))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The records of the epochs so far; a last line cut off by a crash is left out."""
        file = self.path / METRICS
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Append one epoch (numbered from 1) to metrics.jsonl and TensorBoard; raises RunError if the disk is full."""
        with self.writing():
            with open(self.path / METRICS, "a") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            for key, value in line.items():
                if key != "epoch":
                    self.curves.write_event(
                        Event(wall_time=time.time(), step=line["epoch"], summary=scalar(key, value))
                    )
            self.curves.flush()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turns what the disk refuses into a RunError that says what is left."""
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.path} could not be written ({error.strerror}); {self.left()}; "
                "free some room, then give the same command with --resume true"
            ) from error

    def left(self) -> str:
        """Which checkpoint a reader of an error message has."""
        path = self.path / LAST
        return f"the last checkpoint is {path}" if path.exists() else "there is no checkpoint yet"

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if error is not None:
            log.debug("stopped by %s", kind.__name__, exc_info=error)
        self.close()

    def close(self) -> None:
        """Close what is open; a full disk has already been reported."""
        if self.curves is not None:
            with suppress(OSError):
                self.curves.close()
        close_logging()


def environment(config: Config, facts: dict[str, Any]) -> dict[str, Any]:
    """What a figure depends on beside the configuration."""
    return {
        "command": shlex.join(sys.argv),
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


def git_commit() -> str | None:
    """The commit of this code, with -dirty if it was changed since; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with suppress(OSError):  # no git here
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or None
    return None
