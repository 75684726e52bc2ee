"""A map over worker processes for long jobs."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from typing import Any

from torchlight.system.command import RunError


def worker_map(job: Callable, chunks: list, workers: int) -> Iterator[Any]:
    """`map(job, chunks)` in worker processes that ignore Ctrl-C and end together with this process. Close the iterator
    if it is not exhausted.

    Raises:
        RunError: a worker process was killed.
    """
    if workers <= 1 or len(chunks) == 1:
        yield from map(job, chunks)
        return
    # Spawned, not forked: a worker imports only what the job needs, not all modules of the caller.
    pool = ProcessPoolExecutor(min(workers, len(chunks)), get_context("spawn"), _end_with_parent)
    others = set(active_children())
    try:
        # The workers inherit the mask. A Ctrl-C in the meantime is delivered to this process afterwards.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results = [pool.submit(job, chunk) for chunk in chunks]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for result in results:
            yield result.result()
    except BrokenProcessPool:
        raise RunError(
            "a worker process was killed (out of memory?); finished work is kept; try again with --workers 1"
        ) from None
    except BaseException:
        for worker in set(active_children()) - others:  # the results of unfinished chunks are not needed
            worker.terminate()
        raise
    finally:
        pool.shutdown()  # without cancelling: Python 3.11 prints a traceback if a pool with cancelled work breaks


def _end_with_parent() -> None:
    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
