"""The literal network in a process of its own, with the allocator as the system sets it: what a user has who sets nothing."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.kinds import profiled
from benchmarks.measure import Arithmetic, inference, seconds, training_step
from benchmarks.networks import Setting
from benchmarks.reference import reference

CPU = torch.device("cpu")
work: Callable  # the one thing that the other process does


class PlainProcess:
    """A side of a comparison whose work is done elsewhere: a call runs it once there and returns the seconds that it took.

    what: training step or inference. While it waits it takes no processor time. The process ends with the `with` block.
    """

    def __init__(self, setting: Setting, what: str, threads: int, clock: str):
        self.clock = clock
        self.pool = ProcessPoolExecutor(
            1, get_context("spawn"), prepare, (setting, what, threads)
        )  # a fork would inherit our setting

    def __enter__(self) -> "PlainProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def __call__(self) -> float:
        return self.pool.submit(timed, self.clock).result()

    def profiled(self) -> dict[str, Any]:
        """`kinds.profiled` of the work, there."""
        return self.pool.submit(profile).result()


def prepare(setting: Setting, what: str, threads: int) -> None:
    """Build the network and its batch in the new process."""
    global work
    torch.set_num_threads(threads)
    data, label = setting.clips(setting.batch, CPU)
    model, float32 = reference(setting.build(CPU)), Arithmetic("float32", CPU)
    work = training_step(model, data, label, float32) if what == "training step" else inference(model, data, float32)


def timed(clock: str) -> float:
    return seconds(work, CPU, clock)


def profile() -> dict[str, Any]:
    return profiled(work)
