"""Several processes on one machine, one per device, with PyTorch's elastic launcher (as in torchrun)."""

import logging
import os
import signal
import sys

import torch

from torchlight.system.command import FAILED, TERMINATED, RunError, debug_requested
from torchlight.system.command import run as run_command
from torchlight.system.paths import ROOT


def launch(argv: list[str], processes: int) -> int:
    """Run `main.py argv` in `processes` processes of one group; returns 0 or the exit code of a process that failed.

    When one process fails, PyTorch ends the others; a SIGTERM to the launcher reaches all of them.

    Raises:
        RunError: a signal killed one of the processes.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    words = [*argv, "--debug"] if debug_requested() else argv
    return torchrun(["--standalone", "--nproc-per-node", str(processes), str(ROOT / "main.py"), *words])


def torchrun(argv: list[str]) -> int:
    """PyTorch's torchrun with the arguments `argv`; its exit code is that of a process that failed, or 128 + the signal
    that ended it, without tracebacks.

    Raises:
        RunError: a signal killed one of the processes.
    """
    from torch.distributed import run  # slow to import
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the process that failed has printed why
    try:
        run.run(run.parse_args(argv))
    except ChildFailedError as error:
        return exit_code({rank: failure.exitcode for rank, failure in error.failures.items()})
    except SignalException as error:
        return 128 + error.sigval
    return 0


def exit_code(codes: dict[int, int]) -> int:
    """The exit code of a group from those of its failed processes (-n: ended by signal n).

    The code of a process that failed takes precedence over those of processes that the launcher then terminated.

    Raises:
        RunError: a signal killed one of them; the message names it.
    """
    killed = {rank: -code for rank, code in codes.items() if code < 0 and -code != signal.SIGTERM}
    if killed:
        ranks = ", ".join(f"process {rank} was killed by {signal_name(number)}" for rank, number in killed.items())
        hint = " (Linux kills processes when memory runs out)" if signal.SIGKILL in killed.values() else ""
        raise RunError(f"{ranks}{hint}; --resume true continues from the last checkpoint")
    failed = {code for code in codes.values() if code > 0}
    return max(failed - {TERMINATED} or failed, default=FAILED)


def signal_name(number: int) -> str:
    """SIGKILL for 9, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def main(argv: list[str] | None = None) -> int:
    """`python -m torchlight.runtime.launch`: torchrun with exit codes that distinguish requeued jobs from failed
    jobs."""
    return run_command(torchrun, argv)


if __name__ == "__main__":
    sys.exit(main())
