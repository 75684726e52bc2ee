"""Paths that are not regular files are refused with ValueError, and no descriptor stays open."""

import os

import pytest

from torchlight.system.files import open_regular, read_text


def test_folders_and_fifos_are_refused_without_waiting_or_leaking(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "fifo", "a FIFO"), ("/dev/zero", "a device")):
        with pytest.raises(ValueError, match=f"expected a regular file, got {kind}"), open_regular(path):
            pass
        with pytest.raises(ValueError, match="expected a regular file"):
            read_text(path)
    assert before is None or len(os.listdir("/proc/self/fd")) == before
