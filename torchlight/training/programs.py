"""Training runs as commands of main.py, each in its own process."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torchlight.config.load import load_config
from torchlight.system.command import RunError
from torchlight.system.paths import ROOT
from torchlight.training.run_dir import CONFIG, LAST, read_metrics
from torchlight.training.scores import SCORE_FILE


def call(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run one of the project's programs.

    Raises:
        RunError: it ended with an error, which it has printed.
    """
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    program, *words = arguments
    code = subprocess.run([sys.executable, str(ROOT / program), *words], env=environment, check=False).returncode
    if code:
        raise RunError(f"{program} ended with code {code}; the same command continues")


def train(folder: Path, flags: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run the remaining part of one training.

    flags: of main.py, with `--work-dir folder`.

    Raises:
        RunError: main.py ended with an error, which it has printed.
    """
    lines = read_metrics(folder) if (folder / LAST).exists() else []
    if not lines or lines[-1]["epoch"] != load_config(folder / CONFIG).num_epoch:
        call(["main.py", *flags, "--phase", "train", "--resume", "true"], environment)


def train_and_test(folder: Path, flags: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run the remaining part of one run: train, continue, or only write the scores of the last epoch; otherwise as
    `train`."""
    weights, scores = folder / LAST, folder / SCORE_FILE
    train(folder, flags, environment)
    if not scores.exists() or scores.stat().st_mtime < weights.stat().st_mtime:
        call(["main.py", *flags, "--phase", "test", "--weights", str(weights), "--save-score", "true"], environment)
