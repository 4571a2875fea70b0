"""File locks between processes. The operating system releases a lock when its process ends, even after a crash."""

from __future__ import annotations

from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Whether this system has file locks. Without them, a folder cannot be opened to lock it.
AVAILABLE = fcntl is not None


def lock(file: IO[bytes] | int, wait: bool = True) -> None:
    """Lock a file until it is closed.

    On systems without locks (Windows, some network file systems) this does nothing, so other processes are not kept
    out.

    Args:
        file: an open file, or the handle of a folder. NFS locks only files that are open for writing.
        wait: whether to wait while another process holds the lock (default: True).

    Raises:
        BlockingIOError: if another process holds the lock and `wait` is False.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        # Other errors, such as ENOSYS, ENOLCK and EOPNOTSUPP, come from file systems without locks.
        if isinstance(error, BlockingIOError):
            raise
