"""Files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

Write = Callable[[Path], object]


def write_together(writes: Mapping[Path, Write]) -> None:
    """Calls each function with a temporary path beside its file; when all are written, renames them.

    If one fails, what was there before is still there, nothing is left behind, folders made for the files
    included, and the error goes on to the caller. Existing files are replaced.
    """
    temporaries: dict[Path, Path] = {}
    made: list[Path] = []
    try:
        for path, write in writes.items():
            if path.is_dir():
                raise IsADirectoryError(21, "Is a directory", str(path))
            made += make_folder(path.parent)
            handle, temporaries[path] = open_beside(path)
            os.close(handle)
            write(temporaries[path])
            _flush(temporaries[path])
            make_readable(temporaries[path])
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except BaseException:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
        remove_empty(made)
        raise


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
