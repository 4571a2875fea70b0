"""Atomic writing: files are written under temporary names in the same folder, then renamed."""

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
# Bytes that every file system allows in a name. A temporary name is no longer than this, or than the final name.
SHORT_NAME = 64
RANDOM_LETTERS, DIGEST_LETTERS = 8, 8


class AtomicFiles:
    """A set of files that are written all together or not at all. Use it as a context manager.

    Until `commit`, the files have hidden temporary names in their own folders. Without `commit`, existing files stay
    as they were. The temporary files, and folders that were created for them, are then removed.

    Args:
        paths: final paths of the files.
        overwrite: whether `commit` may replace existing files (default: True).
        keep: if `overwrite` is False, whether existing files are kept and only the missing files are written, instead
            of an error (default: False).

    Attributes:
        temporary: final path -> temporary file to write to.
        kept: final paths of existing files that were kept.
    """

    def __init__(self, paths: Iterable[Path], overwrite: bool = True, keep: bool = False) -> None:
        self._paths, self._overwrite, self._keep = list(paths), overwrite, keep
        self.temporary: dict[Path, Path] = {}
        self.kept: list[Path] = []
        self._made_folders: list[Path] = []

    def __enter__(self) -> AtomicFiles:
        try:
            for path in self._paths:
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
                self._made_folders += make_folder(path.parent)
                handle, self.temporary[path] = open_temporary(path)
                os.close(handle)
        except BaseException:
            self.__exit__()
            raise
        return self

    def commit(self) -> None:
        """Rename all files to their final names, or change nothing.

        Raises:
            FileExistsError: if a file exists and neither `overwrite` nor `keep` is set.
        """
        for temporary in self.temporary.values():
            _flush(temporary)
        with contextlib.ExitStack() as stack:
            for folder in sorted({path.parent for path in self.temporary}):
                stack.enter_context(_locked(folder))
            if self._overwrite:
                _replace_all(self.temporary)
            else:
                self.kept = _rename_all(self.temporary, self._keep)
        temporaries, self.temporary, self._made_folders = self.temporary, {}, []
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        for temporary in self.temporary.values():
            temporary.unlink(missing_ok=True)
        remove_empty(self._made_folders)


def write_together(writes: Mapping[Path, Write]) -> None:
    """Write several files all together or not at all. Existing files are replaced.

    If a function raises an error, no file changes, and the caller gets the error.

    Args:
        writes: final path -> function that writes the file to the temporary path that it is called with.
    """
    with AtomicFiles(writes) as files:
        for path, write in writes.items():
            temporary = files.temporary[path]
            mode = temporary.stat().st_mode
            write(temporary)
            # safetensors 0.8 puts a file in its place that only the owner can read.
            if temporary.stat().st_mode != mode:
                temporary.chmod(mode)
        files.commit()


def _rename_all(temporary: Mapping[Path, Path], keep: bool) -> list[Path]:
    """Rename all files or none, without replacing existing files. With `keep`, skip existing names and return them."""
    named: list[Path] = []
    taken: list[Path] = []
    try:
        for path, source in temporary.items():
            try:
                rename_without_replacing(source, path)
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


def _replace_all(temporary: Mapping[Path, Path]) -> None:
    """Rename all files or none, replacing existing files. If one cannot be replaced, restore the old files."""
    backups: dict[Path, Path] = {}
    new: list[Path] = []
    try:
        for path, source in temporary.items():
            # A single file needs no backup, because a rename is atomic.
            if len(temporary) > 1 and os.path.lexists(path):
                backups[path] = _temporary_path(path)
                _back_up(path, backups[path])
            source.replace(path)
            if path not in backups:
                new.append(path)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        for path, old in backups.items():
            with contextlib.suppress(OSError):
                old.replace(path)
                old.unlink(missing_ok=True)  # a rename does nothing if both names are links to one file
        raise
    for old in backups.values():
        old.unlink(missing_ok=True)


def _back_up(path: Path, old: Path) -> None:
    """Add a hard link `old` to a file. Rename the file to `old` if the file system has no hard links."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        os.link(path, old, follow_symlinks=False)
    except (OSError, NotImplementedError):
        path.rename(old)


def rename_without_replacing(temporary: Path, path: Path) -> None:
    """Rename a file, but never replace another file, not even a file that another process creates at this moment."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(temporary), None, str(path)) from None
        temporary.rename(path)
        return
    temporary.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that use this lock, so that the files of two runs are not mixed."""
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
    """Flush a file to the disk. If the rename reached the disk first, a power failure would leave an empty file."""
    with path.open("rb+") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())


def open_temporary(path: Path) -> tuple[int, Path]:
    """Create a temporary file in the folder of `path`.

    The file has the usual permissions of a new file. The operating system applies the umask. A process cannot read its
    umask without changing it for all of its threads.

    Returns:
        Open handle of the file, and its path.
    """
    while True:
        temporary = _temporary_path(path)
        try:
            return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), temporary
        except FileExistsError:
            continue


def remove_unfinished(path: Path) -> None:
    """Remove temporary files for `path` that a killed process left behind."""
    prefix = glob.escape(_temporary_prefix(path))
    for temporary in path.parent.glob(f"{prefix}*{glob.escape(path.suffix)}"):
        temporary.unlink(missing_ok=True)


def _temporary_path(path: Path) -> Path:
    """Return an unused, hidden path in the folder of `path`, with the same suffix."""
    return path.with_name(_temporary_prefix(path) + secrets.token_hex(RANDOM_LETTERS // 2) + path.suffix)


def _temporary_prefix(path: Path) -> str:
    """Return the prefix of all temporary names for `path`. A long name is cut, and a digest replaces the rest."""
    longest = max(SHORT_NAME, len(os.fsencode(path.name)))
    room = longest - len(os.fsencode(path.suffix)) - RANDOM_LETTERS - len("..")
    if len(os.fsencode(path.stem)) <= room:
        return f".{path.stem}."
    stem, digest = path.stem, hashlib.sha256(os.fsencode(path.name)).hexdigest()[:DIGEST_LETTERS]
    while stem and len(os.fsencode(stem)) + len(digest) + 1 > room:
        stem = stem[:-1]
    return f".{stem}-{digest}."


def make_folder(folder: Path) -> list[Path]:
    """Create a folder and its parent folders, all or none. Return the folders that did not exist."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        remove_empty(missing)
        raise
    return missing


def remove_empty(made: list[Path]) -> None:
    """Remove empty folders that `make_folder` created, or failed to create. Folders with content stay."""
    for folder in reversed(made):
        with contextlib.suppress(OSError):
            folder.rmdir()
