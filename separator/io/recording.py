"""An open recording: where it is, its format, and its samples in blocks."""

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
# A header that states more samples than this was written before their number was known.
MAX_PROMISED = 2**40
# Formats without an index, by ffmpeg's names. What ffmpeg calls their duration is a guess from the first bit rate.
UNTIMED = ("aac", "ac3", "eac3", "amr", "dts", "loas", "mp3", "mpeg", "truehd")
# Seconds by which times in a container may be wrong, and the longest gap that is filled with silence.
TIME_TOLERANCE, MAX_GAP = 0.1, 60.0


@dataclass(frozen=True)
class Note:
    """What a user should know of a recording though nothing is missing.

    Attributes:
        fact: what was found.
        advice: what to do on the command line if something else is wanted; may be empty.
    """

    fact: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.fact}; {self.advice}" if self.advice else self.fact


class Recording(ABC):
    """A recording that is open. Use it as a context manager.

    Args:
        path: the file.
        pipe: if `path` is a pipe, a temporary file with its content. It is closed with the recording.

    Attributes:
        path: the file.
        sample_rate: Hz.
        file_channels: number of channels of the file.
        subtype: sample format in libsndfile's words, such as "PCM_24".
        promised: samples of each channel that the header states; None if it states no length.
        damage: after the last block: what is missing or could not be decoded; empty if nothing is.
        notes: after the last block: what a user should know of the file though nothing is missing.
    """

    path: Path
    sample_rate: int
    file_channels: int
    subtype: str
    promised: int | None = None
    damage: str = ""
    # Seconds by which `promised` may be wrong.
    tolerance = 0.0
    # Samples of silence that replace what could not be decoded.
    filled = 0
    # What `damage` says if the recording is shorter than promised.
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
        """Number of channels of the blocks."""
        return self.file_channels if self._chosen is None else len(self._chosen)

    def choose_channels(self, numbers: Sequence[int]) -> None:
        """Makes `blocks` give only these channels, in this order.

        Args:
            numbers: from 1 on.

        Raises:
            AudioError: if there is no such channel.
        """
        for number in numbers:
            if not 1 <= number <= self.file_channels:
                raise AudioError(
                    f"{self.path}: has no channel {number}; expected a number from 1 to {self.file_channels}"
                )
        self._chosen = [number - 1 for number in numbers]

    def blocks(self) -> Iterator[np.ndarray]:
        """Decodes the file block by block.

        Yields:
            float32 `[channel, time]`, until the end or until nothing more can be decoded; see `damage`.

        Raises:
            AudioError: if there is no sample, or one that is not finite.
        """
        done = 0
        for block in _joined(self._decode()):
            audio.check_finite(block.T, self.sample_rate, str(self.path), done)
            done += block.shape[-1]
            yield block if self._chosen is None else block[self._chosen]
        if done == 0:
            raise AudioError(
                f"{self.path}: holds no samples{self.damage and f' ({self.damage})'}; expected at least one"
            )
        self._compare_with_promise(done)

    def _compare_with_promise(self, done: int) -> None:
        """Compares the number of decoded samples with the header's."""
        promised, slack = self.promised or 0, self.tolerance * self.sample_rate
        if not self.damage and done < promised - slack:
            self.damage = self.too_short
        if self.damage:
            whole, read = max(done, promised) / self.sample_rate, (done - self.filled) / self.sample_rate
            self.damage = f"{read:.1f} s of {whole:.1f} s could be read: {self.damage}"
        elif self.promised is not None and done > promised + slack:
            stated, held = promised / self.sample_rate, done / self.sample_rate
            self.notes.append(Note(f"its header states {stated:.1f} s, but it holds {held:.1f} s; all of it was read"))

    @abstractmethod
    def _decode(self) -> Iterator[np.ndarray]:
        """Portions `[channel, time]`. Sets `damage` if something cannot be decoded."""


def _joined(portions: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Joins portions to blocks of at least `BLOCK` samples. The last may be shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for portion in portions:
        waiting.append(portion)
        count += portion.shape[-1]
        if count >= BLOCK:
            yield np.ascontiguousarray(np.concatenate(waiting, axis=-1))
            waiting, count = [], 0
    if count:
        yield np.ascontiguousarray(np.concatenate(waiting, axis=-1))
