"""Locks between processes. The system takes them away when a process ends, however it does."""

from __future__ import annotations

from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Whether this system has locks; only then folders can be opened for one.
AVAILABLE = fcntl is not None


def lock(file: IO[bytes] | int, wait: bool = True) -> None:
    """Locks a file, open for writing, until it is closed.

    Where there are no locks (Windows, some network file systems) it does nothing: nobody is kept out there.

    Args:
        file: any open file, or the handle of a folder; NFS locks only those that are open for writing.
        wait: whether to wait for another process that has the lock.

    Raises:
        BlockingIOError: if another process has the lock and `wait` is False.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        # Others, such as ENOSYS, ENOLCK and EOPNOTSUPP, are of a file system without locks.
        if isinstance(error, BlockingIOError):
            raise
