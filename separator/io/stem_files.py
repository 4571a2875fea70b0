"""Writing of the stems' files: formats and levels. All files of a recording are written, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from separator.errors import AudioError, ConfigError, check_whole, reason
from separator.io import atomic
from separator.io.audio import FLOAT_SUBTYPES, KEPT_SUBTYPES, MP3_RATES, libsndfile_name, peak, quantize
from separator.io.formats import CONTAINERS, OFFERED
from separator.io.wav import encode, wav_header

# Peak of stems that would otherwise clip, where full scale is 1.
CLIP_PEAK = 0.999
# Largest WAV file in bytes, because its header has 32 bits for the size. Larger files are RF64.
MAX_WAV_BYTES = 2**32 - 2**20
# MP3: highest sample rate in Hz -> lowest and highest bit rate in kbit/s (MPEG-2.5, MPEG-2, MPEG-1).
BITRATES = {12_000: (8, 64), 24_000: (8, 160), 48_000: (32, 320)}
# MP3, kbit/s.
DEFAULT_BITRATE = 128
# Signed and unsigned 8-bit samples. Some containers support only one of them.
OTHER_SIGN = {"PCM_U8": "PCM_S8", "PCM_S8": "PCM_U8"}
# Length of the parts of a stem, in seconds. The loudest part decides whether the stem contains a voice.
PART_SECONDS = 5.0
# Samples per write.
BLOCK = 65536

Blocks = Callable[[], Iterable[np.ndarray]]


class StemFiles:
    """The files of one recording's stems. They have temporary names until all of them are written.

    The temporary files are created first, so that a folder without write access is found before an hour of work.

    Args:
        paths: name of each source -> its file. The suffix gives the format.
        sample_rate: Hz.
        channels: number of channels in each stem.
        subtype: libsndfile's name of the sample format. If the container does not support it, the closest format is
            written.
        overwrite: whether to replace files that exist when the stems are written.
        keep: whether to keep files that exist when the stems are written, and write only the other stems (default:
            False).
        bitrate: mean bit rate of MP3 in kbit/s. None (default) for 128, or less if that is the maximum of MP3 at this
            sample rate.

    Attributes:
        subtype: sample format that is written.
        gain: factor that was applied to all stems so that none clips.
        energies: energy of each stem before the gain, in its loudest part of 5 s.

    Raises:
        AudioError: if the files cannot be created.
        ConfigError: if the suffix is unknown, or the format does not support the sample rate, the number of channels
            or the bit rate.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        sample_rate: int,
        channels: int,
        subtype: str,
        overwrite: bool,
        keep: bool = False,
        bitrate: int | None = None,
    ) -> None:
        self.sample_rate, self.channels = sample_rate, channels
        self.container, self.subtype = container_of(next(iter(paths.values())), subtype)
        _check_limits(self.container, channels, sample_rate, next(iter(paths.values())))
        self._settings = _settings(self.container, sample_rate, bitrate)
        self.gain, self.energies = 1.0, np.zeros(len(paths))
        self.folder = next(iter(paths.values())).parent
        self._files = atomic.AtomicFiles(paths.values(), overwrite, keep)

    @property
    def kept(self) -> list[Path]:
        """Files that existed and were kept."""
        return self._files.kept

    def __enter__(self) -> StemFiles:
        with self._as_audio_errors():
            self._files.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._files.__exit__()

    def write(self, blocks: Blocks, num_samples: int) -> None:
        """Write the stems and rename the files to their final names.

        Args:
            blocks: function that returns the stems in blocks `[source, channel, time]`. It is called a second time if
                the stems would clip.
            num_samples: length of each stem, in samples.

        Raises:
            AudioError: if the stems cannot be written. Then no file is created.
        """
        with self._as_audio_errors():
            highest = self._write(blocks(), num_samples)
            if self.subtype not in FLOAT_SUBTYPES and highest > 1:
                self.gain = CLIP_PEAK / highest
                self._write(blocks(), num_samples)
            self._files.commit()

    def _write(self, blocks: Iterable[np.ndarray], num_samples: int) -> float:
        """Write all stems to the temporary files and return the peak."""
        highest, energies = 0.0, LoudestPart(len(self.energies), round(PART_SECONDS * self.sample_rate))
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(self._writer(temporary, num_samples))
                for temporary in self._files.temporary.values()
            ]
            for block in blocks:
                if block.size:
                    highest = max(highest, peak(block))
                    energies.add(block)
                for write, samples in zip(writers, block, strict=True):
                    for start in range(0, samples.shape[-1], BLOCK):
                        part = samples[:, start : start + BLOCK]
                        write(part if self.gain == 1 else part * np.float32(self.gain))
        for temporary in self._files.temporary.values():
            written = soundfile.info(libsndfile_name(temporary)).frames
            if written != num_samples:
                raise OSError(f"only {written} of {num_samples} samples were written; is the disk full?")
        self.energies = energies.result()
        return highest

    @contextlib.contextmanager
    def _writer(self, temporary: Path, num_samples: int) -> Iterator[Callable[[np.ndarray], object]]:
        """Open a file, and give a function that writes float32 `[channel, time]` to it."""
        rate, channels, subtype = self.sample_rate, self.channels, self.subtype
        if self.container == "WAV" and subtype in KEPT_SUBTYPES:
            size = num_samples * channels * KEPT_SUBTYPES[subtype]
            with temporary.open("wb") as file:
                file.write(wav_header(rate, channels, subtype, size, room=size > MAX_WAV_BYTES))
                yield lambda samples: file.write(encode(samples, subtype))
            return
        form = {"format": self.container, **self._settings}
        name = libsndfile_name(temporary)
        with soundfile.SoundFile(name, "w", rate, channels, subtype, **form) as sound:
            if subtype in KEPT_SUBTYPES and subtype not in FLOAT_SUBTYPES:
                yield lambda samples: sound.write(quantize(samples, subtype).T)
            else:
                yield lambda samples: sound.write(samples.T)

    @contextlib.contextmanager
    def _as_audio_errors(self) -> Iterator[None]:
        """Convert errors of the file system to `AudioError`."""
        try:
            yield
        except FileExistsError as error:
            raise AudioError(
                f"{error.filename2 or error.filename}: already exists; use -f (overwrite=True) to replace it, or "
                "another --out"
            ) from error
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioError(
                f"{self.folder}: cannot be written to ({reason(error)}); choose another folder with --out"
            ) from error


