"""Recordings on disk -> float32 blocks `[channel, time]`: by libsndfile, and by PyAV where that cannot read them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from separator import audio
from separator.audio import DEFAULT_SUBTYPE
from separator.errors import AudioError, reason

# Samples in a block, and those that are asked of a decoder at a time: of a damaged stretch so many are lost.
BLOCK, PORTION = 65536, 4096
# A header that promises more samples than this was written before their number was known.
MOST_PROMISED = 2**40
# Chunks in whose header libsndfile notes that a file ends before they do, and the largest size that is meant so.
CHUNKS = {"data": 2**31 - 2**20, "SSND": 2**31, "Data Size": 2**31 - 2**20, "riff": 2**40, "Riff size": 2**40}
# Formats without an index: what ffmpeg calls their duration is a guess from the first bit rate.
UNTIMED = ("aac", "ac3", "eac3", "amr", "dts", "loas", "mp3", "mpeg", "truehd")
# Seconds by which times in a container may be off, and the longest hole in it that is filled with silence.
TIME_TOLERANCE, LONGEST_HOLE = 0.1, 60.0
# Sample formats that libsndfile decodes without telling what it left out in the middle.
UNPLACED = ("VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")
# Portions in a row that cannot be decoded, after which nothing more is expected.
MOST_ERRORS = 200
# ffmpeg's codecs that lose nothing, by the beginning of their names.
LOSSLESS = ("pcm_", "flac", "alac", "ape", "tta", "wavpack", "wmalossless", "mlp", "truehd", "shorten", "tak")
# ffmpeg's name of a sample format, without the p of the planar ones -> libsndfile's
LOSSLESS_SUBTYPES = {"u8": "PCM_U8", "s16": "PCM_16", "s32": "PCM_24", "flt": "FLOAT", "dbl": "DOUBLE"}


class Recording(ABC):
    """A recording that is open, a context manager.

    Args:
        path: where it is.
        pipe: if that is a pipe, a file with what came out of it, which is closed with the recording.

    Attributes:
        path: where it is.
        sample_rate: Hz.
        channels: how many.
        subtype: libsndfile's name of the sample format, such as "PCM_24".
        promised: samples (of each channel) that its header tells; None if it does not.
        damage: once its end has come: what is missing or could not be decoded; empty if nothing.
    """

    path: Path
    sample_rate: int
    channels: int
    subtype: str
    promised: int | None = None
    damage: str = ""
    # Seconds by which the promise may be off.
    tolerance = 0.0
    # Samples of silence that stand for what could not be decoded.
    filled = 0

    def __init__(self, path: Path, pipe: Any) -> None:
        self.path, self._pipe = path, pipe
        self._resources = contextlib.ExitStack()
        if pipe is not None:
            self._resources.enter_context(pipe)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """Float32 `[channel, time]` until the end, or until nothing more can be decoded, which `damage` then tells.

        Raises:
            AudioError: if there is no sample, or one that is not finite.
        """
        done = 0
        for block in _joined(self._decode()):
            audio.check_finite(block.T, self.sample_rate, str(self.path), done)
            done += block.shape[-1]
            yield block
        if done == 0:
            raise AudioError(
                f"{self.path}: holds no samples{self.damage and f' ({self.damage})'}; expected at least one"
            )
        if not self.damage and done < (self.promised or 0) - self.tolerance * self.sample_rate:
            self.damage = "it ends early" if self.subtype not in UNPLACED else "a part of it is missing"
        if self.damage:
            whole = max(done, self.promised or 0) / self.sample_rate
            read = (done - self.filled) / self.sample_rate
            self.damage = f"{read:.1f} s of {whole:.1f} s could be read: {self.damage}"

    @abstractmethod
    def _decode(self) -> Iterator[np.ndarray]:
        """Portions `[channel, time]`; notes in `damage` what cannot be decoded."""


class SoundFileRecording(Recording):
    """One that libsndfile reads."""

    def __init__(self, path: Path, pipe: Any) -> None:
        super().__init__(path, pipe)
        self._file = file = self._resources.enter_context(soundfile.SoundFile(pipe or os.fsencode(path)))
        self.sample_rate, self.channels, self.subtype = file.samplerate, file.channels, file.subtype
        self.promised = _promised(file)

    def _decode(self) -> Iterator[np.ndarray]:
        done = 0
        while True:
            try:
                portion = self._file.read(PORTION, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                self.damage = f"a part cannot be decoded ({reason(error)})"
                yield from self._rest(done)
                return
            if len(portion) == 0:
                return
            done += len(portion)
            yield portion.T

    def _rest(self, done: int) -> Iterator[np.ndarray]:
        """What comes behind damage, at which libsndfile ends: ffmpeg looks for the next whole piece."""
        import av

        with contextlib.suppress(av.error.FFmpegError, UnicodeEncodeError, AudioError):
            other = AvRecording(self.path, self._pipe)
            with other:
                if (other.sample_rate, other.channels) == (self.sample_rate, self.channels):
                    yield from other.after(done, self.damage)
            self.filled = other.filled


class AvRecording(Recording):
    """The audio track of what ffmpeg's libraries read."""

    tolerance = TIME_TOLERANCE

    def __init__(self, path: Path, pipe: Any) -> None:
        import av

        super().__init__(path, pipe)
        if pipe is not None:
            pipe.seek(0)
        self._container = container = self._resources.enter_context(av.open(pipe or str(path)))
        self._track = container.streams.best("audio")
        if self._track is None:
            raise AudioError(f"{path}: has no audio track; expected a recording")
        codec = self._track.codec_context
        self.sample_rate, self.channels = codec.sample_rate, codec.channels
        if codec.format is None or not self.channels:
            raise AudioError(
                f"{path}: its audio track cannot be decoded ({codec.name}); expected one that ffmpeg knows"
            )
        self._may_pause = container.format.name.startswith("matroska")
        lossless = codec.name.startswith(LOSSLESS)
        self.subtype = LOSSLESS_SUBTYPES[codec.format.packed.name] if lossless else DEFAULT_SUBTYPE
        if container.format.name.startswith(UNTIMED):
            return
        if self._track.duration:
            self.promised = round(float(self._track.duration * self._track.time_base) * self.sample_rate)
        elif container.duration:
            self.promised = round(container.duration / 1e6 * self.sample_rate)

    def after(self, done: int, damage: str) -> Iterator[np.ndarray]:
        """What comes after so many samples in a file that is damaged there: noise that looks like audio is none."""
        self._track.codec_context.options = {"err_detect": "crccheck+explode"}
        self.damage = damage
        for portion in self._decode():
            yield portion[:, done:]
            done = max(0, done - portion.shape[1])

    def _decode(self) -> Iterator[np.ndarray]:
        """What cannot be decoded is silence, as long as the times of the next piece say."""
        import av

        layout = self._track.codec_context.layout
        # Also where rate or channels change in the middle.
        to_float = av.AudioResampler(format="fltp", layout=layout, rate=self.sample_rate)
        begin: float | None = None
        done = errors = 0
        packets = self._container.demux(self._track)
        while errors < MOST_ERRORS:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError) as error:
                self.damage = f"a part cannot be decoded ({_av_reason(error)})"
                errors += 1
                continue
            for frame in frames:
                errors = 0
                if frame.time is not None:
                    begin = frame.time if begin is None else begin
                    hole = frame.time - begin - done / self.sample_rate
                    if (TIME_TOLERANCE / 10 if self.damage else TIME_TOLERANCE) < hole < LONGEST_HOLE:
                        # WebM may leave silence out; elsewhere something was lost.
                        self.damage = self.damage or ("" if self._may_pause else "a part of it is missing")
                        silence = np.zeros((self.channels, round(hole * self.sample_rate)), np.float32)
                        self.filled += silence.shape[1]
                        done += silence.shape[1]
                        yield silence
                for piece in to_float.resample(frame):
                    yield piece.to_ndarray()
                    done += piece.samples


