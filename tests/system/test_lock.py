"""A lock on a folder: one holder at a time, and nothing left behind."""

import shutil

import pytest

from torchlight.system import lock
from torchlight.system.lock import FolderLock


def test_a_second_holder_is_refused_and_named_until_the_first_releases(tmp_path):
    with FolderLock(tmp_path / "work"):
        with pytest.raises(ValueError, match=r"work: in use by process \d+; wait"):
            FolderLock(tmp_path / "work")
    with FolderLock(tmp_path / "work"):
        pass
    assert list((tmp_path / "work").iterdir()) == []


def test_a_lock_file_of_a_process_that_was_killed_does_not_block(tmp_path):
    (tmp_path / lock.NAME).write_text("123\n")
    with FolderLock(tmp_path):
        assert (tmp_path / lock.NAME).read_text() != "123\n"


def test_releasing_a_folder_that_was_replaced_leaves_the_lock_of_the_new_holder(tmp_path):
    folder = tmp_path / "work"
    first = FolderLock(folder)
    shutil.rmtree(folder)
    with FolderLock(folder):
        first.release()
        with pytest.raises(ValueError, match="in use"):
            FolderLock(folder)


def test_a_folder_that_is_removed_before_the_lock_file_is_opened_is_made_again(tmp_path, monkeypatch):
    folder, real = tmp_path / "work", lock.os.open

    def open_after_removal(*arguments):
        monkeypatch.setattr(lock.os, "open", real)
        shutil.rmtree(folder)
        return real(*arguments)

    monkeypatch.setattr(lock.os, "open", open_after_removal)
    with FolderLock(folder):
        assert (folder / lock.NAME).is_file()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path):
    (tmp_path / lock.NAME).symlink_to(tmp_path / "no folder" / "nothing")
    with pytest.raises(OSError):
        FolderLock(tmp_path)
