"""Training runs as commands of main.py, each in its own process."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from torchlight.commands import main
from torchlight.config.load import load_config
from torchlight.system.command import FAILED, USER_ERROR, RunError
from torchlight.system.files import read_text
from torchlight.system.paths import ROOT
from torchlight.training.resume import check_same_experiment
from torchlight.training.run_dir import CONFIG, LAST, read_metrics
from torchlight.training.scores import SCORE_FILE


class ProgramError(RunError):
    """A program failed by itself: it was neither interrupted nor terminated, so the same command may fail again."""


def call(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run one of the project's programs.

    Raises:
        ProgramError: it ended with an error, which it has printed.
        RunError: it was interrupted or terminated.
    """
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    program, *words = arguments
    code = subprocess.run([sys.executable, str(ROOT / program), *words], env=environment, check=False).returncode
    if code:
        hint = "" if code == USER_ERROR else "; the same command continues"
        kind = ProgramError if code in (FAILED, USER_ERROR) else RunError
        raise kind(f"{program} ended with code {code}{hint}")


def train(folder: Path, flags: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run the remaining part of one training. main.py refuses a run with other options.

    flags: of main.py, with `--work-dir folder`.

    Raises:
        RunError: main.py ended with an error, which it has printed.
    """
    words = [*flags, "--phase", "train", "--resume", "true"]
    if not is_finished(folder, words):
        call(["main.py", *words], environment)


def is_finished(folder: Path, words: Sequence[str]) -> bool:
    """Whether a folder contains all epochs of the training that these words of main.py describe."""
    lines = read_metrics(folder) if (folder / LAST).exists() else []
    if not lines:
        return False
    options = main.parse(list(words))
    options.pop("import", None)
    config = load_config(options.pop("config", None), options)
    if lines[-1]["epoch"] != config.num_epoch:
        return False
    try:
        check_same_experiment({"config": read_text(folder / CONFIG)}, config, folder / CONFIG)
    except (OSError, ValueError):  # main.py gives the reason
        return False
    return True


def train_and_test(folder: Path, flags: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run the remaining part of one run: train, continue, or only write the scores of the last epoch; otherwise as
    `train`."""
    weights, scores = folder / LAST, folder / SCORE_FILE
    train(folder, flags, environment)
    if not scores.exists() or scores.stat().st_mtime < weights.stat().st_mtime:
        call(["main.py", *flags, "--phase", "test", "--weights", str(weights), "--save-score", "true"], environment)