class LoudestPart:
    """Energy of each stem in its loudest part. The recording is divided into consecutive parts.

    A speaker who says three words in an hour therefore still counts as a voice.

    Args:
        num_stems: number of stems.
        part_samples: length of a part, in samples.
    """

    def __init__(self, num_stems: int, part_samples: int) -> None:
        self._part, self._room = part_samples, part_samples
        self._now, self._most = np.zeros(num_stems), np.zeros(num_stems)

    def add(self, block: np.ndarray) -> None:
        """Add the next block `[source, channel, time]`."""
        while block.shape[-1]:
            piece, block = block[..., : self._room], block[..., self._room :]
            self._now += np.einsum("sct,sct->s", piece, piece, dtype=np.float64)
            self._room -= piece.shape[-1]
            if not self._room:
                self._most = self.result()
                self._now, self._room = np.zeros_like(self._now), self._part

    def result(self) -> np.ndarray:
        """Return the energies `[source]`."""
        return np.maximum(self._most, self._now)


def container_of(path: Path, subtype: str) -> tuple[str, str]:
    """Return the container for a file's suffix, and its sample format closest to `subtype`.

    Raises:
        ConfigError: if the suffix is unknown, or the installed libsndfile cannot write the container.
    """
    suffix = path.suffix[1:].lower()
    if suffix not in CONTAINERS:
        raise ConfigError(f"{path}: stems are written as {', '.join(OFFERED)}; end the file name in .{{ext}}")
    container = CONTAINERS[suffix]
    for name in (subtype, OTHER_SIGN.get(subtype, subtype), container.fallback):
        if soundfile.check_format(container.name, name):
            return container.name, name
    raise ConfigError(
        f"{path}: libsndfile {soundfile.__libsndfile_version__} cannot write {container.label}; install a newer "
        "version, or choose another format"
    )


def check_bitrate(bitrate: int, sample_rate: int) -> None:
    """Raise `ConfigError` unless MP3 supports a bit rate, in kbit/s, at a sample rate, in Hz."""
    check_whole("bitrate", bitrate)
    lowest, highest = _bitrates(sample_rate)
    if not lowest <= bitrate <= highest:
        raise ConfigError(
            f"bitrate={bitrate}: MP3 at {sample_rate} Hz supports {lowest} to {highest} kbit/s; choose a value in this "
            "range"
        )


def _bitrates(sample_rate: int) -> tuple[int, int]:
    return next(limits for rate, limits in BITRATES.items() if sample_rate <= rate)


def _check_limits(container: str, channels: int, sample_rate: int, path: Path) -> None:
    limits = CONTAINERS[path.suffix[1:].lower()]
    max_channels, max_rate = limits.max_channels or channels, limits.max_rate or sample_rate
    if channels > max_channels or sample_rate > max_rate:
        raise ConfigError(
            f"{path}: {container} supports at most {max_channels} channels at {max_rate} Hz, but the recording has "
            f"{channels} at {sample_rate} Hz; write WAV"
        )
    if container == "MP3" and sample_rate not in MP3_RATES:
        rates = ", ".join(map(str, MP3_RATES))
        raise ConfigError(
            f"{path}: MP3 supports the sample rates {rates} Hz, but the recording has {sample_rate} Hz; write WAV"
        )


def _settings(container: str, sample_rate: int, bitrate: int | None) -> dict[str, Any]:
    """Return libsndfile's settings for the bit rate.

    The bit rate is a mean. With a constant bit rate, LAME omits the length of the recording if a frame is too small
    for it.
    """
    if container != "MP3":
        if bitrate is not None:
            raise ConfigError(f"bitrate={bitrate}: {container} has no bit rate setting; leave it out, or write MP3")
        return {}
    lowest, highest = _bitrates(sample_rate)
    bitrate = min(DEFAULT_BITRATE, highest) if bitrate is None else bitrate
    check_bitrate(bitrate, sample_rate)
    # From 0 for the highest bit rate to just below 1 for the lowest. libsndfile rounds down to whole kbit/s.
    level = min(max(0.0, (highest - bitrate - 0.5) / (highest - lowest)), 0.999)
    return {"bitrate_mode": "AVERAGE", "compression_level": level}
