"""An open recording: its path, its format, and its samples in blocks."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from separator.errors import AudioError
from separator.io import audio

# Samples in a block.
BLOCK = 65536
# A header that states more samples than this was written before the length was known.
MAX_PROMISED = 2**40
# Formats without an index, by ffmpeg's names. For these, ffmpeg guesses the duration from the first bit rate.
UNTIMED = ("aac", "ac3", "eac3", "amr", "dts", "loas", "mp3", "mpeg", "truehd")
# Error of the times in a container, and the longest gap that is filled with silence, in seconds.
TIME_TOLERANCE, MAX_GAP = 0.1, 60.0


@dataclass(frozen=True)
class Note:
    """Something a user should know about a recording, although nothing is missing.

    Attributes:
        fact: what was found.
        advice: which command-line option changes it. May be empty.
    """

    fact: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.fact}; {self.advice}" if self.advice else self.fact


class Recording(ABC):
    """An open recording. Use it as a context manager.

    Args:
        path: the file.
        pipe: if `path` is a pipe, a temporary file with its content. It is closed together with the recording.

    Attributes:
        path: the file.
        sample_rate: Hz.
        file_channels: number of channels in the file.
        subtype: libsndfile's name of the sample format, such as "PCM_24".
        promised: length that the header states, in samples per channel. None if it states no length.
        damage: what is missing or could not be decoded, known after the last block. Empty if nothing is missing.
        notes: what else a user should know about the file, known after the last block.
    """

    path: Path
    sample_rate: int
    file_channels: int
    subtype: str
    promised: int | None = None
    damage: str = ""
    # Error of `promised`, in seconds.
    tolerance = 0.0
    # Samples of silence in place of audio that could not be decoded.
    filled = 0
    # Text of `damage` if the recording is shorter than its header states.
    too_short = "it ends early"

    def __init__(self, path: Path, pipe: Any) -> None:
        self.path, self._pipe = path, pipe
        self.notes: list[Note] = []
        self._chosen: list[int] | None = None
        self._resources = contextlib.ExitStack()
        if pipe is not None:
            self._resources.enter_context(pipe)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def channels(self) -> int:
        """Number of channels in each block."""
        return self.file_channels if self._chosen is None else len(self._chosen)

    def choose_channels(self, numbers: Sequence[int]) -> None:
        """Restrict `blocks` to these channels, in this order.

        Args:
            numbers: channel numbers, counted from 1.

        Raises:
            AudioError: if the file has no such channel.
        """
        for number in numbers:
            if not 1 <= number <= self.file_channels:
                raise AudioError(
                    f"{self.path}: has no channel {number}; expected a number from 1 to {self.file_channels}"
                )
        self._chosen = [number - 1 for number in numbers]

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode the file block by block.

        Yields:
            float32 `[channel, time]`, until the end or until nothing more can be decoded. See `damage`.

        Raises:
            AudioError: if the file has no samples, or a sample that is not finite.
        """
        done = 0
        for block in _joined(self._decode()):
            audio.check_finite(block.T, self.sample_rate, str(self.path), done)
            done += block.shape[-1]
            yield block if self._chosen is None else block[self._chosen]
        if done == 0:
            raise AudioError(
                f"{self.path}: contains no samples{self.damage and f' ({self.damage})'}; expected at least one"
            )
        self._compare_with_header(done)

    def _compare_with_header(self, done: int) -> None:
        """Compare the number of decoded samples with the length in the header."""
        promised, slack = self.promised or 0, self.tolerance * self.sample_rate
        if not self.damage and done < promised - slack:
            self.damage = self.too_short
        if self.damage:
            whole, read = max(done, promised) / self.sample_rate, (done - self.filled) / self.sample_rate
            self.damage = f"{read:.1f} s of {whole:.1f} s could be read: {self.damage}"
        elif self.promised is not None and done > promised + slack:
            stated, held = promised / self.sample_rate, done / self.sample_rate
            self.notes.append(
                Note(f"its header states {stated:.1f} s, but it contains {held:.1f} s; all of it was read")
            )

    @abstractmethod
    def _decode(self) -> Iterator[np.ndarray]:
        """Yield decoded samples `[channel, time]`. Set `damage` if something cannot be decoded."""


def _joined(portions: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Join portions into blocks of at least `BLOCK` samples. The last block may be shorter."""
    buffer: list[np.ndarray] = []
    count = 0
    for portion in portions:
        buffer.append(portion)
        count += portion.shape[-1]
        if count >= BLOCK:
            yield np.ascontiguousarray(np.concatenate(buffer, axis=-1))
            buffer, count = [], 0
    if count:
        yield np.ascontiguousarray(np.concatenate(buffer, axis=-1))
