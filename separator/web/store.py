"""Visitors' files: a folder for each piece of work, under a name that nobody can guess, for an hour at most.

What is uploaded comes first to a folder of all, from where a piece of work takes what is its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path

from separator.errors import ConfigError
from separator.io import find_recordings

# A folder's name, in bytes of randomness.
TOKEN_BYTES = 16
NO_ROOM = "There is no room for it on this machine any more."
NO_UPLOAD = "Only what was uploaded can be separated."
TOKEN = re.compile(r"[\w-]{20,}")


class Store:
    """Folders of visitors. All are gone when it is closed.

    Args:
        age_seconds: how long what a visitor left is kept.

    Attributes:
        uploads: where uploads come to.
    """

    def __init__(self, age_seconds: float = 3600.0) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="separator-web-"))
        self.uploads = self.root / "uploads"
        self.uploads.mkdir(mode=0o700)
        self.age_seconds = age_seconds
        self._closed = threading.Event()
        threading.Thread(target=self._sweep_always, daemon=True, name="sweep").start()

    def new(self) -> Path:
        """A folder of a visitor's own; its name is all that is needed to see what is in it."""
        folder = self.root / secrets.token_urlsafe(TOKEN_BYTES)
        folder.mkdir(mode=0o700)
        return folder

    def is_upload(self, path: str | Path) -> bool:
        """Whether a path is one that an upload came to."""
        return Path(path).resolve().is_relative_to(self.uploads.resolve())

    def keep(self, upload: str | Path, folder: Path, number: int) -> Path:
        """A visitor's file in a folder, under a name of ours; of its own only an ending that is known stays.

        Raises:
            ConfigError: if it was not uploaded, or is not there any more.
        """
        if not self.is_upload(upload):
            raise ConfigError(NO_UPLOAD)
        suffix = Path(upload).suffix.lower()
        path = folder / f"recording{number}{suffix if suffix in find_recordings.SUFFIXES else ''}"
        try:
            try:
                os.link(upload, path)
            except OSError:  # to another disk
                shutil.copyfile(upload, path)
        except FileNotFoundError as error:
            raise ConfigError("What was uploaded is kept for an hour. Please drop it again.") from error
        except OSError as error:
            raise ConfigError(NO_ROOM) from error
        return path

    def find(self, token: str) -> Path | None:
        """A visitor's folder; None if there is none, or it is too old."""
        folder = self.root / token
        return folder if TOKEN.fullmatch(token) and folder.is_dir() else None

    def discard(self, folder: Path) -> None:
        """Removes a folder and what is in it."""
        shutil.rmtree(folder, ignore_errors=True)

    def touch(self, folder: Path) -> None:
        """Begins the time of a folder anew, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(folder)

    def sweep(self) -> None:
        """Removes what is too old."""
        for folder in self.root.iterdir():
            if folder != self.uploads and self._is_old(folder):
                self.discard(folder)
        for path in sorted(self.uploads.rglob("*"), reverse=True):  # what is in a folder before the folder
            with contextlib.suppress(OSError):
                if self._is_old(path):
                    path.rmdir() if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Removes everything."""
        self._closed.set()
        shutil.rmtree(self.root, ignore_errors=True)

    def _is_old(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime > self.age_seconds
        return False

    def _sweep_always(self) -> None:
        while not self._closed.wait(min(60.0, self.age_seconds / 4)):
            self.sweep()
