"""Audio files as corpora hold them: found, looked into, and read in part."""

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
from separator.io.find_recordings import SUFFIXES
from separator.io.recording import MAX_GAP, MAX_PROMISED, TIME_TOLERANCE, UNTIMED

log = logging.getLogger(__name__)

# Several streams in one file, as MUSDB18 has them.
STEM_SUFFIX = ".stem.mp4"
# Decoders, such as those of AAC and Opus, need what was a little before.
SEEK_SECONDS = 0.5


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
        path: any format that libsndfile reads, or else PyAV: m4a, mp4, webm, wma, ... and `.stem.mp4`.
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
    samples, rate = _decode(path, sample_rate, start, num_samples, stream)
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
    """`[time, channel]` and its rate."""
    try:
        with contextlib.closing(_open_sound(path)) as file:
            ratio = file.samplerate / sample_rate
            file.seek(min(round(start * ratio), file.frames))
            frames = -1 if num_samples is None else round(num_samples * ratio)
            return file.read(frames, dtype="float32", always_2d=True), file.samplerate
    except _NotSoundError as error:
        with _track(path, stream, str(error)) as (container, track):
            first = round(start * track.rate / sample_rate)
            count = None if num_samples is None else round(num_samples * track.rate / sample_rate)
            return _excerpt(container, track, first, count).T, track.rate
    except (OSError, soundfile.SoundFileError) as error:
        raise RecordingError(f"{path}: cannot be read as audio ({reason(error)}); repair or remove it") from error


class _NotSoundError(Exception):
    """A file that libsndfile does not know, or not to its end."""


def _open_sound(path: Path) -> soundfile.SoundFile:
    if path.name.lower().endswith(STEM_SUFFIX):
        raise _NotSoundError("several streams")
    try:
        file = soundfile.SoundFile(libsndfile_name(path))
    except soundfile.SoundFileError as error:
        raise _NotSoundError(reason(error)) from error
    if file.frames < MAX_PROMISED:
        return file
    file.close()
    raise _NotSoundError("its header tells no length")  # it was never finished; libsndfile does not find its end


@contextlib.contextmanager
def _track(path: Path, stream: int, why: str) -> Iterator[tuple[Any, Any]]:
    """A file opened by PyAV, and one of its audio tracks: its best one, or of a `.stem.mp4` number `stream`.

    Raises:
        RecordingError: for what it cannot read, with `why` libsndfile could not.
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
    """Part of a track, float32 `[channel, time]` at its rate; it ends early where the track does.

    It begins at the sample, but for containers with coarser times, such as Matroska: there within a millisecond.
    """
    origin = _begin(track)
    seconds = max(0.0, first / track.rate - SEEK_SECONDS)
    # Where a container knows no times, every position that it seeks is a guess.
    if seconds and not container.format.name.startswith(UNTIMED):
        container.seek(int((origin + seconds) / track.time_base), stream=track)
    whole, begun = _joined(_pieces(container, track), origin, track.rate, None if count is None else first + count)
    if begun > first:
        # There was nothing to seek by, or a decoder leaves out its first frames.
        container.seek(int(origin / track.time_base), stream=track)
        whole, begun = _joined(_pieces(container, track), origin, track.rate, None if count is None else first + count)
        whole = np.pad(whole, ((0, 0), (max(0, begun), 0)))
        begun = min(0, begun)
    return whole[:, first - begun : None if count is None else first - begun + count]


def _joined(
    pieces: Iterator[tuple[Any, np.ndarray]], origin: Any, rate: int, end: int | None
) -> tuple[np.ndarray, int]:
    """Pieces up to sample `end` as one, and the sample at which it begins, counted from `origin` in seconds."""
    found: list[np.ndarray] = []
    begun = decoded = 0
    for time, piece in pieces:
        place = begun + decoded if time is None else round(float(time - origin) * rate)
        if not found:
            begun = place
        hole = place - begun - decoded
        if TIME_TOLERANCE < hole / rate < MAX_GAP:  # silence that a container left out
            found.append(np.zeros((len(piece), hole), np.float32))
            decoded += hole
        found.append(piece)
        decoded += piece.shape[1]
        if end is not None and begun + decoded >= end:
            break
    return np.concatenate(found, axis=1) if found else np.zeros((1, 0), np.float32), begun


def _pieces(container: Any, track: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """What comes from a decoder: time in seconds, None if unknown, and float32 `[channel, time]`."""
    import av

    to_float = av.AudioResampler(format="fltp", layout=track.codec_context.layout, rate=track.rate)
    for frame in container.decode(track):
        time = None if frame.pts is None else frame.pts * frame.time_base
        for piece in to_float.resample(frame):
            yield time, piece.to_ndarray()
            time = None


def _begin(track: Any) -> Any:
    """Seconds at which a track begins: later than 0 where the picture comes first."""
    return (track.start_time or 0) * track.time_base


def audio_files(folder: Path) -> Iterator[Path]:
    """Those below a folder, at any depth, each once. Links to folders are followed; what is hidden is left out.

    Hidden are names that begin with a dot, such as the `._1.wav` that a Mac puts beside each `1.wav`.
    """
    # A link back up would lead to the recordings of others, and round.
    seen = set(folder.resolve().parents)

    def walk(place: Path) -> Iterator[Path]:
        if place.resolve() in seen:
            return
        seen.add(place.resolve())
        # Links last, so that a folder's files have its own name.
        try:
            paths = sorted((path for path in place.iterdir() if not path.name.startswith(".")), key=_after_folders)
        except PermissionError:
            log.warning("%s: may not be read, and is left out", place)
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
    """What a file's header says. Raises `RecordingError` if it is missing, no audio, or holds no sample."""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    try:
        with contextlib.closing(_open_sound(path)) as file:
            recording = Recording(path, file.frames, file.samplerate)
    except _NotSoundError as error:
        with _track(path, 0, str(error)) as (container, track):
            recording = Recording(path, round(_seconds(container, track) * track.rate), track.rate)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read as audio ({reason(error)}); repair or remove it") from error
    if recording.frames == 0:
        raise RecordingError(f"{path}: holds no samples; remove it")
    return recording


def _seconds(container: Any, track: Any) -> float:
    """A track's length, as its header says, or else as its packets do: a container's own may be the picture's."""
    if track.duration and not container.format.name.startswith(UNTIMED):
        return float(track.duration * track.time_base)
    origin, end, total = _begin(track), 0, 0
    for packet in container.demux(track):
        total += packet.duration or 0
        if packet.pts is not None:
            end = max(end, packet.pts + (packet.duration or 0))
    if container.format.name.startswith(UNTIMED):
        return float(total * track.time_base)
    return float(end * track.time_base - origin)
