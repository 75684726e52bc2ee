"""What all programs of this project share: the argument parser, exit codes, and one line on stderr instead of a traceback.

Exit codes: 0 success, 1 a run failed or part of the work failed, 2 a mistake in what was given, 130 interrupted, 143 terminated.
"""

import argparse
import errno
import logging
import os
import sys
import traceback
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torchlight.system.text import printable, quote

log = logging.getLogger("torchlight")
SUCCESS, FAILED, USER_ERROR, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
MAX_NAME = 255  # bytes of one name in a path, on all usual file systems
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RunError(RuntimeError):
    """A run cannot continue; the text says what happened, what is left and what to do."""


class Terminated(Exception):
    """SIGTERM was received and everything is saved."""


class Parser(argparse.ArgumentParser):
    """ArgumentParser that raises ValueError instead of exiting, and knows options with - and with _."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> typing.NoReturn:
        raise ValueError(f"command line: {message}; see {self.prog} --help")

    def option(self, name: str, *others: str, **settings: Any) -> None:
        """Add an option under these names, each with - and with _; `parser.option("work-dir")` becomes `args.work_dir`."""
        flags = {f"--{spelling}" for n in (name, *others) for spelling in (n, n.replace("-", "_"))}
        self.add_argument(*sorted(flags, key=lambda flag: flag != f"--{name}"), dest=name.replace("-", "_"), **settings)

    def switch(self, name: str, **settings: Any) -> None:
        """Add an option that takes true or false, or nothing for true; false by default."""
        self.option(
            name, **{"type": boolean, "nargs": "?", "const": True, "default": False, "metavar": "true|false"} | settings
        )


def boolean(text: str) -> bool:
    """`true` or `false` on a command line."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def path(text: str) -> Path:
    """A path on a command line, whose names a file system accepts."""
    name = max(text.split("/"), key=lambda part: len(os.fsencode(part)))
    if "\0" in text or len(os.fsencode(name)) > MAX_NAME:
        raise argparse.ArgumentTypeError(f"expected names of at most {MAX_NAME} bytes without NUL, got {quote(name)}")
    return Path(text)


def run(act: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; whatever goes wrong becomes one line on stderr.

    `--debug` anywhere in `argv` also prints the traceback.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    try:
        code = act([word for word in argv if word != "--debug"]) or SUCCESS
        if sys.stdout is not None:  # None: it was closed before the start
            sys.stdout.flush()
        return code
    except SystemExit as error:  # of argparse, after --help
        return error.code if isinstance(error.code, int) else FAILED
    except BrokenPipeError:  # the reader of the output left, for example `| head`
        _discard_output()
        return FAILED
    except (Exception, KeyboardInterrupt) as error:
        message, code = describe(error)
        log.debug("", exc_info=error)
        if debug:
            traceback.print_exc()
        complain(message, code, everywhere=getattr(error, "on_every_rank", False))
        return code


def describe(error: BaseException) -> tuple[str, int]:
    """The message and the exit code of an exception that ended a program."""
    text = str(error)
    if isinstance(error, KeyboardInterrupt):
        return text or "interrupted", INTERRUPTED
    if isinstance(error, Terminated):
        return text, TERMINATED
    if isinstance(error, RunError):
        return text, FAILED
    if isinstance(error, UnicodeEncodeError):
        return f"the text {error.object[error.start : error.end]!r} cannot be written in {error.encoding}", USER_ERROR
    if isinstance(error, ValueError):
        return text, USER_ERROR
    if is_out_of_memory(error):
        return "out of memory; use a smaller batch_size, fewer workers or less data at a time", FAILED
    if isinstance(error, OSError):
        return explain_os_error(error), FAILED
    first = text.splitlines()[0] if text else ""
    return f"internal error: {type(error).__name__}: {first}; --debug shows where; please report it", FAILED


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in Python, NumPy or PyTorch."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def explain_os_error(error: OSError) -> str:
    """One line for an error of the operating system, with what to do where that is known."""
    where = f"{error.filename}: " if error.filename is not None else ""
    reason = error.strerror or str(error)
    if error.errno in NO_SPACE:
        return f"{where}cannot be written ({reason}); free some space or choose another folder"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{where}no permission ({reason}); choose another folder"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{where}{reason}; raise the limit (ulimit -n) or use fewer workers (num_worker)"
    if error.errno == errno.ENOENT and not where:
        return "the current folder no longer exists; change to another one"
    return f"{where}{reason}"


def complain(message: str, code: int, everywhere: bool = False) -> None:
    """Print each line of a message as an error. Of several processes the first one prints what all of them found."""
    rank = os.environ.get("RANK", "0")
    alone = code == FAILED and not everywhere
    if rank == "0" or alone:
        begin = "error:" if rank == "0" else f"error: process {rank}:"
        text = "\n".join(f"{begin} {printable(line)}" for line in message.splitlines() or [""])
        try:
            print(
                text.encode(sys.stderr.encoding or "utf-8", "backslashreplace").decode(sys.stderr.encoding or "utf-8"),
                file=sys.stderr,
            )
        except (OSError, ValueError, AttributeError):  # stderr is closed
            pass


def _discard_output() -> None:
    """Send what is still buffered for stdout to nowhere, so that the interpreter does not fail while it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
