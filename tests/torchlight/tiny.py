"""A benchmark of sixty short clips, experiments on it that take a second, and their runs in separate processes."""

import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from socket import socket

import numpy as np
import torch

from tests.feeders.synthetic import write_store
from torchlight.commands import main as cli
from torchlight.config import imports
from torchlight.config.load import load_config
from torchlight.training import checkpoint

CONTEXT = multiprocessing.get_context("forkserver")  # the server imports torch once; each run is a fork of it
CONTEXT.set_forkserver_preload(
    [
        "torchlight.commands.main",
        "feeders.feeder_ucla",
        "model.ctrgcn",
        "tests.torchlight.parts",
        "torch.distributed.run",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
    ]
)
TIMES = {"train_seconds", "data_share", "clips_per_second"}
RICH = {  # all options that add state to a checkpoint
    "num_epoch": 3,
    "step": [2],
    "ema_decay": 0.9,
    "save_every_steps": 1,
    "objective_args": {"mixup_alpha": 0.8, "mixup_prob": 0.5, "label_smoothing": 0.1},
}


def write_benchmark(path: Path) -> Path:
    """A store of 40 training and 20 test clips of 20 joints, 8 to 29 frames, 5 classes that differ in one joint."""
    draw = np.random.default_rng(0)
    label = np.arange(60) * 7 % 5
    clips = [draw.normal(size=(1, T, 20, 3)).astype(np.float32) for T in draw.integers(8, 30, 60)]
    for clip, k in zip(clips, label, strict=True):
        clip[:, :, k] += 2
    splits = {"xview": {"train": np.arange(40), "test": np.arange(40, 60)}}
    facts = {"num_class": 5, "skeleton": "graph.ucla", "sha256": {"frames.npy": "0123"}}
    return write_store(path, clips, label, [(0,)] * 60, splits, **facts)


def options(store: Path) -> dict:
    """Two epochs of five steps of a very small CTR-GCN with dropout."""
    return {
        "feeder": "feeders.feeder_ucla.Feeder",
        "train_feeder_args": {"data_path": str(store), "window_size": 8},
        "test_feeder_args": {"data_path": str(store), "window_size": 8},
        "model": "model.ctrgcn.Model",
        "model_args": {
            "num_class": 5,
            "num_point": 20,
            "num_person": 1,
            "graph": "graph.ucla.Graph",
            "channels": [8, 8],
            "drop_out": 0.3,
        },
        "batch_size": 8,
        "test_batch_size": 8,
        "base_lr": 0.05,
        "num_epoch": 2,
        "num_worker": 0,
        "device": "cpu",
    }


PLAIN = {  # a network whose loss is a mean over independent clips
    "model": "tests.torchlight.parts.Plain",
    "model_args": {"num_class": 5, "num_point": 20, "num_person": 1},
}


def start(
    *argv,
    output: Path | None = None,
    error: Path | None = None,
    file_size: int | None = None,
    program: Callable[[list[str]], int] = cli.main,
    **environment: str,
):
    """Run a command line in a separate process, the leader of its own process group.

    output, error: files for standard output and standard error; error is `output` by default. file_size: the largest
    size of a file in bytes. program: the function that is called with the words.
    """
    words = [str(word) for word in argv]
    process = CONTEXT.Process(target=run, args=(program, words, output, error or output, file_size, environment))
    process.start()
    return process


def start_ranks(number: int, *argv, output: Path | None = None) -> list:
    """Run a command line in `number` processes of one group, with the environment that torchrun sets; rank r writes to
    <output>.<r>."""
    group = {
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    outputs = [output and Path(f"{output}.{rank}") for rank in range(number)]
    return [start(*argv, output=out, RANK=str(r), LOCAL_RANK=str(r), **group) for r, out in enumerate(outputs)]


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def finish(*processes, seconds: float = 120) -> int:
    """Wait for processes; returns the exit code with the largest absolute value."""
    for process in processes:
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"still running after {seconds} s: {process}")
    return max((process.exitcode for process in processes), key=abs)


def run(
    program: Callable[[list[str]], int],
    argv: list[str],
    output: Path | None,
    error: Path | None,
    file_size: int | None,
    environment: dict[str, str],
) -> None:
    os.setsid()
    os.environ.update(environment)
    torch.set_num_threads(1)
    stream = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream if error == output else os.open(error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    imports.ROOTS = (*imports.ROOTS, "tests")
    sys.exit(program(argv))


def metrics(folder: Path) -> list[dict]:
    """The lines of metrics.jsonl without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def weights(folder: Path, name: str = "last.pt", key: str = "model") -> dict[str, torch.Tensor]:
    """A state dict of a checkpoint."""
    return checkpoint.load(folder / name)[key]


def equal(one, other) -> bool:
    """Whether two checkpoints are identical bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def same_run(one: Path, other: Path) -> bool:
    """Whether two run directories contain the same weights, averages, optimizer states and metrics."""
    keys = ("model", "model_ema", "optimizer", "epoch", "step", "best", "rng", "sums")
    for name in ("last.pt", "best.pt"):
        a, b = checkpoint.load(one / name), checkpoint.load(other / name)
        if not equal({key: a.get(key) for key in keys}, {key: b.get(key) for key in keys}):
            return False
    return metrics(one) == metrics(other)


def check_readable(folder: Path) -> None:
    """Fail if any file of a run directory is incomplete, except for temporary files that a kill left behind."""
    for path in folder.glob("*.pt"):
        checkpoint.load(path)
    if (folder / "metrics.jsonl").exists():
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        assert all(json.loads(line) for line in lines if line.endswith("\n"))
    if (folder / "config.yaml").exists():
        load_config(folder / "config.yaml")
    if (folder / "environment.json").exists():
        json.loads((folder / "environment.json").read_text())
