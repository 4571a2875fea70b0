"""Audio files of a corpus: find them, inspect their headers, and read parts of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from separator.errors import DataError, reason
from separator.io.audio import libsndfile_name
from separator.io.formats import SUFFIXES
from separator.io.recording import MAX_GAP, MAX_PROMISED, TIME_TOLERANCE, UNTIMED

log = logging.getLogger(__name__)

# A file with several audio streams, as in MUSDB18.
STEM_SUFFIX = ".stem.mp4"
# Decoders of AAC, Opus and others need some audio before the wanted position.
SEEK_SECONDS = 0.5


@dataclass(frozen=True)
class Recording:
    """An audio file and the contents of its header.

    Attributes:
        path: the file.
        frames: length in samples.
        sample_rate: in Hz.
    """

    path: Path
    frames: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


class RecordingError(DataError):
    """A recording that cannot be used. Training continues with another one."""


def read_audio(
    path: Path,
    sample_rate: int,
    start: int = 0,
    num_samples: int | None = None,
    channels: int | None = None,
    stream: int = 0,
) -> np.ndarray:
    """Read part of a file as float32, resampled to `sample_rate`.

    Args:
        path: file in any format that libsndfile reads, or PyAV: m4a, mp4, webm, wma, ... and `.stem.mp4`.
        sample_rate: sample rate of the result in Hz.
        start: first sample, counted at `sample_rate` (default: 0).
        num_samples: number of samples at `sample_rate`. None (default) reads to the end. The result is shorter if
            the file ends early.
        channels: number of channels of the result `[channel, time]`. A mono file is repeated. None (default) gives
            the mean of all channels, `[time]`.
        stream: number of the stream in a file with several streams (default: 0).

    Raises:
        RecordingError: if the file cannot be decoded, contains NaN or Inf, or has a different number of channels.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    samples, rate = _decode(path, sample_rate, start, num_samples, stream)
    if not np.isfinite(samples).all():
        raise RecordingError(f"{path}: contains NaN or Inf; repair or remove it")
    if channels is None:
        samples = samples.mean(1)
    elif samples.shape[1] == 1:
        samples = np.repeat(samples, channels, axis=1)
    elif samples.shape[1] != channels:
        raise RecordingError(f"{path}: has {samples.shape[1]} channels, wanted {channels} or 1")
    resampled = samples if rate == sample_rate else soxr.resample(samples, rate, sample_rate)
    return np.ascontiguousarray(resampled.T)


def _decode(path: Path, sample_rate: int, start: int, num_samples: int | None, stream: int) -> tuple[np.ndarray, int]:
    """Decode samples `[time, channel]`, and return them with their sample rate in Hz."""
    try:
        with contextlib.closing(_open_sound(path)) as file:
            ratio = file.samplerate / sample_rate
            file.seek(min(round(start * ratio), file.frames))
            frames = -1 if num_samples is None else round(num_samples * ratio)
            return file.read(frames, dtype="float32", always_2d=True), file.samplerate
    except _UnsupportedError as error:
        with _open_track(path, stream, str(error)) as (container, track):
            first = round(start * track.rate / sample_rate)
            count = None if num_samples is None else round(num_samples * track.rate / sample_rate)
            return _excerpt(container, track, first, count).T, track.rate
    except (OSError, soundfile.SoundFileError) as error:
        raise RecordingError(f"{path}: cannot be read as audio ({reason(error)}); repair or remove it") from error


class _UnsupportedError(Exception):
    """A file that libsndfile cannot read, or cannot read to its end."""


def _open_sound(path: Path) -> soundfile.SoundFile:
    if path.name.lower().endswith(STEM_SUFFIX):
        raise _UnsupportedError("several streams")
    try:
        file = soundfile.SoundFile(libsndfile_name(path))
    except soundfile.SoundFileError as error:
        raise _UnsupportedError(reason(error)) from error
    if file.frames < MAX_PROMISED:
        return file
    file.close()
    raise _UnsupportedError("its header has no length")  # it was never finished; libsndfile does not find its end


@contextlib.contextmanager
def _open_track(path: Path, stream: int, why: str) -> Iterator[tuple[Any, Any]]:
    """Open a file with PyAV. Yield the container and its best audio track.

    In a `.stem.mp4` file the track is number `stream`.

    Raises:
        RecordingError: if PyAV cannot read the file. The message includes `why`, the reason why libsndfile could not.
    """
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if path.name.lower().endswith(STEM_SUFFIX):
                track = container.streams.audio[stream]
            else:
                track = container.streams.best("audio")
            if track is None or not track.rate or track.codec_context.format is None:
                raise RecordingError(f"{path}: has no audio track that can be decoded; repair or remove it")
            yield container, track
    except (OSError, IndexError, UnicodeEncodeError, av.error.FFmpegError) as error:
        said = getattr(error, "strerror", None) or error
        raise RecordingError(f"{path}: cannot be read as audio ({why}; ffmpeg: {said}); repair or remove it") from error


