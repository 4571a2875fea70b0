"""Files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

Write = Callable[[Path], object]


class Together:
    """Files that appear together or not at all: a context manager.

    Until `appear` they have hidden names beside their own. If it is never called, what was there before is still
    there, and nothing is left behind, folders made for the files included.

    Args:
        paths: where they will be.
        overwrite: whether they may replace files that are there then.

    Attributes:
        hidden: each path -> where to write for it.
    """

    def __init__(self, paths: Iterable[Path], overwrite: bool = True) -> None:
        self._paths, self._overwrite = list(paths), overwrite
        self.hidden: dict[Path, Path] = {}
        self._made: list[Path] = []

    def __enter__(self) -> Together:
        try:
            for path in self._paths:
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
                self._made += make_folder(path.parent)
                handle, self.hidden[path] = open_beside(path)
                os.close(handle)
        except BaseException:
            self.__exit__()
            raise
        return self

    def appear(self) -> None:
        """Gives the files their names. Raises `FileExistsError` if one is there that may not be replaced."""
        for hidden in self.hidden.values():
            _flush(hidden)
            make_readable(hidden)
        named: list[Path] = []
        with contextlib.ExitStack() as stack:
            for folder in sorted({path.parent for path in self.hidden}):
                stack.enter_context(_locked(folder))
            try:
                for path, hidden in self.hidden.items():
                    if self._overwrite:
                        hidden.replace(path)
                    else:
                        name_new(hidden, path)
                        named.append(path)
            except BaseException:
                for path in named:
                    path.unlink()
                raise
        self.hidden, self._made = {}, []

    def __exit__(self, *_: object) -> None:
        for hidden in self.hidden.values():
            hidden.unlink(missing_ok=True)
        remove_empty(self._made)


def write_together(writes: Mapping[Path, Write]) -> None:
    """Calls each function with a temporary path beside its file; when all are written, renames them.

    If one fails, nothing has changed, and the error goes on to the caller. Existing files are replaced.
    """
    with Together(writes) as together:
        for path, write in writes.items():
            write(together.hidden[path])
        together.appear()


def name_new(hidden: Path, path: Path) -> None:
    """Renames, but never onto another file, also one that somebody makes at this moment."""
    try:
        os.link(hidden, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(hidden), None, str(path)) from None
        hidden.rename(path)
        return
    hidden.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps others who do so out of a folder, so that the files of two runs are not mixed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    """To the disk itself: a file whose name got there before its content would be empty after a power failure."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def open_beside(path: Path) -> tuple[int, Path]:
    """A new file with a hidden name beside `path`, to be renamed when it may be seen: its handle and its path."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    return handle, Path(name)


def remove_unfinished(path: Path) -> None:
    """Removes what a process that was killed had begun to write in the place of `path`."""
    for temporary in path.parent.glob(f".{glob.escape(path.stem)}.*{glob.escape(path.suffix)}"):
        temporary.unlink(missing_ok=True)


def make_readable(path: Path) -> None:
    """Gives a file the permissions of any new file: `tempfile` makes them for their owner's eyes only."""
    path.chmod(0o666 & ~_umask())


def make_folder(folder: Path) -> list[Path]:
    """Makes a folder and those above it, all or none; returns the ones that were not there."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(made: list[Path]) -> None:
    """Removes folders that `make_folder` made or was to make, unless there is something in them."""
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
