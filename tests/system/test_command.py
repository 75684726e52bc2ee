"""Programs end with at most one line on stderr and a documented exit code."""

import errno
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from torchlight.system import command


def program(source: str, *argv: str, **settings) -> subprocess.CompletedProcess:
    """Run a program in a process of its own, whose command line calls `act(argv)` of the source."""
    source = "import sys\nfrom torchlight.system import command\n" + textwrap.dedent(source)
    words = [sys.executable, "-c", source + "\nsys.exit(command.run(act))", *argv]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    settings = {"capture_output": True, "env": environment} | settings
    return subprocess.run(words, text=True, check=False, timeout=120, **settings)


def fail(error: BaseException):
    def act(argv):
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("x: expected 1, got 2"), 2, "error: x: expected 1, got 2"),
        (command.RunError("stopped"), 1, "error: stopped"),
        (command.Terminated("saved"), 143, "error: saved"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (MemoryError(), 1, "error: out of memory;"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, "error: out of memory;"),
        (ImportError("libx.so: failed to map segment from shared object"), 1, "error: out of memory;"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "error: out of memory;"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "error: x: cannot be written (No space"),
        (OSError(errno.EROFS, "Read-only file system", "x"), 1, "error: x: no permission (Read-only file system)"),
        (OSError(errno.EMFILE, "Too many open files"), 1, "error: Too many open files; raise the limit (ulimit -n)"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), 1, "error: the current folder no longer exists"),
        (KeyError("k"), 1, "error: internal error: KeyError: 'k'; --debug shows where"),
    ],
)  # fmt: skip
def test_every_error_has_a_line_and_an_exit_code(capsys, error, code, line):
    assert command.run(fail(error), []) == code
    found = capsys.readouterr().err
    assert found.startswith(line) and found.count("\n") == 1


def test_memory_that_numpy_and_torch_cannot_get_is_out_of_memory(capsys):
    for act in (lambda argv: np.zeros(2**50), lambda argv: torch.zeros(2**50)):
        assert command.run(act, []) == 1 and capsys.readouterr().err.startswith("error: out of memory")


def test_the_flag_debug_shows_the_traceback_and_is_not_an_argument_of_the_program(capsys):
    def act(argv):
        assert argv == ["--x"] and command.debug_requested()
        raise ValueError("wrong")

    assert command.run(act, ["--x", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert command.run(fail(ValueError("wrong")), []) == 2 and not command.debug_requested()
    assert "Traceback" not in capsys.readouterr().err


def test_a_sigterm_prints_one_line_and_ends_with_143_and_except_clauses_do_not_catch_it():
    source = """
        import os, signal, time
        def act(argv):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            except Exception:
                return 0
    """
    done = program(source)
    assert (done.returncode, done.stderr) == (143, "error: terminated by SIGTERM\n")


def test_a_process_that_is_forked_ends_by_sigterm_without_a_line():
    source = """
        import multiprocessing, time
        def act(argv):
            context = multiprocessing.get_context("fork")
            begun = context.Event()
            child = context.Process(target=lambda: (begun.set(), time.sleep(60)))
            child.start()
            begun.wait()
            child.terminate()
            child.join()
            assert child.exitcode == -15, child.exitcode
    """
    done = program(source)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_ends_a_program_without_a_line():
    reader, writer = os.pipe()
    os.close(reader)
    done = program("def act(argv): print('x')", stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, done.stderr) == (0, "")
    source = "def act(argv):\n    for _ in range(100000): print('x')"
    done = program(source, stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_output_that_cannot_be_written_to_disk_is_a_failure():
    with open("/dev/full", "w") as full:
        done = program("def act(argv): print('x')", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 1 and done.stderr.startswith("error: standard output: cannot be written (No space left")
    assert done.stderr.count("\n") == 1


def test_closed_standard_streams_have_no_effect(tmp_path):
    for closing in (">&-", "2>&-", "<&- >&- 2>&-"):
        source = "from torchlight.system import command; import sys; sys.exit(command.run(lambda argv: 0))"
        line = f"exec '{sys.executable}' -c '{source}' {closing}"
        assert subprocess.run(["sh", "-c", line], check=False, timeout=60).returncode == 0


def test_a_failure_during_the_import_of_a_program_is_a_one_line_error(capsys, monkeypatch):
    def interrupt(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.importlib, "import_module", interrupt)
    assert command.start("torchlight.commands.main") == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_text_that_the_terminal_cannot_show_is_escaped():
    done = program(
        "def act(argv): raise ValueError('caf\\u00e9 \\udc80')", env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 2 and done.stderr == "error: caf\\xe9 \\udc80\n"
