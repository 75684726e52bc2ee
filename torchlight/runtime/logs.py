"""The log, on the terminal and in the log file of a run."""

import io
import logging
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

from torchlight.runtime import distributed

log = logging.getLogger("torchlight")
MAX_EARLY = 1000  # records


class EarlyRecords(logging.Handler):
    """Keeps the records of a command until its log file is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=MAX_EARLY)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def set_up_logging(file: Path | None = None) -> None:
    """Send the log of rank 0 to the terminal, and to `file` if it is given; other ranks log errors only. The file also
    receives the records since the last call without a file, with which each command begins.

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
    early = [handler for handler in log.handlers if isinstance(handler, EarlyRecords)]
    if file is None:
        log.addHandler(EarlyRecords())
    elif distributed.rank() == 0:
        handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        for record in [record for kept in early for record in kept.records]:
            handler.handle(record)
        log.addHandler(handler)
    for kept in early:
        log.removeHandler(kept)


def close_logging() -> None:
    """Close the log files; logging to the terminal continues."""
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        with suppress(OSError):  # a full disk
            handler.close()
