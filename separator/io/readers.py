"""Open recordings with libsndfile, or with ffmpeg's libraries (PyAV) where libsndfile cannot read them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from separator.errors import AudioError, reason
from separator.io import audio, uncounted_sound
from separator.io.recording import BLOCK, MAX_PROMISED, Recording

__all__ = ["BLOCK", "Recording", "count_tracks", "open_recording"]

# Samples per read from the decoder. This is also how much is lost at damaged data.
DECODE_SAMPLES = 4096
# Chunks for which libsndfile logs that the file ends too early -> sizes from here on mean an unknown length.
CHUNKS = {"data": 2**31 - 2**20, "SSND": 2**31, "Data Size": 2**31 - 2**20, "riff": 2**40, "Riff size": 2**40}
# Sample formats for which libsndfile does not report where it skipped damaged data.
UNPLACED = ("VORBIS", "OPUS")
# libsndfile's formats whose decoder stops at the length that the first header states.
JOINABLE = ("FLAC", "OGG")
# The packets may state this number of samples too many: encoder delay, padding, and the last Vorbis block.
MAX_SURPLUS = 8192


class SoundFileRecording(Recording):
    """A recording that libsndfile reads.

    Args:
        path: the file.
        pipe: if `path` is a pipe, a temporary file with its content.
    """

    def __init__(self, path: Path, pipe: Any) -> None:
        super().__init__(path, pipe)
        self._raw = pipe or path.open("rb")
        try:
            self._extras = uncounted_sound.find_extra_riff(self._raw)
            source = pipe or audio.libsndfile_name(path)
            if self._extras and self._extras[0].is_file:  # libsndfile refuses two headers in one file
                source = uncounted_sound.Window(self._raw, 0, self._extras[0].start)
            elif pipe is not None:
                pipe.seek(0)
            self._file = file = self._resources.enter_context(soundfile.SoundFile(source))
        except BaseException:
            if pipe is None:  # the content of a pipe stays open for the next decoder
                self._raw.close()
            raise
        self._resources.callback(self._raw.close)
        self.sample_rate, self.file_channels, self.subtype = file.samplerate, file.channels, file.subtype
        self.promised = _stated_length(file)
        if self.subtype in UNPLACED:
            self.too_short = "a part of it is missing"

    def _decode(self) -> Iterator[np.ndarray]:
        done = 0
        try:
            for portion in _portions(self._file):
                done += portion.shape[1]
                yield portion
        except soundfile.SoundFileError as error:
            self.damage = f"a part cannot be decoded ({reason(error)})"
            yield from self._decode_after(done)
            return
        if self._file.format in JOINABLE:
            if self._count_packet_samples() > done + MAX_SURPLUS:
                extras = uncounted_sound.find_extra_flac(self._raw) if self._file.format == "FLAC" else []
                yield from self._decode_extras(extras) if extras else self._decode_after(done)
        else:
            yield from self._decode_extras(self._extras)

    def _count_packet_samples(self) -> int:
        """Count the samples that ffmpeg finds in the file. Return 0 if ffmpeg cannot read it."""
        with contextlib.suppress(*_av_errors()), self._open_with_ffmpeg() as other:
            return other.count()
        return 0

    def _decode_after(self, done: int) -> Iterator[np.ndarray]:
        """Decode with ffmpeg after the first `done` samples. ffmpeg searches for the next complete packet."""
        with contextlib.suppress(*_av_errors()):
            other = self._open_with_ffmpeg()
            with other:
                if other.channels == self.file_channels:
                    yield from other.decode_after(done, self.damage)
                    self.damage = other.damage
            self.filled = other.filled

    def _open_with_ffmpeg(self) -> Any:
        from separator.io.av_recording import AvRecording

        # Duplicate the handle: the other recording closes its copy, and this recording still needs the content.
        pipe = None if self._pipe is None else os.fdopen(os.dup(self._pipe.fileno()), "rb")
        return AvRecording(self.path, pipe, sample_rate=self.sample_rate)

    def _decode_extras(self, extras: Sequence[uncounted_sound.ExtraAudio]) -> Iterator[np.ndarray]:
        """Decode samples that the header does not count, and files that were appended to this file."""
        for extra in extras:
            window = uncounted_sound.Window(self._raw, extra.start, extra.end)
            try:
                sound = self._resources.enter_context(self._open_extra(window, extra))
            except soundfile.SoundFileError as error:
                self.damage = f"the data after the counted samples cannot be decoded ({reason(error)})"
                return
            if (sound.samplerate, sound.channels) != (self.sample_rate, self.file_channels):
                self.damage = (
                    f"another recording of {sound.samplerate} Hz and {sound.channels} channel(s) was joined to it"
                )
                return
            yield from _portions(sound)

    def _open_extra(self, window: uncounted_sound.Window, extra: uncounted_sound.ExtraAudio) -> soundfile.SoundFile:
        if extra.is_file:
            return soundfile.SoundFile(window)
        order = "BIG" if self._file.format == "AIFF" or self._file.endian == "BIG" else "LITTLE"
        return soundfile.SoundFile(window, "r", self.sample_rate, self.file_channels, self.subtype, order, "RAW")


def _portions(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    while len(portion := file.read(DECODE_SAMPLES, dtype="float32", always_2d=True)):
        yield portion.T


def open_recording(path: Path, audio_track: int | None = None, channels: Sequence[int] | None = None) -> Recording:
    """Open a recording. Its blocks are read from the file on demand.

    Args:
        path: the file.
        audio_track: number of the audio track, counted from 1. None (default) for the best track.
        channels: numbers of the channels to read, counted from 1. None (default) for all channels.

    Raises:
        AudioError: if the file is missing, a folder, empty, or not audio that libsndfile or ffmpeg can read. Also if
            the audio track or a channel does not exist, or the sample rate or number of channels is out of range.
    """
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder; name the audio files in it")
        if not path.exists():
            raise AudioError(f"{path}: no such file")
        if path.is_file() and path.stat().st_size == 0:
            raise AudioError(f"{path}: is empty (0 bytes); expected audio")
        recording = _open(path, audio_track)
    except PermissionError as error:
        raise AudioError(f"{path}: cannot be read (permission denied); check its permissions") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({reason(error)})") from error
    try:
        audio.check_rate(recording.sample_rate)
        if channels is None:
            audio.check_channels(recording.file_channels)
    except AudioError as error:
        recording.__exit__()
        raise AudioError(f"{path}: {error}") from error
    if channels is not None:
        try:
            recording.choose_channels(channels)
        except AudioError:
            recording.__exit__()
            raise
    return recording


def _open(path: Path, audio_track: int | None) -> Recording:
    pipe = _copy_pipe(path) if path.is_fifo() else None
    openers = [_open_with_libsndfile] if audio_track in (None, 1) else []
    # For MP3, ffmpeg comes first, because libsndfile decodes only the samples that the header counts. libsndfile comes
    # second, because ffmpeg rejects files of a few samples.
    openers.insert(0 if _is_mpeg(path, pipe) else len(openers), _open_with_ffmpeg)
    reasons = []
    for opener in openers:
        try:
            return opener(path, pipe, audio_track)
        except _NotAudioError as error:
            reasons.append(str(error))
    raise AudioError(
        f"{path}: cannot be read as audio ({'; '.join(reasons)}); expected WAV, FLAC, OGG, MP3, AIFF, CAF, or a file "
        "with an audio track such as m4a, mp4, mkv, webm, wma; check that the file is complete"
    )


class _NotAudioError(Exception):
    """A library cannot read a file."""


def _open_with_libsndfile(path: Path, pipe: Any, audio_track: int | None) -> Recording:
    try:
        return SoundFileRecording(path, pipe)
    except soundfile.SoundFileError as error:
        raise _NotAudioError(reason(error)) from error


def _open_with_ffmpeg(path: Path, pipe: Any, audio_track: int | None) -> Recording:
    import av

    from separator.io.av_recording import AvRecording, av_reason

    try:
        return AvRecording(path, pipe, audio_track)
    except (av.error.FFmpegError, UnicodeEncodeError) as error:
        if isinstance(error, PermissionError):
            raise
        raise _NotAudioError(f"ffmpeg: {av_reason(error)}") from error


def count_tracks(path: Path) -> int:
    """Return the number of audio tracks in a file: 1 if libsndfile reads it, 0 if neither library can read it."""
    with contextlib.suppress(OSError, soundfile.SoundFileError):
        if _is_mpeg(path, None) or path.is_fifo() or soundfile.info(audio.libsndfile_name(path)):
            return 1
    import av

    from separator.io import av_recording

    with contextlib.suppress(av.error.FFmpegError, UnicodeEncodeError):
        return av_recording.count_tracks(path)
    return 0


def _is_mpeg(path: Path, pipe: Any) -> bool:
    """Return whether a file looks like MPEG audio (MP3)."""
    with contextlib.ExitStack() as stack:
        file = pipe or stack.enter_context(path.open("rb"))
        head = file.read(4)
        file.seek(0)
    # The first 11 bits of a frame are set. Bits 14 and 15 give the layer, where 0 means AAC.
    frame = len(head) == 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0
    return frame or (head.startswith(b"ID3") and path.suffix.lower() in (".mp3", ".mp2", ".mpga"))


def _copy_pipe(path: Path) -> Any:
    """Copy a pipe's content to an unnamed temporary file, because libsndfile needs to seek."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the recording, or by garbage collection
    with path.open("rb") as pipe:
        shutil.copyfileobj(pipe, file)
    file.seek(0)
    return file


def _stated_length(file: soundfile.SoundFile) -> int | None:
    """Return the length that the header states, in samples, or None if it states no length.

    If the file is shorter, libsndfile reports only the samples that exist, and writes the header's size to its log.
    """
    for line in file.extra_info.splitlines():
        name, _, sizes = line.partition(":")
        if name.strip() in CHUNKS and "(should be " in sizes:
            stated, actual = (int(word) for word in sizes.replace("(should be", "").replace(")", "").split())
            return round(file.frames * stated / max(actual, 1)) if 0 <= stated < CHUNKS[name.strip()] else file.frames
    return file.frames if file.frames < MAX_PROMISED else None


def _av_errors() -> tuple[type[Exception], ...]:
    """Return the error types for a file that ffmpeg cannot read."""
    import av

    return av.error.FFmpegError, UnicodeEncodeError, AudioError
