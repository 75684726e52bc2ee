"""Batches from a feeder, made in this process or in worker processes."""

import math
import os
import signal
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from torchlight.config.options import Config
from torchlight.contract import Batch, Feeder, MovableFeeder
from torchlight.runtime import distributed
from torchlight.training.sampler import TestBatches, TrainBatches

CHUNK_BYTES = 2**25  # of the clips that a GPU makes at once
MAX_WORKERS = 4  # together they make about 100,000 clips per second


class BatchDataset(Dataset):
    """A feeder in one epoch as a dataset of the DataLoader: a list of clip numbers gives a whole batch."""

    def __init__(self, feeder: Feeder, epoch: int):
        self.feeder, self.epoch = feeder, epoch

    def __len__(self) -> int:
        return len(self.feeder)

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.feeder.batch(indices, self.epoch)


class ChunkedBatches:
    """The batches of an epoch, many of them made at once. Making clips on a GPU takes a few hundred kernel launches for
    any number of clips; for small batches, these are more launches than those of the network.

    size: number of clips that are made at once, at least one batch; None: as many as fit into `CHUNK_BYTES`.
    """

    def __init__(self, feeder: Feeder, batches: Collection[list[int]], epoch: int, size: int | None = None):
        self.feeder, self.batches, self.epoch = feeder, batches, epoch
        self.size = CHUNK_BYTES // (4 * math.prod(feeder.shape)) if size is None else size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        chunk: list[list[int]] = []
        for indices in self.batches:
            if chunk and len(indices) + sum(map(len, chunk)) > self.size:
                yield from self.make(chunk)
                chunk = []
            chunk.append(indices)
        if chunk:
            yield from self.make(chunk)

    def make(self, chunk: list[list[int]]) -> Iterator[Batch]:
        """The batches of these clip numbers."""
        whole = self.feeder.batch([i for indices in chunk for i in indices], self.epoch)
        begin, total = 0, sum(map(len, chunk))
        for indices in chunk:
            end = begin + len(indices)
            yield {
                key: value[begin * len(value) // total : end * len(value) // total]
                if isinstance(value, torch.Tensor)
                else value
                for key, value in whole.items()
            }
            begin = end


def make_loader(
    config: Config,
    feeder: Feeder,
    batches: TrainBatches | TestBatches,
    device: torch.device,
    epoch: int = 0,
    title: str = "",
) -> Iterable[Batch]:
    """The batches of an epoch, with a progress bar if stderr is a terminal."""
    workers = worker_count(config, feeder, device)
    loader: Iterable[Batch]
    if feeder_device(feeder).type == "cuda":
        loader = ChunkedBatches(feeder, batches, epoch)
    else:
        loader = DataLoader(
            BatchDataset(feeder, epoch),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=identity,
            pin_memory=feeder_device(feeder) != device,
            worker_init_fn=start_worker,
            # shares the pages of the data
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            generator=torch.Generator(),  # each pass draws a number; the default generator is for dropout and mixup
        )
    return tqdm(loader, title, leave=False, disable=distributed.rank() > 0 or not sys.stderr.isatty())


def worker_count(config: Config, feeder: Feeder, device: torch.device) -> int:
    """Number of worker processes: `num_worker` if it is set, else chosen automatically.

    No workers if the clips are on a GPU, or if the network runs on the CPU, where workers would compete with it for
    cores. Otherwise one less than the number of cores per process on this machine, at most MAX_WORKERS.
    """
    if feeder_device(feeder).type != "cpu":
        return 0
    if config.num_worker is not None:
        return config.num_worker
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MAX_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


def feeder_device(feeder: Feeder) -> torch.device:
    """Where a feeder makes its batches."""
    return feeder.device if isinstance(feeder, MovableFeeder) else torch.device("cpu")


def identity(batch: Any) -> Any:
    """The collate function: feeders return whole batches."""
    return batch


def start_worker(_: int) -> None:
    """Use one thread per worker, and ignore signals to the process group, which the training process handles."""
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
