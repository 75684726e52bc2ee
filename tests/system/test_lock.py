"""A folder is locked by one process at a time, and released however that process ends."""

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from torchlight.system import lock as lock_module
from torchlight.system.lock import NAME, FolderInUse, FolderLock

CONTEXT = multiprocessing.get_context("fork")
HOLD = (
    "import sys; from torchlight.system.lock import FolderLock; "
    "lock = FolderLock(sys.argv[1]); print('held', flush=True); input()"
)


def hold(folder: Path) -> subprocess.Popen:
    """Another process that holds the folder until it gets a line or is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_that_another_process_holds_is_refused_with_its_number_until_that_process_ends(tmp_path):
    process = hold(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(FolderInUse, match=f"in use by process {process.pid}; wait until it has finished"):
        FolderLock(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    process.communicate("\n")
    FolderLock(tmp_path).release()


def test_a_killed_process_holds_no_lock(tmp_path):
    process = hold(tmp_path)
    process.kill()
    process.wait()
    with FolderLock(tmp_path):
        assert (tmp_path / NAME).read_text() == f"{os.getpid()}\n"


def test_a_process_that_is_forked_while_the_folder_is_locked_does_not_hold_the_lock(tmp_path):
    lock, begun, event = FolderLock(tmp_path), CONTEXT.Event(), CONTEXT.Event()
    child = CONTEXT.Process(target=lambda: (begun.set(), event.wait()))
    child.start()
    begun.wait()
    os.close(lock._descriptor)  # as the death of this process would
    lock._descriptor = None
    try:
        FolderLock(tmp_path).release()
    finally:
        event.set()
        child.join()


def test_the_folder_only_changes_by_what_was_written_into_it(tmp_path):
    FolderLock(tmp_path / "a" / "b").release()
    assert not (tmp_path / "a").exists()
    with FolderLock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "mine").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def count_alone(folder: Path, times: int, failures) -> None:
    """Take the folder again and again, and look each time whether somebody else is in it."""
    for _ in range(times):
        try:
            with FolderLock(folder):
                try:
                    descriptor = os.open(folder.parent / "inside", os.O_CREAT | os.O_EXCL)
                except FileExistsError:
                    failures.value += 1
                    continue
                os.close(descriptor)
                (folder.parent / "inside").unlink()
        except FolderInUse:
            pass


def test_processes_that_lock_and_remove_a_folder_at_random_never_hold_it_together(tmp_path):
    failures = CONTEXT.Value("i", 0)
    processes = [CONTEXT.Process(target=count_alone, args=(tmp_path / "x" / "y", 100, failures)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert failures.value == 0 and all(process.exitcode == 0 for process in processes)


@pytest.mark.parametrize("place", ["file", "file/run", "/proc", "/proc/none", "n" * 300])
def test_a_path_that_cannot_be_a_folder_is_a_system_error_and_leaves_nothing(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"\[Errno \d+\]"):
        FolderLock(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_lock_error_can_be_sent_between_ranks(tmp_path):
    found = pickle.loads(pickle.dumps(FolderInUse(tmp_path, "process 5")))
    assert isinstance(found, ValueError) and "in use by process 5" in str(found)


def test_signals_of_these_tests_are_those_of_the_system():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_releasing_a_folder_that_was_replaced_leaves_the_lock_of_the_new_holder(tmp_path):
    folder = tmp_path / "work"
    first = FolderLock(folder)
    shutil.rmtree(folder)
    with FolderLock(folder):
        first.release()
        with pytest.raises(ValueError, match="in use"):
            FolderLock(folder)


def test_a_folder_that_is_removed_before_the_lock_file_is_opened_is_made_again(tmp_path, monkeypatch):
    folder, real = tmp_path / "work", lock_module.os.open

    def open_after_removal(*arguments):
        monkeypatch.setattr(lock_module.os, "open", real)
        shutil.rmtree(folder)
        return real(*arguments)

    monkeypatch.setattr(lock_module.os, "open", open_after_removal)
    with FolderLock(folder):
        assert (folder / NAME).is_file()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path):
    (tmp_path / NAME).symlink_to(tmp_path / "no folder" / "nothing")
    with pytest.raises(OSError):
        FolderLock(tmp_path)


def test_a_lock_file_that_its_holder_removes_before_it_is_locked_is_opened_again(tmp_path, monkeypatch):
    real = lock_module.fcntl.flock

    def flock_after_removal(descriptor, operation):
        monkeypatch.setattr(lock_module.fcntl, "flock", real)
        (tmp_path / NAME).unlink()
        real(descriptor, operation)

    monkeypatch.setattr(lock_module.fcntl, "flock", flock_after_removal)
    with FolderLock(tmp_path), pytest.raises(FolderInUse):
        FolderLock(tmp_path)
