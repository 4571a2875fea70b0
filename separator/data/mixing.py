"""Mixtures drawn from single voices.

Example `index` of a `Mixtures` depends on its seed and `index` alone: not on the number of workers or
processes, and not on what was drawn before. The mixture is made here and nowhere else: the sum of its sources, and
what is no source (noise, echoes), and then what befell the recording (clipping, codecs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from separator.audio import fit_length
from separator.data import augment
from separator.data.corpora import Corpus, draw_stretch
from separator.data.noises import Background
from separator.data.recordings import RecordingError
from separator.data.rooms import RoomBank
from separator.data.turns import turns
from separator.errors import ConfigError, DataError, check_number, check_range

# Below this level (RMS, about -60 dB of full scale) a stretch of a recording counts as silence.
SILENCE_RMS = 1e-3
# Peak of a mixture whose level is otherwise kept.
MAX_PEAK = 0.9
# Corrupt recordings met one after the other before giving up: with so many, something else is wrong.
MAX_ATTEMPTS = 20


# Settings that are drawn between two values, with the lowest and the highest that makes sense.
RANGES = (
    ("overlap", 0, 1),
    ("loudness_lufs", -70, 0),
    ("speeds", 0.25, 4),
    ("semitones", -24, 24),
    ("formants", 0.5, 2),
    ("band_low_hz", 0, 20000),
    ("band_high_hz", 100, 100000),
    ("clip_fraction", 0.01, 1),
    ("peak_db", -90, 0),
)


@dataclass(frozen=True)
class Mixture:
    """A mixture and what is in it.

    Attributes:
        mixture: `[time]`, or `[channel, time]`; in a batch `[batch, ...]`.
        sources: `[source, time]`, or `[source, channel, time]`; in a batch `[batch, ...]`.
        sample_rate: Hz.
        name: says where it came from.
        skipped: recordings that were to be used and could not be.
    """

    mixture: Tensor
    sources: Tensor
    sample_rate: int
    name: str
    skipped: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Mixture:
        """The same on a device."""
        return replace(self, mixture=self.mixture.to(device), sources=self.sources.to(device))

    @classmethod
    def of(
        cls, sources: np.ndarray, sample_rate: int, name: str, peak: float | None, rest: np.ndarray | None = None
    ) -> Mixture:
        """Adds `sources` `[source, time]` up, and `rest` `[time]` if there is something else.

        One gain for all makes the mixture's peak `peak`; with None it keeps its level, but does not clip.
        """
        total = sources.sum(0) if rest is None else sources.sum(0) + rest
        highest = max(float(np.abs(total).max()), 1e-9)
        gain = min(1.0, MAX_PEAK / highest) if peak is None else peak / highest
        stems = torch.from_numpy((sources * gain).astype(np.float32))
        if rest is None:
            return cls(stems.sum(0), stems, sample_rate, name)
        return cls(torch.from_numpy((total * gain).astype(np.float32)), stems, sample_rate, name)


def collate(mixtures: Sequence[Mixture]) -> Mixture:
    """Mixtures of one length as one batch."""
    return Mixture(
        torch.stack([item.mixture for item in mixtures]),
        torch.stack([item.sources for item in mixtures]),
        mixtures[0].sample_rate,
        ", ".join(item.name for item in mixtures),
        tuple(name for item in mixtures for name in item.skipped),
    )


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """`data.mixing`: how voices become a mixture. Of a pair, values are drawn uniformly between its two.

    Attributes:
        segment_seconds: length of a training mixture.
        active: shares of the mixtures with 1, 2, ... voices, the other sources being silent; null for always all.
        overlap: 1 for voices that speak all the time; below, they take turns, of which this part overlaps the next.
        level_db: each voice's level is drawn from 0 to this, so that two differ by at most that.
        loudness_lufs: each voice's loudness instead (ITU-R BS.1770), as LibriMix has it: [-33, -25].
        speeds: factors of playing speed, drawn for each voice: they move pitch and formants, and so make voices
            that the corpus does not have.
        semitones: shift of each voice's pitch, its speed kept.
        formants: factors of each voice's formants, its pitch kept: vocal tracts of other lengths.
        equalizer_db: standard deviation of the gains, an octave each, of an equalizer that each voice goes through:
            microphones and places that the corpus does not have.
        band_share: of the voices that come through a narrow band.
        band_low_hz: where such a band begins.
        band_high_hz: where it ends.
        clip_share: of the mixtures that are clipped.
        clip_fraction: of its peak at which a mixture is clipped.
        codec_share: of the mixtures that went through a lossy codec.
        peak_db: peak of the mixture, dB of full scale; null to keep the loudness that was drawn.
    """

    segment_seconds: float = 3.0
    active: Sequence[float] | None = None
    overlap: tuple[float, float] = (1.0, 1.0)
    level_db: float = 5.0
    loudness_lufs: tuple[float, float] | None = None
    speeds: tuple[float, float] = (1.0, 1.0)
    semitones: tuple[float, float] = (0.0, 0.0)
    formants: tuple[float, float] = (1.0, 1.0)
    equalizer_db: float = 0.0
    band_share: float = 0.0
    band_low_hz: tuple[float, float] = (0.0, 300.0)
    band_high_hz: tuple[float, float] = (3400.0, 8000.0)
    clip_share: float = 0.0
    clip_fraction: tuple[float, float] = (0.3, 0.9)
    codec_share: float = 0.0
    peak_db: tuple[float, float] | None = (-20.0, -0.5)

    def __post_init__(self) -> None:
        check_number("data.mixing.segment_seconds", self.segment_seconds, 0.01)
        check_number("data.mixing.level_db", self.level_db, 0, 60)
        check_number("data.mixing.equalizer_db", self.equalizer_db, 0, 30)
        for name, least, most in RANGES:
            value = getattr(self, name)
            if value is not None or name not in ("loudness_lufs", "peak_db"):
                check_range(f"data.mixing.{name}", value, least, most)
        for name in ("band_share", "clip_share", "codec_share"):
            check_number(f"data.mixing.{name}", getattr(self, name), 0, 1)
        if self.active is not None:
            if isinstance(self.active, str) or not isinstance(self.active, Sequence) or not self.active:
                raise ConfigError(
                    f"data.mixing.active must be a list of shares, such as [0.5,0.5], got {self.active!r}"
                )
            for share in self.active:
                check_number("each of data.mixing.active", share, 0)
            if sum(self.active) <= 0:
                raise ConfigError(f"data.mixing.active must be shares with a sum above 0, got {list(self.active)}")

    def only(self, seconds: float) -> Mixing:
        """The same in `seconds`, with voices and recordings as they are: for validation."""
        plain = Mixing()
        changes = {
            name: getattr(plain, name) for name in ("speeds", "semitones", "formants", "equalizer_db", "band_share")
        }
        return replace(self, segment_seconds=seconds, **changes)


class Mixtures(Dataset):
    """Mixtures of different speakers of a corpus, drawn on the fly.

    Args:
        corpora: corpora of one sample rate, with the share of the examples that each provides.
        num_sources: sources of a mixture: voices, all of different speakers, and the noise if it is one.
        mixing: how they are drawn and put together.
        seed: everything drawn follows from it and the example's index.
        noise: what is behind the voices.
        rooms: what they stand in.
    """

    def __init__(
        self,
        corpora: Sequence[tuple[Corpus, float]],
        num_sources: int,
        mixing: Mixing,
        seed: int,
        noise: Background | None = None,
        rooms: RoomBank | None = None,
    ) -> None:
        self.corpora = [corpus for corpus, _ in corpora]
        shares = np.array([share for _, share in corpora], dtype=float)
        self.shares = shares / shares.sum()
        self.sample_rate = self.corpora[0].sample_rate
        self.mixing, self.seed, self.noise, self.rooms = mixing, seed, noise, rooms
        self.num_samples = round(mixing.segment_seconds * self.sample_rate)
        self.num_sources = num_sources
        self.num_voices = num_sources - (noise is not None and noise.is_source)
        if self.num_voices < 1:
            raise ConfigError(
                "data.noise.is_source makes the noise one of the sources: model.num_sources must be at least 2"
            )
        active = [0.0] * (self.num_voices - 1) + [1.0] if mixing.active is None else mixing.active
        if len(active) > self.num_voices:
            raise ConfigError(
                f"data.mixing.active has shares for up to {len(active)} voices, the model separates {self.num_voices}"
            )
        self.active = np.asarray(active, dtype=float) / sum(active)
        for corpus in self.corpora:
            if len(corpus.speakers) < len(active):
                raise DataError(f"mixtures of {len(active)} voices need as many speakers, got {len(corpus.speakers)}")

    def __str__(self) -> str:
        return f"drawn mixtures of {' and '.join(map(str, self.corpora))}"

    @property
    def skipped(self) -> list[str]:
        """What was wrong with recordings that were left out from the start."""
        return [text for corpus in self.corpora for text in getattr(corpus, "skipped", ())]

    def __getitem__(self, index: int) -> Mixture:
        skipped: list[str] = []
        while len(skipped) < MAX_ATTEMPTS:
            try:
                item = self._draw(index, np.random.default_rng([self.seed, index, len(skipped)]))
            except RecordingError as error:
                skipped.append(str(error))
            else:
                return replace(item, skipped=tuple(skipped))
        raise DataError(f"{MAX_ATTEMPTS} useless recordings one after the other, the last one: {skipped[-1]}")

    def _draw(self, index: int, generator: np.random.Generator) -> Mixture:
        mixing = self.mixing
        corpus = self.corpora[generator.choice(len(self.corpora), p=self.shares)]
        count = len(self.active) if self.active[-1] == 1 else 1 + generator.choice(len(self.active), p=self.active)
        speakers = generator.choice(len(corpus.speakers), count, replace=False)
        voices = np.stack([self._voice(corpus, speaker, generator) for speaker in speakers])
        speaking = np.ones((count, 1), np.float32)
        if min(mixing.overlap) < 1:
            overlap = generator.uniform(*mixing.overlap)
            speaking = turns(count, self.num_samples, self.sample_rate, overlap, generator)
        voices = self._levelled(voices * speaking, speaking.mean(1, keepdims=True), generator)
        peak = None if mixing.peak_db is None else 10 ** (generator.uniform(*mixing.peak_db) / 20)
        heard, sources = (voices, voices) if self.rooms is None else self.rooms.place(voices, generator)
        sources = np.pad(sources, ((0, self.num_voices - count), (0, 0)))
        rest = None if self.rooms is None else heard.sum(0) - sources.sum(0)
        if self.noise is not None:
            noise = self.noise.draw(heard.sum(0), generator)
            if self.noise.is_source:
                sources = np.concatenate([sources, noise[None]])
            else:
                rest = noise if rest is None else rest + noise
        names = "+".join(corpus.speakers[speaker] for speaker in speakers)
        item = Mixture.of(sources, self.sample_rate, f"seed {self.seed} example {index} ({names})", peak, rest)
        return self._spoilt(item, generator)

    def _voice(self, corpus: Corpus, speaker: int, generator: np.random.Generator) -> np.ndarray:
        """One speaker for the whole length."""
        mixing = self.mixing
        speed = generator.uniform(*mixing.speeds)
        samples = draw_stretch(corpus, speaker, int(np.ceil(self.num_samples * speed)) + 1, generator)
        if np.abs(samples).max() < SILENCE_RMS / 100:
            raise RecordingError(f"{corpus.speakers[speaker]}: digital silence for {self.mixing.segment_seconds:g} s")
        voice = fit_length(augment.change_speed(samples, speed), self.num_samples)
        if any(mixing.semitones):
            voice = augment.shift_pitch(voice, self.sample_rate, generator.uniform(*mixing.semitones))
        if tuple(mixing.formants) != (1.0, 1.0):
            voice = augment.warp_formants(voice, self.sample_rate, generator.uniform(*mixing.formants))
        if mixing.equalizer_db:
            gains_db = generator.normal(0, mixing.equalizer_db, augment.num_octaves(self.sample_rate))
            voice = augment.equalize(voice, self.sample_rate, gains_db)
        if mixing.band_share and generator.random() < mixing.band_share:
            band = generator.uniform(*mixing.band_low_hz), generator.uniform(*mixing.band_high_hz)
            voice = augment.limit_band(voice, self.sample_rate, *band)
        return voice

    def _levelled(self, voices: np.ndarray, speaking: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Each voice at the level drawn for it, which counts for the part of the time in which it speaks."""
        mixing, count = self.mixing, len(voices)
        if mixing.loudness_lufs is not None:
            wanted = generator.uniform(*mixing.loudness_lufs, count)
            return np.stack([at_loudness(*pair, self.sample_rate) for pair in zip(voices, wanted, strict=True)])
        gains = 10 ** (generator.uniform(0, mixing.level_db, (count, 1)) / 20)
        rms = np.sqrt(np.square(voices, dtype=np.float64).mean(1, keepdims=True) / speaking)
        # Silence stays silence.
        return (voices * np.where(rms > SILENCE_RMS / 100, gains / np.maximum(rms, 1e-9), 1.0)).astype(np.float32)

    def _spoilt(self, item: Mixture, generator: np.random.Generator) -> Mixture:
        """The mixture clipped or coded, if that is drawn; its sources as they were."""
        mixing = self.mixing
        if mixing.clip_share and generator.random() < mixing.clip_share:
            samples = augment.clip(item.mixture.numpy(), generator.uniform(*mixing.clip_fraction))
            item = replace(item, mixture=torch.from_numpy(samples))
        if mixing.codec_share and generator.random() < mixing.codec_share:
            codec = augment.draw_codec(self.sample_rate, generator)
            samples = augment.code(item.mixture.numpy(), self.sample_rate, *codec)
            item = replace(item, mixture=torch.from_numpy(samples))
        return item


class FixedMixtures(Dataset):
    """The first `count` examples of a `Mixtures`: the same in every epoch and every run."""

    def __init__(self, mixtures: Mixtures, count: int) -> None:
        self.mixtures, self.count = mixtures, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mixture:
        return self.mixtures[index]


def unit_rms(voice: np.ndarray) -> np.ndarray:
    """Scaled to a root mean square of 1; silence is left as it is."""
    rms = float(np.sqrt(np.mean(np.square(voice, dtype=np.float64))))
    return voice / rms if rms > SILENCE_RMS / 100 else voice


def at_loudness(voice: np.ndarray, lufs: float, sample_rate: int) -> np.ndarray:
    """Scaled to a loudness by ITU-R BS.1770-4; what is too quiet to have one is left as it is."""
    import pyloudnorm

    now = pyloudnorm.Meter(sample_rate).integrated_loudness(voice)
    return (voice * 10 ** ((lufs - now) / 20)).astype(np.float32) if np.isfinite(now) else voice
