"""The log, on the terminal and in the log file of a run."""

import io
import logging
import sys
from contextlib import suppress
from pathlib import Path

from torchlight.runtime import distributed

log = logging.getLogger("torchlight")


def set_up_logging(file: Path | None = None) -> None:
    """Send the log of rank 0 to the terminal, and to `file` if it is given; other ranks log errors only.

    Raises:
        OSError: the file cannot be opened.
    """
    log.setLevel(logging.DEBUG if distributed.rank() == 0 else logging.ERROR)
    log.propagate = False
    logging.raiseExceptions = False  # a full disk or a closed pipe is reported once, not with a traceback per line
    if not any(type(handler) is logging.StreamHandler for handler in log.handlers):  # not its subclass for files
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of clips and classes may not fit the locale
        terminal = logging.StreamHandler(sys.stdout)
        terminal.setLevel(logging.INFO)
        terminal.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(terminal)
    if file is not None and distributed.rank() == 0:
        handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)


def close_logging() -> None:
    """Close the log files; logging to the terminal continues."""
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        with suppress(OSError):  # a full disk
            handler.close()
