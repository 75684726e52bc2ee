"""A map over worker processes for long jobs."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from typing import Any


def worker_map(job: Callable, chunks: list, workers: int) -> Iterator[Any]:
    """`map(job, chunks)` in worker processes that leave Ctrl-C to us and do not outlive us. Close it when it is left early.

    Raises ValueError: a worker process was killed.
    """
    if workers <= 1 or len(chunks) == 1:
        yield from map(job, chunks)
        return
    # Spawned, not forked: a worker holds this module and NumPy, whatever the caller has loaded.
    pool = ProcessPoolExecutor(min(workers, len(chunks)), get_context("spawn"), _end_with_parent)
    others = set(active_children())
    mask = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT}
    )  # the workers inherit this; we hear a Ctrl-C of this moment later
    try:
        results = [pool.submit(job, chunk) for chunk in chunks]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        for result in results:
            yield result.result()
    except BrokenProcessPool:
        raise ValueError(
            "a worker process was killed (out of memory?); finished parts are kept; try again with --workers 1"
        ) from None
    except BaseException:
        for worker in set(active_children()) - others:  # nobody waits for the chunks that are under way
            worker.terminate()
        raise
    finally:
        pool.shutdown()  # without cancelling: Python 3.11 prints a traceback where a pool breaks on cancelled work


def _end_with_parent() -> None:
    def watch():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
