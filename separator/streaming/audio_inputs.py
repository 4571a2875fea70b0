"""Audio inputs of a stream: standard input, a file or a microphone, read by a thread."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from separator.errors import AudioError, ConfigError, choose, reason
from separator.io.audio import check_channels, check_rate, is_audio

BLOCK_SECONDS = 0.01
# Maximum length of the queue, in blocks. While it is full, the reader of a file or a pipe waits. A microphone cannot
# wait.
MAX_QUEUED_BLOCKS = 1000
# Names of sample formats in ALSA, ffmpeg and sox -> libsndfile's names.
RAW_FORMATS = {"u8": "PCM_U8", "s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32", "f32": "FLOAT", "f64": "DOUBLE"}
# ALSA's spelling of these names. Its S24_LE is missing, because it has 4 bytes per sample.
ALSA_FORMATS = {"S16_LE": "s16", "S24_3LE": "s24", "S32_LE": "s32", "FLOAT_LE": "f32", "FLOAT64_LE": "f64", "U8": "u8"}
# Formats that libsndfile cannot read correctly without seeking.
NOT_FROM_PIPES = ("RF64", "MPEG", "FLAC")
# A program that does not know the length writes the largest possible size, 2 GiB or more, with up to 8 bytes per
# sample. From this number of samples on, the stated length means "unknown".
UNKNOWN_SAMPLES = 2**28 - 2**20


@dataclass(frozen=True)
class RawFormat:
    """Format of samples without a header.

    Attributes:
        sample_rate: Hz.
        channels: number of channels (default: 1).
        subtype: libsndfile's name of the sample format (default: "PCM_16").
    """

    sample_rate: int
    channels: int = 1
    subtype: str = "PCM_16"

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Parse `RATE[,CHANNELS[,FORMAT]]`, such as "16000,1,s16".

        Raises:
            AudioError: if the sample rate or the number of channels is out of range.
            ConfigError: for any other invalid text.
        """
        rate, channels, kind = (text.split(",") + ["1", "s16"][len(text.split(",")) - 1 :])[:3]
        if text.count(",") > 2 or not rate.isdecimal() or not channels.isdecimal() or not int(channels):
            raise ConfigError(f"--raw {text!r}: expected RATE[,CHANNELS[,FORMAT]], such as 16000,1,s16")
        check_rate(int(rate))
        check_channels(int(channels))
        return cls(int(rate), int(channels), choose("--raw format", ALSA_FORMATS.get(kind, kind), RAW_FORMATS))


