"""Several processes on one machine, one per device, by PyTorch's own elastic launcher (what torchrun is)."""

import logging
import os

import torch

from torchlight.system.paths import ROOT


def launch(argv: list[str], processes: int) -> int:
    """Run `main.py argv` in so many processes of one group; 0 or the exit code of one that failed (128 + n for signal n).

    When one process fails, PyTorch ends the others; a SIGTERM to the launcher reaches all of them.
    """
    from torch.distributed import run  # slow to import
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the process that failed has said why
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    try:
        run.run(run.parse_args(["--standalone", "--nproc-per-node", str(processes), str(ROOT / "main.py"), *argv]))
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return (
            max(codes) if max(codes) > 0 else 128 - min(codes)
        )  # one that left by itself tells more than one that was ended
    except SignalException as error:
        return 128 + error.sigval
    return 0
