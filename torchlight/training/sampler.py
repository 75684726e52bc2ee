"""The clips of each batch: functions of (seed, epoch), divided over ranks and accumulation steps."""

from collections.abc import Iterator

import numpy as np
import torch


class TrainBatches:
    """Shuffled lists of clip numbers, the incomplete last batch dropped.

    Every optimizer step takes the next `batch_size` numbers of one shuffle that all ranks share; each rank and
    accumulation step takes its even part of them, so the batch of a step is the same however it is divided.

    label: (N,) the classes of the clips, where number i of the epoch is clip i mod N; an epoch then contains each class
    equally often (`balanced_order`). None: each number once.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        update_freq: int = 1,
        label: np.ndarray | None = None,
    ):
        parts = world_size * update_freq
        if batch_size % parts:
            raise ValueError(
                f"batch_size: expected a multiple of {world_size} process(es) x {update_freq} accumulation step(s), "
                f"got {batch_size}"
            )
        if length < batch_size:
            raise ValueError(f"batch_size: expected at most {length}, the number of training clips, got {batch_size}")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size, self.update_freq = rank, world_size, update_freq
        self.label = None if label is None else np.resize(label, length)
        self.epoch = self.first_step = 0

    @property
    def steps(self) -> int:
        """Optimizer steps of a whole epoch."""
        return self.length // self.batch_size

    def set(self, epoch: int, first_step: int = 0) -> None:
        """Begin the next pass at `first_step` of `epoch`."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.update_freq

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.label is None:
            order = torch.randperm(self.length, generator=generator).tolist()
        else:
            order = balanced_order(self.label, generator)
        share = self.batch_size // (self.world_size * self.update_freq)
        for step in range(self.first_step, self.steps):
            for micro in range(self.update_freq):
                begin = step * self.batch_size + (micro * self.world_size + self.rank) * share
                yield order[begin : begin + share]


def balanced_order(label: np.ndarray, generator: torch.Generator) -> list[int]:
    """As many numbers as labels (N,), each class equally often (up to one) and in random order.

    The clips of a small class are repeated, each as often as the others (up to one); large classes are randomly
    subsampled.
    """
    classes = np.unique(label)
    extra = set(torch.randperm(len(classes), generator=generator)[: len(label) % len(classes)].tolist())
    chosen = []
    for k, name in enumerate(classes):
        clips, wanted = torch.from_numpy(np.flatnonzero(label == name)), len(label) // len(classes) + (k in extra)
        rounds = -(-wanted // len(clips))
        drawn = [clips[torch.randperm(len(clips), generator=generator)] for _ in range(rounds)]
        chosen.append(torch.cat(drawn)[:wanted] if drawn else clips[:0])
    order = torch.cat(chosen)
    return order[torch.randperm(len(order), generator=generator)].tolist()


class TestBatches:
    """Lists of clip numbers in order, each on exactly one rank; the lists, and so the scores, do not depend on the
    number of ranks."""

    __test__ = False  # not a test for pytest

    def __init__(self, length: int, batch_size: int, rank: int = 0, world_size: int = 1):
        self.begins = range(rank * batch_size, length, world_size * batch_size)
        self.length, self.batch_size = length, batch_size

    def __len__(self) -> int:
        return len(self.begins)

    def __iter__(self) -> Iterator[list[int]]:
        for begin in self.begins:
            yield list(range(begin, min(begin + self.batch_size, self.length)))
