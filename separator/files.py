"""Files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import os
import sys
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
            made += _make_folder(path.parent)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
            os.close(handle)
            temporaries[path] = Path(name)
            write(Path(name))
            make_readable(Path(name))
        for path, temporary in temporaries.items():
            temporary.replace(path)
    except BaseException:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # somebody else put something there
                folder.rmdir()
        raise


def give_up_standard_output() -> None:
    """Sends what Python still holds for it nowhere; it would try once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_readable(path: Path) -> None:
    """Gives a file the permissions of any new file: `tempfile` makes them for their owner's eyes only."""
    path.chmod(0o666 & ~_umask())


def _make_folder(folder: Path) -> list[Path]:
    """Makes a folder and those above it; returns the ones that were not there."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
