"""Several processes on one machine, one per device, without torchrun."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait

GRACE = 20.0  # seconds that the others have to leave by themselves when one process has failed


def launch(function: Callable[[list[str]], int], argv: list[str], processes: int) -> int:
    """Run `function(argv)` in so many processes of one group; returns the exit code of the first that failed, else 0.

    A SIGTERM is passed on to all of them. When one fails, the others, which may wait for it forever, are ended after a grace time.
    """
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = [context.Process(target=run_rank, args=(function, argv, rank, processes, port)) for rank in range(processes)]
    for process in group:
        process.start()

    def pass_on(*_: object) -> None:
        for process in group:
            process.terminate()

    previous = signal.signal(signal.SIGTERM, pass_on)
    try:
        return watch(group)
    except KeyboardInterrupt:  # the terminal has sent it to all of them
        leave(group)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def watch(group: list) -> int:
    """Wait for all processes; the exit code of the first that failed (128 + n for signal n), else 0."""
    running = list(group)
    while running:
        wait([process.sentinel for process in running])
        for process in [p for p in running if p.exitcode is not None]:
            running.remove(process)
            if process.exitcode:
                leave(running)
                return process.exitcode if process.exitcode > 0 else 128 - process.exitcode
    return 0


def leave(group: list) -> None:
    """Wait until all have left, and end those that have not after the grace time."""
    end = time.monotonic() + GRACE
    for process in group:
        process.join(max(0.0, end - time.monotonic()))
    for process in group:
        if process.exitcode is None:
            process.kill()
            process.join()


def run_rank(function: Callable[[list[str]], int], argv: list[str], rank: int, processes: int, port: int) -> None:
    """One process of the group: its place in the environment, as torchrun announces it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    threading.Thread(target=leave_with_parent, daemon=True).start()
    sys.exit(function(argv))


def leave_with_parent() -> None:
    """If the launcher dies, leave as after a SIGTERM: save, then go."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
