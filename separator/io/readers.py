"""Opens recordings: with libsndfile, and with ffmpeg's libraries (PyAV) where libsndfile cannot read them."""

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

# Samples that are asked of a decoder at a time: of a damaged stretch so many are lost.
PORTION = 4096
# Chunks in whose header libsndfile notes that a file ends before they do, and the largest size that is meant so.
CHUNKS = {"data": 2**31 - 2**20, "SSND": 2**31, "Data Size": 2**31 - 2**20, "riff": 2**40, "Riff size": 2**40}
# Sample formats of which libsndfile does not tell what it left out in the middle.
UNPLACED = ("VORBIS", "OPUS")
# libsndfile's formats whose decoder stops where the first header says.
JOINABLE = ("FLAC", "OGG")
# Samples by which packets may promise more than they hold: encoder delay, padding, and the last Vorbis block.
MAX_SURPLUS = 8192


class SoundFileRecording(Recording):
    """A recording that libsndfile reads."""

    def __init__(self, path: Path, pipe: Any) -> None:
        super().__init__(path, pipe)
        self._raw = pipe or path.open("rb")
        try:
            self._rests = uncounted_sound.riff_rests(self._raw)
            source = pipe or audio.libsndfile_name(path)
            if self._rests and self._rests[0].is_file:  # libsndfile refuses two headers in one file
                source = uncounted_sound.Window(self._raw, 0, self._rests[0].start)
            elif pipe is not None:
                pipe.seek(0)
            self._file = file = self._resources.enter_context(soundfile.SoundFile(source))
        except BaseException:
            if pipe is None:  # what came out of a pipe is given to another decoder
                self._raw.close()
            raise
        self._resources.callback(self._raw.close)
        self.sample_rate, self.file_channels, self.subtype = file.samplerate, file.channels, file.subtype
        self.promised = _promised(file)
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
            yield from self._after(done)
            return
        if self._file.format in JOINABLE:
            if self._packets() > done + MAX_SURPLUS:
                rests = uncounted_sound.flac_rests(self._raw) if self._file.format == "FLAC" else []
                yield from self._behind(rests) if rests else self._after(done)
        else:
            yield from self._behind(self._rests)

    def _packets(self) -> int:
        """Samples that ffmpeg finds in the file; 0 if it cannot read it."""
        with contextlib.suppress(*_av_errors()), self._by_ffmpeg() as other:
            return other.count()
        return 0

    def _after(self, done: int) -> Iterator[np.ndarray]:
        """What comes after the samples that libsndfile gave: ffmpeg looks for the next whole packet."""
        with contextlib.suppress(*_av_errors()):
            other = self._by_ffmpeg()
            with other:
                if other.channels == self.file_channels:
                    yield from other.after(done, self.damage)
                    self.damage = other.damage
            self.filled = other.filled

    def _by_ffmpeg(self) -> Any:
        from separator.io.av_recording import AvRecording

        # The pipe's content is closed with this recording, not with the other one.
        pipe = None if self._pipe is None else os.fdopen(os.dup(self._pipe.fileno()), "rb")
        return AvRecording(self.path, pipe, sample_rate=self.sample_rate)

    def _behind(self, rests: Sequence[uncounted_sound.Rest]) -> Iterator[np.ndarray]:
        """Samples that the header does not count, and files that were joined to this one."""
        for rest in rests:
            window = uncounted_sound.Window(self._raw, rest.start, rest.end)
            try:
                sound = self._resources.enter_context(self._open_rest(window, rest))
            except soundfile.SoundFileError as error:
                self.damage = f"what follows the counted samples cannot be decoded ({reason(error)})"
                return
            if (sound.samplerate, sound.channels) != (self.sample_rate, self.file_channels):
                self.damage = (
                    f"another recording of {sound.samplerate} Hz and {sound.channels} channel(s) was joined to it"
                )
                return
            yield from _portions(sound)

    def _open_rest(self, window: uncounted_sound.Window, rest: uncounted_sound.Rest) -> soundfile.SoundFile:
        if rest.is_file:
            return soundfile.SoundFile(window)
        order = "BIG" if self._file.format == "AIFF" or self._file.endian == "BIG" else "LITTLE"
        return soundfile.SoundFile(window, "r", self.sample_rate, self.file_channels, self.subtype, order, "RAW")


