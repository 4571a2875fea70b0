"""Background noise: recordings, or noise generated from a seed where no recordings are available.

There are five kinds of generated noise:
- hiss: hiss or rumble of any colour whose level rises and falls (wind, rain, traffic, fans).
- hum: a low tone with harmonics (mains, engines).
- blows: impacts that ring (dishes, steps, keys).
- tones: a sequence of notes (music, alarms).
- babble: many generated voices.
A scene is one or two of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft

from separator.data.corpora import SPLIT_SEEDS, Corpus, FolderCorpus, draw_segment, split_files
from separator.data.voices import PEAK, Voice
from separator.errors import ConfigError, DataError, check_number, check_range, check_whole

BABBLE_VOICES = 6


def hiss(seconds: float, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Noise with a random smooth spectrum that falls by 0 to 9 dB per octave. Its level varies slowly."""
    num_samples = round(seconds * sample_rate)
    frequencies = scipy.fft.rfftfreq(num_samples, 1 / sample_rate)
    octaves = np.log2(np.maximum(frequencies, 50) / 50)
    places = np.linspace(0, octaves[-1], 7)
    colour = np.interp(octaves, places, generator.normal(0, 6, 7)) - generator.uniform(0, 9) * octaves
    phases = generator.uniform(0, 2 * np.pi, len(frequencies))
    spectrum = 10 ** (colour / 20) * np.exp(1j * phases) * (frequencies > 20)
    return scipy.fft.irfft(spectrum, num_samples) * _swell(num_samples, sample_rate, generator)


