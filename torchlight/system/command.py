"""Shared by all programs of this project: the argument parser, exit codes, and errors as one line on stderr instead of
a traceback.

Exit codes: 0 success, 1 the run or a part of it failed, 2 a mistake of the user, 130 interrupted, 143 terminated.
"""

import argparse
import errno
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchlight.system.text import printable, quote

log = logging.getLogger("torchlight")
SUCCESS, FAILED, USER_ERROR, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
MAX_NAME = 255  # bytes of one name in a path, on all usual file systems
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RunError(RuntimeError):
    """A run cannot continue. The message states what happened, what is saved and what to do."""


class Terminated(BaseException):
    """SIGTERM was received. Like KeyboardInterrupt, it is not an `Exception`, so that it is not handled as an error."""


class Parser(argparse.ArgumentParser):
    """ArgumentParser that raises ValueError instead of exiting, and accepts options with - and with _."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> typing.NoReturn:
        raise ValueError(f"command line: {message}; see {self.prog} --help")

    def option(self, name: str, *others: str, **settings: Any) -> None:
        """Add an option under these names, each with - and with _; `parser.option("work-dir")` becomes
        `args.work_dir`."""
        flags = {f"--{spelling}" for n in (name, *others) for spelling in (n, n.replace("-", "_"))}
        self.add_argument(*sorted(flags, key=lambda flag: flag != f"--{name}"), dest=name.replace("-", "_"), **settings)

    def switch(self, name: str, **settings: Any) -> None:
        """Add an option that takes true or false; without a value it is true. The default is false."""
        self.option(
            name, **{"type": boolean, "nargs": "?", "const": True, "default": False, "metavar": "true|false"} | settings
        )


def boolean(text: str) -> bool:
    """`true` or `false` on a command line."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def path(text: str) -> Path:
    """A path on the command line; raises ArgumentTypeError if a file system would not accept its names."""
    name = max(text.split("/"), key=lambda part: len(os.fsencode(part)))
    if "\0" in text or len(os.fsencode(name)) > MAX_NAME:
        raise argparse.ArgumentTypeError(f"expected names of at most {MAX_NAME} bytes without NUL, got {quote(name)}")
    return Path(text)


_debug = False  # whether the current command line contains --debug


def debug_requested() -> bool:
    """Whether the command line of this process contains --debug."""
    return _debug


def start(module: str) -> int:
    """Import a program's module and call its `main`; returns the exit code.

    Importing PyTorch takes a second or more. Errors and interrupts in this time are also printed as one line on stderr.
    """

    def act(_: list[str]) -> int:
        # raises OSError if the current folder was removed; libraries of PyTorch would abort the process
        os.getcwd()
        return importlib.import_module(module).main()

    return run(act)


def run(act: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; any error is printed as one line on stderr.

    `--debug` anywhere in `argv` also prints the traceback.
    """
    global _debug
    argv = list(sys.argv[1:] if argv is None else argv)
    _debug = "--debug" in argv
    try:
        with _raise_on_sigterm():
            code = act([word for word in argv if word != "--debug"]) or SUCCESS
            return _flush_output(code)
    except SystemExit as error:  # of argparse, after --help
        return _flush_output(error.code if isinstance(error.code, int) else SUCCESS if error.code is None else FAILED)
    except BrokenPipeError:  # the reader of the output has ended, for example `| head`
        _discard_output()
        return FAILED
    except (Exception, KeyboardInterrupt, Terminated) as error:
        message, code = describe(error)
        log.debug("", exc_info=error)
        if _debug:
            traceback.print_exc()
        complain(message, code, everywhere=getattr(error, "on_every_rank", False))
        return code


@contextmanager
def _raise_on_sigterm() -> Iterator[None]:
    """Make SIGTERM raise Terminated in this process; forked processes are terminated as usual."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def terminate(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() == process:
            raise Terminated("terminated by SIGTERM")
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
    words = ("can't allocate memory", "Cannot allocate memory", "not enough memory", "out of memory", "failed to map")
    kinds = (RuntimeError, ImportError, OSError)
    return isinstance(error, MemoryError) or (isinstance(error, kinds) and any(w in str(error) for w in words))


def explain_os_error(error: OSError) -> str:
    """One line for an error of the operating system, with advice if possible."""
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
    """Print each line of a message as an error.

    With several processes, mistakes of the user and errors raised on every rank are printed only by the first one.
    """
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


def _flush_output(code: int) -> int:
    """Flush stdout; returns `code`, or FAILED if it is larger and the output cannot be written."""
    if sys.stdout is None:  # closed by the caller
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):  # the work is complete; only its output has no reader
            return code
        complain(f"standard output: {explain_os_error(error)}", FAILED)
        return max(code, FAILED)
    return code


def _discard_output() -> None:
    """Discard buffered output to stdout, so that the interpreter does not fail when it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        pass
