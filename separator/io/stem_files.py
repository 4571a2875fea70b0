"""The stems' files: formats, levels, and that all of them appear, whole, or none."""

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
from separator.io.wav import encode, wav_header

# Written peak of stems that would clip otherwise, just below full scale.
CLIP_PEAK = 0.999
# A WAV file counts its bytes in 32 bits.
MAX_WAV_BYTES = 2**32 - 2**20
# By the suffix of a name: libsndfile's container, and what it holds of the deepest.
CONTAINERS = {
    "wav": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_24"),
    "ogg": ("OGG", "VORBIS"),
    "aiff": ("AIFF", "FLOAT"),
    "caf": ("CAF", "FLOAT"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
# Channels and Hz that a container holds at most. libsndfile crashes on Vorbis of more.
LIMITS = {"FLAC": (8, 655_350), "OGG": (255, 200_000), "MP3": (2, 48_000)}
EXTENSIONS = ("wav", "flac", "ogg", "mp3")
# MP3: sample rates in Hz up to which, and lowest and highest bit rate in kbit/s (MPEG-2.5, MPEG-2, MPEG-1).
BITRATES = {12_000: (8, 64), 24_000: (8, 160), 48_000: (32, 320)}
DEFAULT_BITRATE = 128
# 8 bits with and without a sign: some containers hold the one, some the other.
OTHER_SIGN = {"PCM_U8": "PCM_S8", "PCM_S8": "PCM_U8"}
# Length of the parts of which the loudest says whether there is a voice in a stem.
PART_SECONDS = 5.0
# Samples that are written at a time.
BLOCK = 65536

Blocks = Callable[[], Iterable[np.ndarray]]


class StemFiles:
    """Files for the stems of one recording, hidden until all are written.

    They are made at once, so that an hour's work is not begun for a place that cannot be written to.

    Args:
        paths: name of each source -> its file; the suffix says the format.
        sample_rate: Hz.
        channels: of each stem.
        subtype: sample format in libsndfile's words; of a kind that the format does not hold, the nearest.
        overwrite: whether files that are there by the time the stems are written may be replaced.
        keep: whether files that are there by then stay, and only the other stems appear.
        bitrate: of MP3, in kbit/s, the mean; 128 if None, or the highest that MP3 has at that sample rate.

    Attributes:
        subtype: sample format that is written.
        gain: that all stems were given so that none clips.
        energies: of each stem, as it was given, in those 5 s in which it is loudest.

    Raises:
        AudioError: if the files cannot be made.
        ConfigError: for a suffix that is none of ours, of a format that does not hold so much, or a bit rate that the
            format does not have.
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
        _check_holds(self.container, channels, sample_rate, next(iter(paths.values())))
        self._settings = _settings(self.container, sample_rate, bitrate)
        self.gain, self.energies = 1.0, np.zeros(len(paths))
        self.folder = next(iter(paths.values())).parent
        self._together = atomic.Together(paths.values(), overwrite, keep)

    @property
    def kept(self) -> list[Path]:
        """Files that were there and stayed."""
        return self._together.kept

    def __enter__(self) -> StemFiles:
        with self._errors_told():
            self._together.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._together.__exit__()

    def write(self, blocks: Blocks, num_samples: int) -> None:
        """Writes stems and lets them appear.

        Args:
            blocks: called for the stems in blocks `[source, channel, time]`; twice if they would clip.
            num_samples: in all.

        Raises:
            AudioError: if they cannot be written. Then none appears.
        """
        with self._errors_told():
            highest = self._write(blocks(), num_samples)
            if self.subtype not in FLOAT_SUBTYPES and highest > 1:
                self.gain = CLIP_PEAK / highest
                self._write(blocks(), num_samples)
            self._together.appear()

    def _write(self, blocks: Iterable[np.ndarray], num_samples: int) -> float:
        """Writes all to the hidden files; returns the peak."""
        highest, energies = 0.0, LoudestPart(len(self.energies), round(PART_SECONDS * self.sample_rate))
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(self._writer(hidden, num_samples)) for hidden in self._together.hidden.values()
            ]
            for block in blocks:
                if block.size:
                    highest = max(highest, peak(block))
                    energies.add(block)
                for write, samples in zip(writers, block, strict=True):
                    for start in range(0, samples.shape[-1], BLOCK):
                        part = samples[:, start : start + BLOCK]
                        write(part if self.gain == 1 else part * np.float32(self.gain))
        for hidden in self._together.hidden.values():
            written = soundfile.info(libsndfile_name(hidden)).frames
            if written != num_samples:
                raise OSError(f"only {written} of {num_samples} samples got there; is the disk full?")
        self.energies = energies.result()
        return highest

    @contextlib.contextmanager
    def _writer(self, hidden: Path, num_samples: int) -> Iterator[Callable[[np.ndarray], object]]:
        """What writes float32 `[channel, time]` to a file."""
        rate, channels, subtype = self.sample_rate, self.channels, self.subtype
        if self.container == "WAV" and subtype in KEPT_SUBTYPES:
            size = num_samples * channels * KEPT_SUBTYPES[subtype]
            with hidden.open("wb") as file:
                file.write(wav_header(rate, channels, subtype, size, room=size > MAX_WAV_BYTES))
                yield lambda samples: file.write(encode(samples, subtype))
            return
        form = {"format": self.container, **self._settings}
        name = libsndfile_name(hidden)
        with soundfile.SoundFile(name, "w", rate, channels, subtype, **form) as sound:
            if subtype in KEPT_SUBTYPES and subtype not in FLOAT_SUBTYPES:
                yield lambda samples: sound.write(quantize(samples, subtype).T)
            else:
                yield lambda samples: sound.write(samples.T)

    @contextlib.contextmanager
    def _errors_told(self) -> Iterator[None]:
        """Errors of the file system as `AudioError`."""
        try:
            yield
        except FileExistsError as error:
            raise AudioError(
                f"{error.filename2 or error.filename}: already exists; use -f (overwrite=True) to replace it, or "
                "another --out"
            ) from error
        except (OSError, soundfile.SoundFileError) as error:
            raise AudioError(
                f"{self.folder}: cannot be written to ({reason(error)}); choose another place with --out"
            ) from error


class LoudestPart:
    """Energy of each stem in the part of a recording in which it has most; parts follow on each other.

    Somebody who says three words in an hour is there all the same.
    """

    def __init__(self, num_stems: int, part_samples: int) -> None:
        self._part, self._room = part_samples, part_samples
        self._now, self._most = np.zeros(num_stems), np.zeros(num_stems)

    def add(self, block: np.ndarray) -> None:
        """The next `[source, channel, time]`."""
        while block.shape[-1]:
            piece, block = block[..., : self._room], block[..., self._room :]
            self._now += np.einsum("sct,sct->s", piece, piece, dtype=np.float64)
            self._room -= piece.shape[-1]
            if not self._room:
                self._most = self.result()
                self._now, self._room = np.zeros_like(self._now), self._part

    def result(self) -> np.ndarray:
        """`[source]`"""
        return np.maximum(self._most, self._now)


def container_of(path: Path, subtype: str) -> tuple[str, str]:
    """The container that a file's suffix means, and the sample format in it that is nearest to `subtype`.

    Raises:
        ConfigError: if the suffix is none of ours, or this libsndfile does not write it.
    """
    suffix = path.suffix[1:].lower()
    if suffix not in CONTAINERS:
        raise ConfigError(f"{path}: stems are written as {', '.join(EXTENSIONS)}; end the file name in .{{ext}}")
    container, deepest = CONTAINERS[suffix]
    candidates = (subtype, OTHER_SIGN.get(subtype, subtype), deepest)
    for name in candidates:
        if soundfile.check_format(container, name):
            return container, name
    raise ConfigError(
        f"{path}: libsndfile {soundfile.__libsndfile_version__} writes no {container}; install a newer one, or choose "
        "another format"
    )


def check_bitrate(bitrate: int, sample_rate: int) -> None:
    """Raises `ConfigError` for a bit rate, in kbit/s, that MP3 does not have at a sample rate."""
    check_whole("bitrate", bitrate)
    lowest, highest = _bitrates(sample_rate)
    if not lowest <= bitrate <= highest:
        raise ConfigError(f"bitrate={bitrate}: MP3 at {sample_rate} Hz has {lowest} to {highest} kbit/s; choose one")


def _bitrates(sample_rate: int) -> tuple[int, int]:
    return next(limits for rate, limits in BITRATES.items() if sample_rate <= rate)


def _check_holds(container: str, channels: int, sample_rate: int, path: Path) -> None:
    most_channels, highest_rate = LIMITS.get(container, (channels, sample_rate))
    if channels > most_channels or sample_rate > highest_rate:
        raise ConfigError(
            f"{path}: {container} holds at most {most_channels} channels at {highest_rate} Hz, the recording has "
            f"{channels} at {sample_rate} Hz; write WAV"
        )
    if container == "MP3" and sample_rate not in MP3_RATES:
        rates = ", ".join(map(str, MP3_RATES))
        raise ConfigError(f"{path}: MP3 has the rates {rates} Hz, the recording has {sample_rate} Hz; write WAV")


def _settings(container: str, sample_rate: int, bitrate: int | None) -> dict[str, Any]:
    """What libsndfile is told of the bit rate.

    As a mean: with a constant one, LAME leaves out the length of the recording where a frame has no room for it.
    """
    if container != "MP3":
        if bitrate is not None:
            raise ConfigError(f"bitrate={bitrate}: {container} has none to choose; leave it out, or write MP3")
        return {}
    lowest, highest = _bitrates(sample_rate)
    bitrate = min(DEFAULT_BITRATE, highest) if bitrate is None else bitrate
    check_bitrate(bitrate, sample_rate)
    # From 0, the highest, to under 1, the lowest; libsndfile rounds down to whole kbit/s.
    level = min(max(0.0, (highest - bitrate - 0.5) / (highest - lowest)), 0.999)
    return {"bitrate_mode": "AVERAGE", "compression_level": level}