def hum(seconds: float, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """A low tone with harmonics. Its pitch is steady (mains) or varies slowly (an engine)."""
    num_samples = round(seconds * sample_rate)
    pitch = generator.choice([50.0, 60.0]) if generator.random() < 0.4 else generator.uniform(40, 180)
    wander = 1 + generator.choice([0.0, 0.15]) * _wander(num_samples, sample_rate, 1.0, generator)
    phase = 2 * np.pi * np.cumsum(pitch * wander) / sample_rate
    fall = generator.uniform(0.5, 1.5)
    total = np.zeros(num_samples)
    for harmonic in range(1, max(2, int(min(30, 0.45 * sample_rate / pitch / 1.3)))):
        total += generator.uniform(0.3, 1) / harmonic**fall * np.sin(harmonic * phase + generator.uniform(0, 6.3))
    return total * _swell(num_samples, sample_rate, generator)


def blows(seconds: float, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Impacts at random times. All have the same decaying resonances, 3 to 8 of them."""
    num_samples = round(seconds * sample_rate)
    times = np.arange(round(0.5 * sample_rate)) / sample_rate
    modes = generator.uniform(150, 0.4 * sample_rate, int(generator.integers(3, 9)))
    decays = generator.uniform(0.005, 0.12, len(modes))
    body = np.zeros(len(times))
    for mode, decay in zip(modes, decays, strict=True):
        body += generator.uniform(0.2, 1) * np.exp(-times / decay) * np.sin(2 * np.pi * mode * times)
    total = np.zeros(num_samples + len(times))
    for start in generator.integers(0, num_samples, max(1, round(seconds * generator.uniform(0.5, 6)))):
        total[start : start + len(times)] += generator.uniform(0.1, 1) * body
    return total[:num_samples]


def tones(seconds: float, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Notes of a scale, one to three at the same time, plucked or held."""
    num_samples = round(seconds * sample_rate)
    base, length = generator.uniform(90, 350), generator.uniform(0.12, 0.6)
    decay = generator.uniform(0.1, 1.0)
    scale = np.array([0, 2, 4, 7, 9, 12, 14, 16])
    times = np.arange(round(length * sample_rate)) / sample_rate
    shape = np.exp(-times / decay) * np.minimum(1, times / 0.01) * np.minimum(1, (length - times) / 0.02)
    overtones = generator.uniform(0.1, 1, 5) / np.arange(1, 6)
    total = np.zeros(num_samples + len(times))
    for start in range(0, num_samples, len(times)):
        for step in generator.choice(scale, int(generator.integers(1, 4))):
            pitch = base * 2 ** (step / 12)
            for number, strength in enumerate(overtones, 1):
                if number * pitch < 0.45 * sample_rate:
                    tone = shape * np.sin(2 * np.pi * number * pitch * times)
                    total[start : start + len(times)] += strength * tone
    return total[:num_samples]


def babble(seconds: float, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Six generated voices at the same time, so that a listener cannot follow any of them."""
    total = np.zeros(round(seconds * sample_rate), np.float32)
    for _ in range(BABBLE_VOICES):
        total += generator.uniform(0.3, 1) * Voice.draw(generator).speak(seconds, sample_rate, generator)
    return total


KINDS: dict[str, Callable[[float, int, np.random.Generator], np.ndarray]] = {
    "hiss": hiss,
    "hum": hum,
    "blows": blows,
    "tones": tones,
    "babble": babble,
}


def scene(seconds: float, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Draw one or two kinds of noise and add them, float32 `[time]`, peak 0.9."""
    names = generator.choice(list(KINDS), int(generator.integers(1, 3)), replace=False)
    total = np.zeros(round(seconds * sample_rate))
    for name in names:
        part = KINDS[name](seconds, sample_rate, generator)
        total += part * generator.uniform(0.3, 1) / max(float(np.std(part)), 1e-9)
    return (total * (PEAK / max(float(np.abs(total).max()), 1e-9))).astype(np.float32)


class GeneratedNoiseCorpus:
    """Corpus of generated noise scenes (see `separator.data.corpora.Corpus`). A scene is made at its first use.

    Args:
        num_recordings: number of scenes.
        seconds: length of a scene in seconds, at least 1.
        sample_rate: in Hz.
        seed: a scene depends only on the seed and its number.
    """

    speakers: Sequence[str] = ("noise",)

    def __init__(self, num_recordings: int, seconds: float, sample_rate: int, seed: int) -> None:
        if num_recordings < 1 or seconds < 1:
            raise ConfigError(
                f"generated noise needs at least 1 recording of at least 1 s, got {num_recordings} of {seconds} s"
            )
        self.sample_rate, self.seconds, self.seed = sample_rate, seconds, seed
        self.num_recordings = num_recordings
        self._made: dict[int, np.ndarray] = {}

    def lengths(self, speaker: int) -> Sequence[int]:
        """Length of each scene in samples. All have the same length."""
        return [round(self.seconds * self.sample_rate)] * self.num_recordings

    def read(self, speaker: int, recording: int, start: int, num_samples: int) -> np.ndarray:
        """Read part of a scene, float32 `[time]`."""
        if recording not in self._made:
            samples = scene(self.seconds, self.sample_rate, np.random.default_rng([self.seed, 7, recording]))
            self._made[recording] = (samples * 32767).astype(np.int16)  # half the memory
        return self._made[recording][start : start + num_samples].astype(np.float32) / 32768


class Background:
    """Random segments of noise at a signal-to-noise ratio.

    Args:
        corpus: recordings of noise, with a single "speaker".
        snr_db: lowest and highest signal-to-noise ratio in dB: energy of the voices to energy of the noise.
        share: share of the mixtures that have noise (0 to 1).
        is_source: whether the noise is the last source to be separated.
    """

    def __init__(self, corpus: Corpus, snr_db: tuple[float, float], share: float, is_source: bool) -> None:
        self.corpus, self.snr_db, self.share, self.is_source = corpus, snr_db, share, is_source

    def draw(self, voices: np.ndarray, generator: np.random.Generator, always: bool = False) -> np.ndarray:
        """Draw noise for `voices` `[time]`: noise for `share` of the mixtures, otherwise silence.

        `always` draws noise for every mixture.
        """
        if generator.random() >= self.share and not always:
            return np.zeros_like(voices)
        noise = draw_segment(self.corpus, 0, len(voices), generator)
        energy, wanted = (float(np.square(signal, dtype=np.float64).sum()) for signal in (noise, voices))
        ratio = 10 ** (generator.uniform(*self.snr_db) / 10)
        return noise * np.float32(np.sqrt(wanted / max(energy, 1e-9) / ratio))


@dataclass(frozen=True, kw_only=True)
class NoiseData(ABC):
    """Base class of the `data/noise` groups.

    Attributes:
        snr_db: lowest and highest signal-to-noise ratio in dB (default: 0 to 20).
        share: share of the mixtures that have noise (0 to 1, default: 1).
        is_source: whether the noise is the last source to be separated (default: false).
    """

    snr_db: tuple[float, float] = (0.0, 20.0)
    share: float = 1.0
    is_source: bool = False

    def __post_init__(self) -> None:
        check_range("data.noise.snr_db", self.snr_db, -60, 100)
        check_number("data.noise.share", self.share, 0, 1)

    @abstractmethod
    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """The recordings of a split."""

    def background(self, split: str, sample_rate: int, seed: int) -> Background:
        """A `Background` with the noise of a split."""
        return Background(self.corpus(split, sample_rate, seed), self.snr_db, self.share, self.is_source)


@dataclass(frozen=True, kw_only=True)
class GeneratedNoise(NoiseData):
    """`data/noise=generated`: generated noise scenes.

    Attributes:
        num_recordings: number of training scenes (default: 200). Validation and tests each have a quarter as many,
            with other scenes.
        recording_seconds: length of a scene in seconds, at least 1 (default: 8).
    """

    num_recordings: int = 200
    recording_seconds: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("data.noise.num_recordings", self.num_recordings)
        check_number("data.noise.recording_seconds", self.recording_seconds, 1)

    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """The scenes of a split. Every seed and split has different scenes."""
        number = self.num_recordings if split == "train" else max(1, self.num_recordings // 4)
        return GeneratedNoiseCorpus(number, self.recording_seconds, sample_rate, seed + SPLIT_SEEDS[split])


@dataclass(frozen=True, kw_only=True)
class FolderNoise(NoiseData):
    """`data/noise=folder data.noise.root=DIR`, and `data/noise=wham`: recordings of noise in a folder.

    If `root` has folders for the splits (train, valid and test, or WHAM!'s tr, cv and tt), they are used. Otherwise
    the files are split at random.

    Attributes:
        root: the folder. Files are found at any depth.
        valid_fraction: share of the files for validation if `root` has no splits (0 to 0.9, default: 0.1).
        test_fraction: share of the files for tests (0 to 0.9, default: 0.1).
        split_seed: seed of the random split (default: 0).
        cache_megabytes: cache for decoded audio in each worker, in MiB (default: 500).
        source: where to get the recordings, for the error message if there are none.
    """

    root: str
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0
    cache_megabytes: int = 500
    source: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("valid_fraction", "test_fraction"):
            check_number(f"data.noise.{name}", getattr(self, name), 0, 0.9)
        check_whole("data.noise.cache_megabytes", self.cache_megabytes, least=0)

    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """The recordings of a split, as one speaker."""
        fractions = self.valid_fraction, self.test_fraction
        paths = split_files(Path(self.root), self.split_seed, *fractions, self.source)
        if split not in paths:
            raise DataError(f"{self.root}: has no noise for {split}, only for {', '.join(paths)}")
        return FolderCorpus({"noise": paths[split]}, sample_rate, self.cache_megabytes)


def _wander(num_samples: int, sample_rate: int, rate: float, generator: np.random.Generator) -> np.ndarray:
    """A slow random curve with about unit variance. It changes direction about `rate` times per second."""
    count = max(2, int(num_samples / sample_rate * rate) + 2)
    return np.interp(np.linspace(0, count - 1, num_samples), np.arange(count), generator.normal(0, 1, count))


def _swell(num_samples: int, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """A gain that is constant, or varies by a few dB within about a second."""
    depth = generator.choice([0.0, 2.0, 5.0])
    return 10 ** (depth * _wander(num_samples, sample_rate, generator.uniform(0.3, 3), generator) / 20)
