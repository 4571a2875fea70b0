"""Audio files as corpora hold them: found, looked into, and read in part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from separator.errors import DataError, reason
from separator.inputs import AUDIO_SUFFIXES

# Several streams in one file, as MUSDB18 has them.
STEM_SUFFIX = ".stem.mp4"
# A decoder of AAC needs what was a little before.
SEEK_SECONDS = 0.2


@dataclass(frozen=True)
class Recording:
    """An audio file as its header describes it."""

    path: Path
    frames: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.sample_rate


class RecordingError(DataError):
    """A recording that cannot be used; training goes on with another one."""


def read_audio(
    path: Path,
    sample_rate: int,
    start: int = 0,
    num_samples: int | None = None,
    channels: int | None = None,
    stream: int = 0,
) -> np.ndarray:
    """Part of a file as float32 at `sample_rate`, at which `start` and `num_samples` count.

    Args:
        path: any format that libsndfile reads; for several streams (`.stem.mp4`) PyAV.
        sample_rate: Hz.
        start: first sample.
        num_samples: how many; None for all. The result is shorter where the file ends.
        channels: None for the mean of all channels, `[time]`; a number for `[channel, time]`, a single channel being
            repeated.
        stream: which one of a file with several.

    Raises:
        RecordingError: if it cannot be decoded, holds values that are not finite or has another number of channels.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    decode = _decode_stream if path.name.lower().endswith(STEM_SUFFIX) else _decode
    samples, rate = decode(path, sample_rate, start, num_samples, stream)
    if not np.isfinite(samples).all():
        raise RecordingError(f"{path}: holds values that are not finite; repair or remove it")
    if channels is None:
        samples = samples.mean(1)
    elif samples.shape[1] == 1:
        samples = np.repeat(samples, channels, axis=1)
    elif samples.shape[1] != channels:
        raise RecordingError(f"{path}: has {samples.shape[1]} channels, wanted {channels} or 1")
    resampled = samples if rate == sample_rate else soxr.resample(samples, rate, sample_rate)
    return np.ascontiguousarray(resampled.T)


def _decode(path: Path, sample_rate: int, start: int, num_samples: int | None, stream: int) -> tuple[np.ndarray, int]:
    try:
        with soundfile.SoundFile(path) as file:
            ratio = file.samplerate / sample_rate
            file.seek(min(round(start * ratio), file.frames))
            frames = -1 if num_samples is None else round(num_samples * ratio)
            return file.read(frames, dtype="float32", always_2d=True), file.samplerate
    except (OSError, soundfile.SoundFileError) as error:
        raise RecordingError(f"{path}: cannot be read as audio ({reason(error)}); repair or remove it") from error


def _inspect_streams(path: Path) -> Recording:
    with _streams(path) as container:
        track = container.streams.audio[0]
        return Recording(path, round(float(track.duration * track.time_base) * track.rate), track.rate)


def _decode_stream(
    path: Path, sample_rate: int, start: int, num_samples: int | None, stream: int
) -> tuple[np.ndarray, int]:
    """One of the streams of a file."""
    with _streams(path) as container:
        track = container.streams.audio[stream]
        rate = track.rate
        first = round(start * rate / sample_rate)
        last = None if num_samples is None else first + round(num_samples * rate / sample_rate)
        container.seek(int(max(0.0, first / rate - SEEK_SECONDS) / track.time_base), stream=track)
        pieces: list[np.ndarray] = []
        begun, decoded = 0, 0
        for frame in container.decode(track):
            if not pieces:
                begun = round(float(frame.pts * frame.time_base) * rate)
            pieces.append(frame.to_ndarray().reshape(-1, frame.samples))
            decoded += frame.samples
            if last is not None and begun + decoded >= last:
                break
    whole = np.concatenate(pieces, axis=1) if pieces else np.zeros((1, 0), np.float32)
    return whole[:, max(0, first - begun) : None if last is None else last - begun].T.astype(np.float32), rate


@contextlib.contextmanager
def _streams(path: Path) -> Iterator[Any]:
    """A file opened by PyAV. Raises `RecordingError` for what it cannot read."""
    import av

    try:
        with av.open(str(path)) as container:
            yield container
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise RecordingError(f"{path}: cannot be read as audio ({error}); repair or remove it") from error


def audio_files(folder: Path) -> Iterable[Path]:
    """Those below a folder, at any depth, by their names."""
    return (path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())


def inspect(path: Path) -> Recording:
    """What a file's header says. Raises `RecordingError` if it is missing, no audio, or holds no sample."""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    try:
        if path.name.lower().endswith(STEM_SUFFIX):
            return _inspect_streams(path)
        info = soundfile.info(path)
    except (OSError, soundfile.SoundFileError) as error:
        raise RecordingError(f"{path}: cannot be read as audio ({reason(error)}); repair or remove it") from error
    if info.frames == 0:
        raise RecordingError(f"{path}: holds no samples; remove it")
    return Recording(path, info.frames, info.samplerate)
