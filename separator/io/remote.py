"""Files in remote storage, such as `s3://bucket/calls`, by fsspec."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from separator.errors import AudioError, ConfigError, reason
from separator.io import find_recordings
from separator.io.find_recordings import Item


def is_url(name: str) -> bool:
    """Whether a name is a URL for fsspec, and not a path."""
    return "://" in name


def find(url: str) -> list[Item]:
    """The recording at a URL, or all recordings below it.

    Raises:
        AudioError: if the storage cannot be listed, or there is no recording.
        ConfigError: if no package opens URLs of this kind.
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
        if Path(name).suffix.lower() in find_recordings.SUFFIXES
    ]
    return find_recordings.some(items, url)


def existing(out: str) -> Callable[[str], bool]:
    """A function that tells whether a name exists. All names below a URL are listed once."""
    if not is_url(out):
        return os.path.exists
    filesystem = _filesystem(out)
    try:
        names = set(filesystem.find(out))
    except OSError as error:
        raise AudioError(f"{out}: cannot be listed ({reason(error)})") from error
    return lambda name: filesystem._strip_protocol(name) in names


def download(url: str, local: Path) -> None:
    """Copies a file from remote storage."""
    _filesystem(url).get(url, str(local))


def upload(local: Path, url: str) -> None:
    """Copies a file to remote storage and creates the folders above it."""
    filesystem = _filesystem(url)
    filesystem.makedirs(filesystem._parent(url), exist_ok=True)
    filesystem.put(str(local), url)


def remove(path: str) -> None:
    """Removes a local or remote file if it exists."""
    if not is_url(path):
        Path(path).unlink(missing_ok=True)
    elif _filesystem(path).exists(path):
        _filesystem(path).rm(path)


def _filesystem(url: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise ConfigError(f"{url}: needs the package fsspec; install it with: pip install 'separator[ray]'") from error
    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(f"{url}: cannot be opened ({reason(error)})") from error
