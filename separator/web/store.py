"""Files of visitors. Each job has a folder with an unguessable name, which is deleted after an hour.

Uploads first go to one common folder. A job then takes its files from there.
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
from separator.io.formats import SUFFIXES

# Number of random bytes in a folder's name.
TOKEN_BYTES = 16
NO_SPACE = "The server does not have enough memory or disk space."
NO_UPLOAD = "Only uploaded files can be separated."
TOKEN = re.compile(r"[\w-]{20,}")


class Store:
    """Folders of visitors. Closing the store removes all of them.

    Args:
        age_seconds: time after which files are deleted. Default: 3600.

    Attributes:
        root: folder of all folders.
        uploads: folder of uploads.
    """

    def __init__(self, age_seconds: float = 3600.0) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="separator-web-"))
        self.uploads = self.root / "uploads"
        self.uploads.mkdir(mode=0o700)
        self.age_seconds = age_seconds
        self._closed = threading.Event()
        threading.Thread(target=self._sweep_always, daemon=True, name="sweep").start()

    def new(self) -> Path:
        """Create a folder for a visitor. Whoever knows its name can see its contents."""
        folder = self.root / secrets.token_urlsafe(TOKEN_BYTES)
        folder.mkdir(mode=0o700)
        return folder

    def is_upload(self, path: str | Path) -> bool:
        """Return whether a path is that of an upload."""
        return Path(path).resolve().is_relative_to(self.uploads.resolve())

    def keep(self, upload: str | Path, folder: Path, number: int) -> Path:
        """Link or copy an upload into a visitor's folder. Of its own name, only a known extension is kept.

        Raises:
            ConfigError: if the file is not an upload, no longer exists, or does not fit on the disk.
        """
        if not self.is_upload(upload):
            raise ConfigError(NO_UPLOAD)
        suffix = Path(upload).suffix.lower()
        path = folder / f"recording{number}{suffix if suffix in SUFFIXES else ''}"
        try:
            try:
                os.link(upload, path)
            except OSError:  # the folders are on different disks
                shutil.copyfile(upload, path)
        except FileNotFoundError as error:
            raise ConfigError("Uploads are deleted after an hour. Please upload the recording again.") from error
        except OSError as error:
            raise ConfigError(NO_SPACE) from error
        return path

    def find(self, token: str) -> Path | None:
        """Return a visitor's folder. None if the name is invalid or the folder no longer exists."""
        folder = self.root / token
        return folder if TOKEN.fullmatch(token) and folder.is_dir() else None

    def discard(self, folder: Path) -> None:
        """Remove a folder and its contents."""
        shutil.rmtree(folder, ignore_errors=True)

    def touch(self, folder: Path) -> None:
        """Restart the time until a folder is deleted, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(folder)

    def sweep(self) -> None:
        """Remove folders and uploads that are too old."""
        for folder in self.root.iterdir():
            if folder != self.uploads and self._is_old(folder):
                self.discard(folder)
        for path in sorted(self.uploads.rglob("*"), reverse=True):  # contents of a folder before the folder
            with contextlib.suppress(OSError):
                if self._is_old(path):
                    path.rmdir() if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Remove everything."""
        self._closed.set()
        shutil.rmtree(self.root, ignore_errors=True)

    def _is_old(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime > self.age_seconds
        return False

    def _sweep_always(self) -> None:
        while not self._closed.wait(min(60.0, self.age_seconds / 4)):
            self.sweep()
