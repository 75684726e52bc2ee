"""A lock that lets one process at a time work in a folder."""

import os
import stat
import weakref
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock
    fcntl = None

NAME = ".lock"
ATTEMPTS = 1000  # to lock a file that its holder removes at the same moment


class FolderInUse(ValueError):
    """Another process is using a folder; `holder` describes this process."""

    def __init__(self, folder: Path, holder: str):
        self.holder = holder
        super().__init__(f"{folder}: in use by {holder}; wait until it has finished, or choose another folder")

    def __reduce__(self) -> tuple:  # the error of one rank is raised on all ranks
        return ValueError, (str(self),)


class FolderLock:
    """Exclusive lock on a folder, which is created if it is missing.

    The operating system releases the lock when the process ends, even if it is killed. Forked processes, such as data
    workers, do not hold the lock.

    Raises:
        FolderInUse: another process holds the lock.
        OSError: the folder cannot be created or written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._descriptor: int | None = None
        self._created: list[Path] = []
        try:
            for attempt in range(ATTEMPTS if fcntl is not None else 0):
                self._descriptor = self._try(last=attempt == ATTEMPTS - 1)
                if self._descriptor is not None:
                    break
            if fcntl is not None and self._descriptor is None:
                raise FolderInUse(self.folder, "other processes")
        except (OSError, ValueError):
            self._remove_folders()
            raise
        _held.add(self)

    def _try(self, last: bool) -> int | None:
        """The descriptor of the locked file; None if the holder removed the file or the folder meanwhile."""
        try:
            self._create_folders()
            descriptor = os.open(self.folder / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # also in places such as /proc, where nothing can be created
            if last:
                raise
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise FolderInUse(self.folder, f"process {holder}" if holder.isdigit() else "another process") from None
        except OSError:  # a file system without locks, such as some NFS mounts: continue without a lock
            return descriptor
        if not self._is_current(descriptor):
            os.close(descriptor)
            return None
        with suppress(OSError):  # a full disk: the process number is only used in messages
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def _create_folders(self) -> None:
        """Create the folder and its missing parents, and record which of them were created."""
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        for path in reversed(missing):
            try:
                path.mkdir()
                if path not in self._created:
                    self._created.append(path)
            except FileExistsError:  # another process was faster
                pass
        with suppress(FileNotFoundError):  # another process may remove the folder at any time
            if missing and not stat.S_ISDIR(self.folder.stat().st_mode):
                raise NotADirectoryError(20, "Not a directory", str(self.folder))

    def _remove_folders(self) -> None:
        """Remove the folders that were created here, unless they contain files."""
        with suppress(OSError):
            while self._created:
                self._created.pop().rmdir()

    def _is_current(self, descriptor: int) -> bool:
        """Whether the lock file that was opened is still the one in the folder."""
        try:
            here, now = os.fstat(descriptor), os.stat(self.folder / NAME)
        except FileNotFoundError:
            return False
        return (here.st_dev, here.st_ino) == (now.st_dev, now.st_ino)

    def release(self) -> None:
        """Release the lock: remove the lock file, and the folders that the lock created if they are still empty.

        If the folder was removed and another process has locked a new folder of the same name, that lock is kept.
        """
        if self._descriptor is not None:
            with suppress(OSError):  # the folder became read-only
                if self._is_current(self._descriptor):
                    (self.folder / NAME).unlink(missing_ok=True)
            self._leave()
            self._remove_folders()

    def _leave(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_held: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


def _leave_all() -> None:
    for lock in list(_held):
        lock._leave()


if hasattr(os, "register_at_fork"):  # a worker that outlives its killed parent must not keep the lock
    os.register_at_fork(after_in_child=_leave_all)