def _excerpt(container: Any, track: Any, first: int, count: int | None) -> np.ndarray:
    """Part of a track, float32 `[channel, time]` at the track's rate. It is shorter if the track ends early.

    The start is exact to the sample. In containers with coarse timestamps, such as Matroska, it is exact to a
    millisecond.
    """
    origin = _start_time(track)
    seconds = max(0.0, first / track.rate - SEEK_SECONDS)
    # A container without timestamps can only guess where to seek.
    if seconds and not container.format.name.startswith(UNTIMED):
        container.seek(int((origin + seconds) / track.time_base), stream=track)
    whole, start = _join(_frames(container, track), origin, track.rate, None if count is None else first + count)
    if start > first:
        # The file has no seek points, or the decoder leaves out its first frames.
        container.seek(int(origin / track.time_base), stream=track)
        whole, start = _join(_frames(container, track), origin, track.rate, None if count is None else first + count)
        whole = np.pad(whole, ((0, 0), (max(0, start), 0)))
        start = min(0, start)
    return whole[:, first - start : None if count is None else first - start + count]


def _join(frames: Iterator[tuple[Any, np.ndarray]], origin: Any, rate: int, end: int | None) -> tuple[np.ndarray, int]:
    """Concatenate decoded frames up to sample `end`.

    Returns:
        Samples `[channel, time]`, and the number of the first one, counted from `origin` (seconds).
    """
    found: list[np.ndarray] = []
    start = decoded = 0
    for time, frame in frames:
        position = start + decoded if time is None else round(float(time - origin) * rate)
        if not found:
            start = position
        gap = position - start - decoded
        if TIME_TOLERANCE < gap / rate < MAX_GAP:  # silence that the container left out
            found.append(np.zeros((len(frame), gap), np.float32))
            decoded += gap
        found.append(frame)
        decoded += frame.shape[1]
        if end is not None and start + decoded >= end:
            break
    return np.concatenate(found, axis=1) if found else np.zeros((1, 0), np.float32), start


def _frames(container: Any, track: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Decode frames: time in seconds (None if unknown) and float32 `[channel, time]`."""
    import av

    to_float = av.AudioResampler(format="fltp", layout=track.codec_context.layout, rate=track.rate)
    for frame in container.decode(track):
        time = None if frame.pts is None else frame.pts * frame.time_base
        for converted in to_float.resample(frame):
            yield time, converted.to_ndarray()
            time = None


def _start_time(track: Any) -> Any:
    """Start of a track in seconds. It is above 0 if the video starts before the audio."""
    return (track.start_time or 0) * track.time_base


def audio_files(folder: Path) -> Iterator[Path]:
    """Find the audio files below a folder, at any depth, each once.

    Links to folders are followed. Hidden files and folders are left out: names that begin with a dot, such as the
    `._1.wav` that macOS puts next to each `1.wav`.
    """
    # A link to a parent folder would lead to other folders' recordings, and to an endless loop.
    seen = set(folder.resolve().parents)

    def walk(place: Path) -> Iterator[Path]:
        if place.resolve() in seen:
            return
        seen.add(place.resolve())
        # Links come last, so that a folder's files get the folder's own path, not the path of a link to it.
        try:
            paths = sorted((path for path in place.iterdir() if not path.name.startswith(".")), key=_after_folders)
        except PermissionError:
            log.warning("%s: no permission to read it; it is left out", place)
            return
        for path in paths:
            if path.is_dir():
                yield from walk(path)
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                yield path

    yield from walk(folder)


def _after_folders(path: Path) -> tuple[bool, Path]:
    return path.is_symlink(), path


def inspect(path: Path) -> Recording:
    """Read a file's header. Raises `RecordingError` if the file is missing, is not audio, or is empty."""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    try:
        with contextlib.closing(_open_sound(path)) as file:
            recording = Recording(path, file.frames, file.samplerate)
    except _UnsupportedError as error:
        with _open_track(path, 0, str(error)) as (container, track):
            recording = Recording(path, round(_seconds(container, track) * track.rate), track.rate)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read as audio ({reason(error)}); repair or remove it") from error
    if recording.frames == 0:
        raise RecordingError(f"{path}: contains no samples; remove it")
    return recording


def _seconds(container: Any, track: Any) -> float:
    """Length of a track in seconds, from its header or else from its packets.

    The container's own length is not used: it can be that of the video.
    """
    if track.duration and not container.format.name.startswith(UNTIMED):
        return float(track.duration * track.time_base)
    origin, end, total = _start_time(track), 0, 0
    for packet in container.demux(track):
        total += packet.duration or 0
        if packet.pts is not None:
            end = max(end, packet.pts + (packet.duration or 0))
    if container.format.name.startswith(UNTIMED):
        return float(total * track.time_base)
    return float(end * track.time_base - origin)