def _portions(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    while len(portion := file.read(PORTION, dtype="float32", always_2d=True)):
        yield portion.T


def open_recording(path: Path, audio_track: int | None = None, channels: Sequence[int] | None = None) -> Recording:
    """Opens a file. Its blocks are read from it when they are asked for.

    Args:
        path: the file.
        audio_track: which of its audio tracks, from 1 on; None for the best one.
        channels: numbers, from 1 on, of the channels that are wanted; None for all.

    Raises:
        AudioError: if it is missing, no file, empty, not audio that libsndfile or ffmpeg reads, without an audio
            track or that one, without a wanted channel, or of a rate or number of channels that no recording has.
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
        raise AudioError(f"{path}: may not be read; check its permissions") from error
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
    pipe = _drained(path) if path.is_fifo() else None
    openers = [_by_libsndfile] if audio_track in (None, 1) else []
    # Of MP3, libsndfile's decoder reads only what the header counts. ffmpeg's refuses files of a few samples.
    openers.insert(0 if _is_mpeg(path, pipe) else len(openers), _by_ffmpeg)
    reasons = []
    for opener in openers:
        try:
            return opener(path, pipe, audio_track)
        except _NotAudioError as error:
            reasons.append(str(error))
    raise AudioError(
        f"{path}: cannot be read as audio ({'; '.join(reasons)}); is it whole? "
        "Expected WAV, FLAC, OGG, MP3, AIFF, CAF, or a file with an audio track such as m4a, mp4, mkv, webm, wma"
    )


class _NotAudioError(Exception):
    """One of the libraries cannot read a file."""


def _by_libsndfile(path: Path, pipe: Any, audio_track: int | None) -> Recording:
    try:
        return SoundFileRecording(path, pipe)
    except soundfile.SoundFileError as error:
        raise _NotAudioError(reason(error)) from error


def _by_ffmpeg(path: Path, pipe: Any, audio_track: int | None) -> Recording:
    import av

    from separator.io.av_recording import AvRecording, av_reason

    try:
        return AvRecording(path, pipe, audio_track)
    except (av.error.FFmpegError, UnicodeEncodeError) as error:
        if isinstance(error, PermissionError):
            raise
        raise _NotAudioError(f"ffmpeg: {av_reason(error)}") from error


def count_tracks(path: Path) -> int:
    """Number of audio tracks of a file: 1 for what libsndfile reads, 0 for what nobody reads."""
    with contextlib.suppress(OSError, soundfile.SoundFileError):
        if _is_mpeg(path, None) or path.is_fifo() or soundfile.info(audio.libsndfile_name(path)):
            return 1
    import av

    from separator.io import av_recording

    with contextlib.suppress(av.error.FFmpegError, UnicodeEncodeError):
        return av_recording.count_tracks(path)
    return 0


def _is_mpeg(path: Path, pipe: Any) -> bool:
    """Whether a file looks like MPEG audio (MP3), which libsndfile's decoder reads only as far as its header says."""
    with contextlib.ExitStack() as stack:
        file = pipe or stack.enter_context(path.open("rb"))
        head = file.read(4)
        file.seek(0)
    # A frame's first 11 bits are set; the next but two name the layer, of which 0 is AAC.
    frame = len(head) == 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0
    return frame or (head.startswith(b"ID3") and path.suffix.lower() in (".mp3", ".mp2", ".mpga"))


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
    return file.frames if file.frames < MAX_PROMISED else None


def _av_errors() -> tuple[type[Exception], ...]:
    """Errors of ffmpeg for a file that it cannot read."""
    import av

    return av.error.FFmpegError, UnicodeEncodeError, AudioError