class Source:
    """Audio from a pipe, a file or a microphone, in blocks `[channel, time]`. A thread reads it into a queue.

    Use it as a context manager, and iterate over it for the blocks. Set `stop` to end it.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        subtype: libsndfile's name of the sample format.
        gaps: how often samples of a microphone were lost.
        missing_seconds: after the end, the difference to the length in the header, if the audio was shorter.
    """

    sample_rate: int
    channels: int
    subtype: str
    gaps: int = 0
    missing_seconds: float = 0.0

    def __init__(self) -> None:
        self._queue: queue.Queue[np.ndarray | Exception | None] = queue.Queue()
        self.stop = threading.Event()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()

    @property
    def queued_seconds(self) -> float:
        """Length of the audio in the queue, in seconds."""
        return self._queue.qsize() * BLOCK_SECONDS

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield blocks until the end. If several blocks are in the queue, they are joined into one.

        If `stop` is set, the iteration ends when the queue is empty.

        Raises:
            AudioError: if the audio cannot be read any further.
        """
        while True:
            try:
                blocks = [self._queue.get(timeout=0.1)]
            except queue.Empty:
                if self.stop.is_set():
                    return
                continue
            with contextlib.suppress(queue.Empty):
                while len(blocks) < MAX_QUEUED_BLOCKS:
                    blocks.append(self._queue.get_nowait())
            samples = [block for block in blocks if isinstance(block, np.ndarray)]
            if samples:
                yield np.concatenate(samples, axis=-1)
            for block in blocks:
                if isinstance(block, Exception):
                    raise block
                if block is None:
                    return

    def _put(self, item: np.ndarray | Exception | None, limit: int | None = None) -> None:
        while limit is not None and self._queue.qsize() >= limit and not self.stop.is_set():
            time.sleep(BLOCK_SECONDS)
        self._queue.put(item)


class FileSource(Source):
    """Audio from standard input ("-") or a file.

    Args:
        track: path of the file, or "-".
        raw: format of samples without a header. None (default) for a file with a header that libsndfile reads.

    Raises:
        AudioError: if the audio cannot be read.
    """

    def __init__(self, track: str, raw: RawFormat | None = None) -> None:
        super().__init__()
        self._shown = "standard input" if track == "-" else track
        if track == "-" and sys.stdin is None:
            raise AudioError("standard input is closed; pipe audio into it, or name a file")
        if track == "-" and sys.stdin.isatty():
            raise AudioError("standard input is the terminal; pipe audio into it, or name a file")
        if track != "-":
            path = Path(track)
            try:
                problem = "is a folder" if path.is_dir() else None if path.exists() else "no such file"
            except OSError as failure:  # such as a name that is too long
                problem = reason(failure)
            if problem is not None:
                raise AudioError(f"{track}: {problem}; expected a recording")
        # The thread opens the file, because the header may arrive late, and signals do not interrupt libsndfile.
        opened: queue.Queue[Exception | None] = queue.Queue()
        threading.Thread(target=self._run, args=(track, raw, opened), daemon=True).start()
        while True:
            with contextlib.suppress(queue.Empty):
                error = opened.get(timeout=0.1)
                break
        if error is not None:
            raise error

    def _run(self, track: str, raw: RawFormat | None, opened: queue.Queue[Exception | None]) -> None:
        try:
            file = self._open(track, raw)
        except Exception as error:  # raised again by the constructor, which waits for it
            opened.put(error)
            return
        opened.put(None)
        try:
            self._read(file)
        except Exception as error:
            self._put(AudioError(f"{self._shown}: cannot be read any further ({reason(error)})"))

    def _open(self, track: str, raw: RawFormat | None) -> soundfile.SoundFile:
        settings: dict[str, Any] = {}
        if raw is not None:
            settings = {"format": "RAW", "samplerate": raw.sample_rate, "channels": raw.channels}
            settings |= {"subtype": raw.subtype, "endian": "LITTLE"}
        try:
            # libsndfile can open a named pipe only by a file descriptor.
            handle = sys.stdin.fileno() if track == "-" else os.open(track, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            if hasattr(os, "set_blocking"):  # available on Windows since Python 3.12
                os.set_blocking(handle, True)
            file = soundfile.SoundFile(handle, closefd=track != "-", **settings)
        except (OSError, ValueError, soundfile.SoundFileError) as error:
            raise AudioError(
                f"{self._shown}: cannot be read as audio ({reason(error)}); expected a WAV header; check that "
                "the input is not empty, or use --raw RATE,CHANNELS,FORMAT for samples without a header"
            ) from error
        if file.format in NOT_FROM_PIPES and not file.seekable():
            raise AudioError(f"{self._shown}: {file.format} cannot be read from a pipe; name the file, or pipe WAV")
        check_channels(file.channels)
        if raw is None and file.frames == 0 and not file.seekable():
            raise AudioError(
                f"{self._shown}: its header states 0 samples; pipe samples without a header, and use --raw"
            )
        self.sample_rate, self.channels, self.subtype = file.samplerate, file.channels, file.subtype
        return file

    def _read(self, file: soundfile.SoundFile) -> None:
        frames, read = max(1, round(BLOCK_SECONDS * self.sample_rate)), 0
        while not self.stop.is_set():
            block = file.read(frames, dtype="float32", always_2d=True)
            if len(block) == 0:
                break
            bad = np.flatnonzero(~is_audio(block).all(axis=1))
            good = block[: bad[0]] if len(bad) else block
            self._put(np.ascontiguousarray(good.T), MAX_QUEUED_BLOCKS)
            read += len(good)
            if len(bad):
                where = f"{self._shown}: the sample at {read / self.sample_rate:.3f} s"
                self._put(AudioError(f"{where} is NaN, infinite or too large; expected finite samples"))
                return
        if not read and not self.stop.is_set():
            self._put(AudioError(f"{self._shown}: no samples received; check that the program that sends them runs"))
        if not self.stop.is_set() and read < file.frames and file.frames * file.channels < UNKNOWN_SAMPLES:
            self.missing_seconds = (file.frames - read) / self.sample_rate
        self._put(None)


class MicrophoneSource(Source):
    """Audio from a microphone. It needs the `live` extra.

    Args:
        device: number of the device, or a part of its name. "" for the default device.
        wanted_rate: preferred sample rate in Hz, at which no resampling is needed. If the device does not support it,
            the device's default rate is used.

    Raises:
        ConfigError: if a package is missing, or the device cannot be opened.
    """

    def __init__(self, device: str, wanted_rate: int) -> None:
        super().__init__()
        try:
            import sounddevice
        except (ImportError, OSError) as error:  # OSError: the PortAudio library is missing
            raise ConfigError(
                f"a microphone needs the package sounddevice and PortAudio ({reason(error)}); "
                "install both with: pip install 'separator[live]'"
            ) from error
        self.channels, self.subtype = 1, "PCM_16"
        chosen = (int(device) if device.isdecimal() else device) if device else None
        try:
            own_rate = int(sounddevice.query_devices(chosen, "input")["default_samplerate"])
            self.sample_rate = wanted_rate
            try:
                sounddevice.check_input_settings(device=chosen, channels=1, dtype="float32", samplerate=wanted_rate)
            except (ValueError, sounddevice.PortAudioError):
                self.sample_rate = own_rate
            self._stream = sounddevice.InputStream(
                samplerate=self.sample_rate,
                blocksize=round(BLOCK_SECONDS * self.sample_rate),
                device=chosen,
                channels=1,
                dtype="float32",
                callback=self._take,
                finished_callback=lambda: self._put(self._end()),
            )
            self._stream.start()
        except (ValueError, sounddevice.PortAudioError) as error:
            raise ConfigError(
                f"microphone {device or '(default)'} cannot be opened ({reason(error)}); "
                "python -m sounddevice lists the devices"
            ) from error

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._stream.close()

    def _take(self, samples: np.ndarray, frames: int, when: Any, status: Any) -> None:
        self.gaps += bool(status.input_overflow)
        self._put(samples.T.copy())

    def _end(self) -> Exception | None:
        return None if self.stop.is_set() else AudioError("the microphone stopped; check that it is still plugged in")


def track_name(track: str) -> str:
    """Return the track name of a source, for the files of its stems."""
    if track == "-":
        return "stdin"
    return "microphone" if is_microphone(track) else Path(track).stem or "recording"


def is_microphone(track: str) -> bool:
    """Return whether the name means a microphone: "mic" or "mic:DEVICE"."""
    return track == "mic" or track.startswith("mic:")


def open_source(track: str, raw: RawFormat | None, wanted_rate: int) -> Source:
    """Open an audio source.

    Args:
        track: "-" for standard input, "mic", "mic:DEVICE", or the path of a file.
        raw: format of samples without a header, or None.
        wanted_rate: preferred sample rate of a microphone, in Hz.

    Raises:
        AudioError: if standard input or the file cannot be read.
        ConfigError: if the microphone cannot be opened.
    """
    if is_microphone(track):
        return MicrophoneSource(track[4:], wanted_rate)
    return FileSource(track, raw)