def open_recording(path: Path) -> Recording:
    """Opens a file; its blocks are read from it when they are asked for.

    Raises:
        AudioError: if it is missing, no file, empty, not audio that libsndfile or ffmpeg reads, without an audio
            track, or of a rate or number of channels that no recording has.
    """
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder; name the audio files in it")
        if not path.exists():
            raise AudioError(f"{path}: no such file")
        if path.is_file() and path.stat().st_size == 0:
            raise AudioError(f"{path}: is empty (0 bytes); expected audio")
        recording = _open(path)
    except PermissionError as error:
        raise AudioError(f"{path}: may not be read; check its permissions") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({reason(error)})") from error
    try:
        audio.check_rate(recording.sample_rate)
        audio.check_channels(recording.channels)
    except AudioError as error:
        recording.__exit__()
        raise AudioError(f"{path}: {error}") from error
    return recording


def _open(path: Path) -> Recording:
    pipe = _drained(path) if path.is_fifo() else None
    try:
        return SoundFileRecording(path, pipe)
    except soundfile.SoundFileError as error:
        why = reason(error)
    import av

    try:
        return AvRecording(path, pipe)
    except (av.error.FFmpegError, UnicodeEncodeError) as error:
        if isinstance(error, PermissionError):
            raise
        raise AudioError(
            f"{path}: cannot be read as audio ({why}; ffmpeg: {_av_reason(error)}); is it whole? "
            "Expected WAV, FLAC, OGG, MP3, AIFF, CAF, or a file with an audio track such as m4a, mp4, mkv, webm, wma"
        ) from error


def _drained(path: Path) -> Any:
    """What comes out of a pipe, in an unnamed file: libsndfile seeks, which a pipe cannot."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when nobody has it any more
    with path.open("rb") as pipe:
        shutil.copyfileobj(pipe, file)
    file.seek(0)
    return file


def _promised(file: soundfile.SoundFile) -> int | None:
    """Samples that a header tells; libsndfile itself counts those that are there where the two differ."""
    for line in file.extra_info.splitlines():
        name, _, sizes = line.partition(":")
        if name.strip() in CHUNKS and "(should be " in sizes:
            told, there = (int(word) for word in sizes.replace("(should be", "").replace(")", "").split())
            return round(file.frames * told / max(there, 1)) if 0 <= told < CHUNKS[name.strip()] else file.frames
    return file.frames if file.frames < MOST_PROMISED else None


def _joined(portions: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Portions joined to blocks of at least `BLOCK` samples, but for the last."""
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


def _av_reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
