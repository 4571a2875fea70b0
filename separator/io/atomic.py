"""Files that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from separator.io import locks

Write = Callable[[Path], object]
# Bytes that any file system takes in a name. A hidden name is no longer than this, or than the name that it stands for.
SHORT_NAME = 64
RANDOM_LETTERS, DIGEST_LETTERS = 8, 8


class Together:
    """Files that appear together or not at all: a context manager.

    Until `appear` they have hidden names beside their own. If it is never called, what was there before is still
    there, and nothing is left behind, folders made for the files included.

    Args:
        paths: where they will be.
        overwrite: whether they may replace files that are there then.
        keep: whether files that are there then stay, and only the others appear.

    Attributes:
        hidden: each path -> where to write for it.
        kept: paths of the files that were there and stayed.
    """

    def __init__(self, paths: Iterable[Path], overwrite: bool = True, keep: bool = False) -> None:
        self._paths, self._overwrite, self._keep = list(paths), overwrite, keep
        self.hidden: dict[Path, Path] = {}
        self.kept: list[Path] = []
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
        """Gives the files their names, or leaves everything as it was.

        Raises:
            FileExistsError: if a file is there that may neither be replaced nor stay.
        """
        for hidden in self.hidden.values():
            _flush(hidden)
        with contextlib.ExitStack() as stack:
            for folder in sorted({path.parent for path in self.hidden}):
                stack.enter_context(_locked(folder))
            if self._overwrite:
                _replace_all(self.hidden)
            else:
                self.kept = _name_all(self.hidden, self._keep)
        left, self.hidden, self._made = self.hidden, {}, []
        for hidden in left.values():
            hidden.unlink(missing_ok=True)

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


def _name_all(hidden: Mapping[Path, Path], keep: bool) -> list[Path]:
    """Gives new files their names, all or none. With `keep`, names that are taken are left out, and returned."""
    named: list[Path] = []
    taken: list[Path] = []
    try:
        for path, source in hidden.items():
            try:
                name_new(source, path)
            except FileExistsError:
                if not keep:
                    raise
                taken.append(path)
            else:
                named.append(path)
    except BaseException:
        for path in named:
            path.unlink()
        raise
    return taken


def _replace_all(hidden: Mapping[Path, Path]) -> None:
    """Gives files their names, all or none. The old files are put back if one cannot be replaced."""
    aside: dict[Path, Path] = {}
    new: list[Path] = []
    try:
        for path, source in hidden.items():
            # A single rename is all or nothing by itself.
            if len(hidden) > 1 and os.path.lexists(path):
                aside[path] = _hidden_name(path)
                _put_aside(path, aside[path])
            source.replace(path)
            if path not in aside:
                new.append(path)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        for path, old in aside.items():
            with contextlib.suppress(OSError):
                old.replace(path)
                old.unlink(missing_ok=True)  # a rename between two names of one file does nothing
        raise
    for old in aside.values():
        old.unlink(missing_ok=True)


def _put_aside(path: Path, old: Path) -> None:
    """Gives a file a second name; the only one where the file system has no hard links."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        os.link(path, old, follow_symlinks=False)
    except (OSError, NotImplementedError):
        path.rename(old)


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
    if not locks.AVAILABLE:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        locks.lock(handle)
        yield
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    """To the disk itself: a file whose name got there before its content would be empty after a power failure."""
    with path.open("rb+") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def open_beside(path: Path) -> tuple[int, Path]:
    """A new file with a hidden name beside `path`, to be renamed when it may be seen: its handle and its path.

    It has the permissions of any new file. The system applies the umask, which a process cannot read without changing
    it for all of its threads.
    """
    while True:
        hidden = _hidden_name(path)
        try:
            return os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), hidden
        except FileExistsError:
            continue


def remove_unfinished(path: Path) -> None:
    """Removes what a process that was killed had begun to write in the place of `path`."""
    begin = glob.escape(_hidden_begin(path))
    for temporary in path.parent.glob(f"{begin}*{glob.escape(path.suffix)}"):
        temporary.unlink(missing_ok=True)


def _hidden_name(path: Path) -> Path:
    """A hidden name beside `path` that nobody else has, with the same suffix."""
    return path.with_name(_hidden_begin(path) + secrets.token_hex(RANDOM_LETTERS // 2) + path.suffix)


def _hidden_begin(path: Path) -> str:
    """What all hidden names for `path` begin with. A long name is cut, and a digest stands for the rest."""
    longest = max(SHORT_NAME, len(os.fsencode(path.name)))
    room = longest - len(os.fsencode(path.suffix)) - RANDOM_LETTERS - len("..")
    if len(os.fsencode(path.stem)) <= room:
        return f".{path.stem}."
    stem, digest = path.stem, hashlib.sha256(os.fsencode(path.name)).hexdigest()[:DIGEST_LETTERS]
    while stem and len(os.fsencode(stem)) + len(digest) + 1 > room:
        stem = stem[:-1]
    return f".{stem}-{digest}."


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
