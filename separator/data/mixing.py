"""Mixtures drawn from single voices.

Example `index` of a `Mixtures` depends only on the seed and on `index`. It does not depend on the number of workers or
processes, or on earlier examples. A mixture is the sum of its sources and of everything that is not a source (noise,
reverberation). It then goes through `separator.data.recording_chain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from separator.data import augment
from separator.data.corpora import Corpus, draw_segment
from separator.data.mixing_settings import Mixing
from separator.data.mixture import Mixture, at_loudness
from separator.data.noises import Background
from separator.data.recording_chain import RecordingChain
from separator.data.recordings import RecordingError
from separator.data.rooms import RoomBank
from separator.data.speakers import SpeakerDraw
from separator.data.turns import turns
from separator.errors import ConfigError, DataError
from separator.io.audio import fit_length

# Below this RMS level (about -60 dB of full scale), a segment of a recording counts as silence.
SILENCE_RMS = 1e-3
# Number of corrupt recordings in a row before an error. After that many, something else is wrong.
MAX_ATTEMPTS = 20


class Mixtures(Dataset):
    """Endless mixtures of different speakers of a corpus, drawn on the fly.

    Args:
        corpora: corpora with the same sample rate, each with its share of the examples.
        num_sources: sources of a mixture: the voices, all of different speakers, and the noise if it is a source.
        mixing: settings of how voices become a mixture.
        seed: an example depends only on the seed and its index.
        noise: background noise. None (default) for none.
        rooms: room responses. None (default) for no reverberation.
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
        mixing.check_at(self.sample_rate)
        self.num_samples = round(mixing.segment_seconds * self.sample_rate)
        self.num_sources = num_sources
        self.has_background = noise is not None and noise.is_source
        self.num_voices = num_sources - self.has_background
        if mixing.background_share and noise is None:
            raise ConfigError(
                f"data.mixing.background_share={mixing.background_share:g} needs background noise, but data.noise is "
                "not set: choose one, such as data/noise@data.noise=generated"
            )
        # Only the first corpus has recordings. Generated voices belong to no named corpus.
        self._draws = [
            SpeakerDraw(corpus, None if number else mixing.corpus_shares) for number, corpus in enumerate(self.corpora)
        ]
        if self.num_voices < 1:
            raise ConfigError(
                "data.noise.is_source makes the noise one of the sources: model.num_sources must be at least 2"
            )
        active = [0.0] * (self.num_voices - 1) + [1.0] if mixing.active is None else mixing.active
        if len(active) > self.num_voices:
            raise ConfigError(
                f"data.mixing.active has shares for up to {len(active)} voices, but the model separates "
                f"{self.num_voices}"
            )
        self.active = np.asarray(active, dtype=float) / sum(active)
        for corpus in self.corpora:
            if len(corpus.speakers) < len(active):
                raise DataError(
                    f"mixtures of {len(active)} voices need {len(active)} speakers, got {len(corpus.speakers)}"
                )

    def __str__(self) -> str:
        return f"drawn mixtures of {' and '.join(map(str, self.corpora))}"

    @property
    def skipped(self) -> list[str]:
        """Error messages of the recordings that the corpora left out."""
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
        raise DataError(f"{MAX_ATTEMPTS} unusable recordings in a row, the last one: {skipped[-1]}")

    def _draw(self, index: int, generator: np.random.Generator) -> Mixture:
        mixing = self.mixing
        number = generator.choice(len(self.corpora), p=self.shares)
        corpus = self.corpora[number]
        count = len(self.active) if self.active[-1] == 1 else 1 + generator.choice(len(self.active), p=self.active)
        is_near = bool(mixing.near_pitch_share) and generator.random() < mixing.near_pitch_share
        speakers = self._draws[number].draw(count, is_near, generator)
        # Voices of similar pitch get the same speed, so that their pitches stay similar.
        speed = generator.uniform(*mixing.speeds) if is_near else None
        voices = np.stack([self._voice(corpus, speaker, generator, speed) for speaker in speakers])
        speaking = np.ones((count, 1), np.float32)
        if min(mixing.overlap) < 1 and (mixing.turns_share == 1 or generator.random() < mixing.turns_share):
            overlap = generator.uniform(*mixing.overlap)
            speaking = turns(count, self.num_samples, self.sample_rate, overlap, generator)
        voices = self._set_levels(voices * speaking, speaking.mean(1, keepdims=True), generator)
        peak = None if mixing.peak_db is None else 10 ** (generator.uniform(*mixing.peak_db) / 20)
        chain = RecordingChain.draw(mixing, self.sample_rate, generator)
        heard, voices = (voices, voices) if self.rooms is None else self.rooms.place(voices, generator)
        voices = np.pad(voices, ((0, self.num_voices - count), (0, 0)))
        echoes = heard.sum(0) - voices.sum(0)
        is_empty = bool(mixing.background_share) and generator.random() < mixing.background_share
        background = self._background(heard.sum(0), generator, chain, is_empty)
        if is_empty:
            voices, echoes = np.zeros_like(voices), np.zeros_like(echoes)
        parts = chain.transmit(np.concatenate([voices, background[None], echoes[None]]), generator)
        kept = self.num_voices + self.has_background
        rest = parts[kept:].sum(0) if np.any(parts[kept:]) else None
        names = "+".join(corpus.speakers[speaker] for speaker in speakers)
        name = f"seed {self.seed} example {index} ({names})"
        return chain.degrade(Mixture.of(parts[:kept], self.sample_rate, name, peak, rest), generator)

    def _background(
        self, voices: np.ndarray, generator: np.random.Generator, chain: RecordingChain, always: bool
    ) -> np.ndarray:
        """Draw noise, hum and offset for the sum of the voices `[time]`. `always` draws noise whatever its share."""
        noise = np.zeros_like(voices) if self.noise is None else self.noise.draw(voices, generator, always)
        return noise + chain.disturbance(voices + noise, generator)

    def _voice(
        self, corpus: Corpus, speaker: int, generator: np.random.Generator, speed: float | None = None
    ) -> np.ndarray:
        """Draw one speaker for the whole mixture. Without a `speed`, it is drawn."""
        mixing = self.mixing
        speed = generator.uniform(*mixing.speeds) if speed is None else speed
        samples = draw_segment(corpus, speaker, int(np.ceil(self.num_samples * speed)) + 1, generator)
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

    def _set_levels(self, voices: np.ndarray, speaking: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Scale each voice to a drawn level. A level in RMS is measured only over the time in which the voice speaks.

        Args:
            voices: `[voice, time]`.
            speaking: share of the time in which each voice speaks, `[voice, 1]`.
            generator: draws the levels.
        """
        mixing, count = self.mixing, len(voices)
        if mixing.loudness_lufs is not None:
            wanted = generator.uniform(*mixing.loudness_lufs, count)
            return np.stack([at_loudness(*pair, self.sample_rate) for pair in zip(voices, wanted, strict=True)])
        gains = 10 ** (generator.uniform(0, mixing.level_db, (count, 1)) / 20)
        rms = np.sqrt(np.square(voices, dtype=np.float64).mean(1, keepdims=True) / speaking)
        # Silence stays silence.
        return (voices * np.where(rms > SILENCE_RMS / 100, gains / np.maximum(rms, 1e-9), 1.0)).astype(np.float32)


class FixedMixtures(Dataset):
    """The first `count` examples of a `Mixtures`. They are the same in every epoch and every run."""

    def __init__(self, mixtures: Mixtures, count: int) -> None:
        self.mixtures, self.count = mixtures, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mixture:
        return self.mixtures[index]
