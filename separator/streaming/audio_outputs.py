"""Where a stream's stems go: files that are valid while they grow, or standard output."""

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
    """Where stems go."""

    def write(self, stems: np.ndarray) -> None:
        """Writes `[source, channel, time]`."""

    def close(self) -> None:
        """Ends it."""


class WavFiles:
    """One WAV file for each source, valid at every moment that a reader might look.

    The files appear with the first samples, so that what was there stays if none come; further ones are written
    behind those there are, and then the header is told of them. Beyond 4 GiB it becomes an RF64 file (EBU Tech
    3306), for whose sizes the header has room from the start.

    Attributes:
        appeared: the files that are there by now, by source.
    """

    def __init__(
        self, paths: Mapping[str, Path], sample_rate: int, channels: int, subtype: str, overwrite: bool = False
    ) -> None:
        self.paths, self.subtype = dict(paths), subtype
        self.appeared: dict[str, Path] = {}
        self._sizes = dict.fromkeys(paths, 0)
        self._header = functools.partial(wav_header, sample_rate, channels, subtype, room=True)
        header = self._header(0)
        self._header_size = len(header)
        self._files: dict[str, FileIO] = {}
        self._together = atomic.Together(paths.values(), overwrite)
        path = next(iter(paths.values()))
        try:
            self._together.__enter__()
            for name, path in paths.items():
                self._files[name] = FileIO(self._together.hidden[path], "r+")
                _write_at(self._files[name], 0, header)
        except OSError as error:
            self.close()
            raise AudioError(
                f"{path}: cannot be written to ({reason(error)}); choose another place with --out"
            ) from error

    def write(self, stems: np.ndarray) -> None:
        """Writes `[source, channel, time]`.

        Raises:
            AudioError: if one cannot be written, after the others were; what was there is still valid.
        """
        if not stems.size:
            return
        self._appear()
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

    def _appear(self) -> None:
        """Gives the files their names, all or none."""
        if self.appeared:
            return
        try:
            self._together.appear()
        except OSError as error:
            raise AudioError(
                f"{error.filename2 or error.filename}: cannot be written ({reason(error)}); use -f to replace what is "
                "there, or another --out"
            ) from error
        self.appeared.update(self.paths)

    def close(self) -> None:
        """Ends the files; if no sample came, nothing stays, nor the folders that were made for it."""
        for file in self._files.values():
            file.close()
        self._together.__exit__()


class StandardOutput:
    """All sources as the channels of one stream on standard output, the channels of a source side by side."""

    def __init__(self, sample_rate: int, channels: int, subtype: str, header: bool) -> None:
        if sys.stdout is None:
            raise AudioError("standard output: it is closed; name a folder with --out")
        self.subtype = subtype
        self._file = sys.stdout.buffer
        if header:
            self._write(wav_header(sample_rate, channels, subtype, MAX_SIZE))

    def write(self, stems: np.ndarray) -> None:
        """Writes `[source, channel, time]`. Raises `AudioError` if nobody reads any more."""
        sources, channels, time = stems.shape
        self._write(encode(stems.reshape(sources * channels, time), self.subtype))

    def close(self) -> None:
        """Nothing: it is not ours."""

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            give_up_standard_output()
            what = "its reader closed it" if isinstance(error, BrokenPipeError) else reason(error)
            raise AudioError(f"standard output: it cannot be written any further ({what})") from error


def give_up_standard_output(file: TextIO | None = None) -> None:
    """Sends what Python still holds for it nowhere; it would try once more at its end, and complain.

    `file`: standard output, where something else stands in its place now, or standard error.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), (file or sys.stdout).fileno())


def _write_at(file: FileIO, place: int, data: bytes) -> None:
    while data:
        if hasattr(os, "pwrite"):
            written = os.pwrite(file.fileno(), data, place)
        else:  # Windows
            file.seek(place)
            written = file.write(data)
        place, data = place + written, data[written:]
