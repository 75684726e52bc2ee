"""The log: rank 0 to the terminal and to the log file of the run."""

import logging
import sys
from contextlib import suppress
from pathlib import Path

from torchlight.runtime import distributed

log = logging.getLogger("torchlight")


def set_up_logging(file: Path | None = None) -> None:
    """Rank 0 to the terminal, and to `file` once there is one."""
    log.setLevel(logging.DEBUG if distributed.rank() == 0 else logging.ERROR)
    log.propagate = False
    logging.raiseExceptions = False  # a full disk or a closed pipe must not bury its own message under tracebacks
    if not any(
        type(handler) is logging.StreamHandler for handler in log.handlers
    ):  # handlers of other kinds may be there
        terminal = logging.StreamHandler(sys.stdout)
        terminal.setLevel(logging.INFO)
        terminal.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(terminal)
    if file is not None and distributed.rank() == 0:
        handler = logging.FileHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)


def close_logging() -> None:
    """Close the log files; the terminal stays."""
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        with suppress(OSError):  # a full disk
            handler.close()
