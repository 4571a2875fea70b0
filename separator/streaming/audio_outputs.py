"""Audio outputs of a stream: WAV files that are valid while they grow, or standard output."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Protocol, TextIO

import numpy as np

from separator.errors import AudioError, reason
from separator.io import atomic
from separator.io.wav import MAX_SIZE, encode, wav_header


class Sink(Protocol):
    """Output for the stems of a stream."""

    def write(self, stems: np.ndarray) -> None:
        """Write a block `[source, channel, time]`."""

    def close(self) -> None:
        """Close the output."""


class WavFiles:
    """One WAV file per source. Each file is valid at all times, so that it can be read while it grows.

    The files are created with the first samples. If no samples arrive, existing files stay as they were. Each write
    first appends the samples, and then updates the size in the header. A file above 4 GiB becomes an RF64 file (EBU
    Tech 3306). The header reserves space for its sizes from the start.

    Args:
        paths: source name -> file.
        sample_rate: Hz.
        channels: number of channels in each file.
        subtype: libsndfile's name of the sample format.
        overwrite: whether existing files may be replaced (default: False).

    Attributes:
        created: source name -> file, for the files that exist under their final names.

    Raises:
        AudioError: if the files cannot be created.
    """

    def __init__(
        self, paths: Mapping[str, Path], sample_rate: int, channels: int, subtype: str, overwrite: bool = False
    ) -> None:
        self.paths, self.subtype = dict(paths), subtype
        self.created: dict[str, Path] = {}
        self._sizes = dict.fromkeys(paths, 0)
        self._header = functools.partial(wav_header, sample_rate, channels, subtype, room=True)
        header = self._header(0)
        self._header_size = len(header)
        self._files: dict[str, FileIO] = {}
        self._atomic = atomic.AtomicFiles(paths.values(), overwrite)
        path = next(iter(paths.values()))
        try:
            self._atomic.__enter__()
            for name, path in paths.items():
                self._files[name] = FileIO(self._atomic.temporary[path], "r+")
                _write_at(self._files[name], 0, header)
        except OSError as error:
            self.close()
            raise AudioError(
                f"{path}: cannot be written to ({reason(error)}); choose another folder with --out"
            ) from error

    def write(self, stems: np.ndarray) -> None:
        """Write a block `[source, channel, time]`.

        Raises:
            AudioError: if a file cannot be written. The other files are written first. All files stay valid.
        """
        if not stems.size:
            return
        self._commit()
        failure: AudioError | None = None
        for (name, file), samples in zip(self._files.items(), stems, strict=True):
            data = encode(samples, self.subtype)
            size = self._sizes[name]
            try:
                _write_at(file, self._header_size + size, data)
                _write_at(file, 0, self._header(size + len(data)))
                self._sizes[name] = size + len(data)
            except OSError as error:
                failure = AudioError(f"{self.paths[name]}: cannot be written any further ({reason(error)})")
        if failure is not None:
            raise failure

    def _commit(self) -> None:
        """Rename the files to their final names, all or none."""
        if self.created:
            return
        try:
            self._atomic.commit()
        except OSError as error:
            raise AudioError(
                f"{error.filename2 or error.filename}: cannot be written ({reason(error)}); use -f to replace existing "
                "files, or another --out"
            ) from error
        self.created.update(self.paths)

    def close(self) -> None:
        """Close the files. If no samples arrived, remove the temporary files and the folders created for them."""
        for file in self._files.values():
            file.close()
        self._atomic.__exit__()


class StandardOutput:
    """All sources as channels of one stream on standard output. The channels of each source are next to each other.

    Args:
        sample_rate: Hz.
        channels: number of channels of all sources together.
        subtype: libsndfile's name of the sample format.
        header: whether to write a WAV header first.

    Raises:
        AudioError: if standard output is closed.
    """

    def __init__(self, sample_rate: int, channels: int, subtype: str, header: bool) -> None:
        if sys.stdout is None:
            raise AudioError("standard output is closed; name a folder with --out")
        self.subtype = subtype
        self._file = sys.stdout.buffer
        if header:
            self._write(wav_header(sample_rate, channels, subtype, MAX_SIZE))

    def write(self, stems: np.ndarray) -> None:
        """Write a block `[source, channel, time]`. Raise `AudioError` if standard output cannot be written."""
        sources, channels, time = stems.shape
        self._write(encode(stems.reshape(sources * channels, time), self.subtype))

    def close(self) -> None:
        """Do nothing. Standard output stays open for other uses."""

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            discard_output()
            what = "its reader closed it" if isinstance(error, BrokenPipeError) else reason(error)
            raise AudioError(f"standard output: cannot be written any further ({what})") from error


def discard_output(file: TextIO | None = None) -> None:
    """Redirect an output to the null device.

    Otherwise Python would try to write its buffer again at exit, and print an error.

    Args:
        file: the output. None (default) for `sys.stdout`.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), (file or sys.stdout).fileno())


def _write_at(file: FileIO, place: int, data: bytes) -> None:
    """Write bytes at a position of a file."""
    while data:
        if hasattr(os, "pwrite"):
            written = os.pwrite(file.fileno(), data, place)
        else:  # Windows
            file.seek(place)
            written = file.write(data)
        place, data = place + written, data[written:]
