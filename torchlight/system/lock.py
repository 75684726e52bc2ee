"""A lock that lets one process at a time work in a folder."""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock
    fcntl = None

NAME = ".lock"


class FolderLock:
    """Exclusive lock on a folder; the operating system releases it when the process ends, however it ends.

    Raises:
        ValueError: another process holds the lock.
        OSError: the folder cannot be created or written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._descriptor: int | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        while fcntl is not None and self._descriptor is None:
            try:
                descriptor = os.open(self.folder / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            except FileNotFoundError:  # the holder removed the folder after it had finished
                self.folder.mkdir(parents=True, exist_ok=True)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
                os.close(descriptor)
                by = f"process {holder}" if holder.isdigit() else "another process"
                raise ValueError(
                    f"{self.folder}: in use by {by}; wait until it has finished, or choose another folder"
                ) from None
            except OSError:  # a file system without locks, some NFS mounts: work without
                self._descriptor = descriptor
                return
            if self._is_current(descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                self._descriptor = descriptor
            else:  # the holder removed the file between opening and locking
                os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        """Whether the lock file that was opened is still the one in the folder."""
        try:
            here, now = os.fstat(descriptor), os.stat(self.folder / NAME)
        except FileNotFoundError:
            return False
        return (here.st_dev, here.st_ino) == (now.st_dev, now.st_ino)

    def release(self) -> None:
        """Give the folder back and remove the lock file. The folder itself stays.

        If the folder was removed and another process has locked a new one of its name, that lock stays.
        """
        if self._descriptor is not None:
            if self._is_current(self._descriptor):
                (self.folder / NAME).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
