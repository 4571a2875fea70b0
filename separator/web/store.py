"""Visitors' files: a folder for each piece of work, under a name that nobody can guess, for an hour at most."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path

from separator import inputs

# A folder's name, in bytes of randomness.
TOKEN_BYTES = 16
TOKEN = re.compile(r"[\w-]{20,}")


class Store:
    """Folders of visitors. All are gone when it is closed.

    Args:
        age_seconds: how long what a visitor left is kept.
    """

    def __init__(self, age_seconds: float = 3600.0) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="separator-web-"))
        self.age_seconds = age_seconds
        self._closed = threading.Event()
        threading.Thread(target=self._sweep_always, daemon=True, name="sweep").start()

    def new(self) -> Path:
        """A folder of a visitor's own; its name is all that is needed to see what is in it."""
        folder = self.root / secrets.token_urlsafe(TOKEN_BYTES)
        folder.mkdir(mode=0o700)
        return folder

    def keep(self, upload: str | Path, folder: Path, number: int) -> Path:
        """A visitor's file in a folder, under a name of ours; of its own only an ending that is known stays."""
        suffix = Path(upload).suffix.lower()
        path = folder / f"recording{number}{suffix if suffix in inputs.SUFFIXES else ''}"
        try:
            os.link(upload, path)
        except OSError:
            shutil.copyfile(upload, path)
        return path

    def find(self, token: str) -> Path | None:
        """A visitor's folder; None if there is none, or it is too old."""
        folder = self.root / token
        return folder if TOKEN.fullmatch(token) and folder.is_dir() else None

    def discard(self, folder: Path) -> None:
        """Removes a folder and what is in it."""
        shutil.rmtree(folder, ignore_errors=True)

    def touch(self, folder: Path) -> None:
        """Begins a folder's time anew."""
        os.utime(folder)

    def sweep(self) -> None:
        """Removes what is too old."""
        for folder in self.root.iterdir():
            try:
                if time.time() - folder.stat().st_mtime > self.age_seconds:
                    self.discard(folder)
            except FileNotFoundError:
                continue

    def close(self) -> None:
        """Removes everything."""
        self._closed.set()
        shutil.rmtree(self.root, ignore_errors=True)

    def _sweep_always(self) -> None:
        while not self._closed.wait(min(60.0, self.age_seconds / 4)):
            self.sweep()
