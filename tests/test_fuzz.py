"""A short run of `python -m tests.fuzz`, and failures that it must detect."""

import os
import signal
import time

import pytest

from tests.fuzz import Format, fuzz
from tests.fuzz_formats import FORMATS

COUNT = 80


@pytest.mark.parametrize("name", FORMATS)
def test_every_damaged_file_is_read_or_refused_in_one_line(name):
    result = fuzz(name, FORMATS[name], range(COUNT), seed=0)
    assert not result.failures, result.failures
    assert sum(result.counts.values()) == COUNT and result.counts["refused"] > 25 and result.counts["read"] > 0


def content():
    return {"a": 1}


def write(tree, folder, rng):
    (folder / "file").write_text(repr(tree))


def reader(act):
    """A reader that acts on everything but the valid content."""
    return Format(content, write, lambda folder: (folder / "file").read_bytes() == b"{'a': 1}" or act())


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def fail():
    raise TypeError("unhashable")


def speak():
    raise ValueError("two\nlines")


@pytest.mark.parametrize(
    "act, seconds, message",
    [
        (crash, 300, "exit code -11"),
        (fail, 300, "TypeError: unhashable"),
        (speak, 300, "message of several lines"),
        (lambda: bytearray(2**40), 300, "MemoryError"),
        (lambda: time.sleep(3600), 1, "no result within 1 s"),
    ],
)
def test_crashes_hangs_and_other_exceptions_are_failures(act, seconds, message):
    result = fuzz("own", reader(act), range(2), seed=0, seconds=seconds)
    assert len(result.failures) == 2 and sum(result.counts.values()) == 2
    assert all(message in text for _, text in result.failures), result.failures
