"""Access to remote storage, such as `s3://bucket/calls`, through fsspec."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from separator.errors import AudioError, ConfigError, reason
from separator.io import find_recordings
from separator.io.find_recordings import Item
from separator.io.formats import SUFFIXES


def is_url(name: str) -> bool:
    """Return whether a name is a URL for fsspec, and not a path."""
    return "://" in name


def find(url: str) -> list[Item]:
    """Find the recording at a URL, or all recordings below it.

    Raises:
        AudioError: if the storage cannot be listed, or contains no recording.
        ConfigError: if no installed package can open URLs of this kind.
    """
    filesystem = _filesystem(url)
    try:
        if filesystem.isfile(url):
            return [Item(url, Path(url).stem)]
        root = filesystem._strip_protocol(url).rstrip("/")
        found = sorted(filesystem.find(url))
    except OSError as error:
        raise AudioError(f"{url}: cannot be listed ({reason(error)})") from error
    items = [
        Item(filesystem.unstrip_protocol(name), name[len(root) + 1 :].rpartition(".")[0])
        for name in found
        if Path(name).suffix.lower() in SUFFIXES
    ]
    return find_recordings.require_any(items, url)


def existing(out: str) -> Callable[[str], bool]:
    """Return a function that checks whether a name exists. For a URL, all names below it are listed once, now."""
    if not is_url(out):
        return os.path.exists
    filesystem = _filesystem(out)
    try:
        names = set(filesystem.find(out))
    except OSError as error:
        raise AudioError(f"{out}: cannot be listed ({reason(error)})") from error
    return lambda name: filesystem._strip_protocol(name) in names


def download(url: str, local: Path) -> None:
    """Copy a file from remote storage."""
    _filesystem(url).get(url, str(local))


def upload(local: Path, url: str) -> None:
    """Copy a file to remote storage and create its parent folders."""
    filesystem = _filesystem(url)
    filesystem.makedirs(filesystem._parent(url), exist_ok=True)
    filesystem.put(str(local), url)


def remove(path: str) -> None:
    """Remove a local or remote file if it exists."""
    if not is_url(path):
        Path(path).unlink(missing_ok=True)
    elif _filesystem(path).exists(path):
        _filesystem(path).rm(path)


def _filesystem(url: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise ConfigError(
            f"{url}: URLs need the package fsspec; install it with: pip install 'separator[ray]'"
        ) from error
    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(f"{url}: cannot be opened ({reason(error)})") from error
