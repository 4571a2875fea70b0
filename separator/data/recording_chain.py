"""What a whole recording goes through: hum and offset, the microphone, a telephone line, a codec, clipping.

What is linear happens to every source alike, so that they still add up. What is not happens to the mixture alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from separator.data import augment, noises
from separator.data.mixing_settings import Mixing
from separator.data.mixture import Mixture


@dataclass(frozen=True)
class RecordingChain:
    """One mixture's way, drawn before anything goes along it.

    Attributes:
        mixing: the settings that it was drawn from.
        sample_rate: Hz.
        line: lower and upper end of a telephone's band in Hz; None without a telephone.
        line_codec: what the telephone codes with; None for nothing.
    """

    mixing: Mixing
    sample_rate: int
    line: tuple[float, float] | None
    line_codec: augment.Codec | None

    @classmethod
    def draw(cls, mixing: Mixing, sample_rate: int, generator: np.random.Generator) -> RecordingChain:
        """As the settings' shares have it."""
        line = codec = None
        if mixing.line_share and generator.random() < mixing.line_share:
            line = generator.uniform(*mixing.line_low_hz), generator.uniform(*mixing.line_high_hz)
            if generator.random() < mixing.line_codec_share:
                codec = augment.draw_codec(augment.LINE_RATE, generator)
        return cls(mixing, sample_rate, line, codec)

    def disturbance(self, total: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Hum and a constant offset, `[time]`, for a recording `[time]`; zeros where none is drawn."""
        mixing, result = self.mixing, np.zeros_like(total)
        if mixing.hum_share and generator.random() < mixing.hum_share:
            hum = noises.hum(len(total) / self.sample_rate, self.sample_rate, generator)[: len(total)]
            hum = np.pad(hum, (0, len(total) - len(hum)))
            gain_db = 10 * np.log10(np.square(total).mean() / max(np.square(hum).mean(), 1e-12) + 1e-12)
            result += (hum * 10 ** ((gain_db - generator.uniform(*mixing.hum_snr_db)) / 20)).astype(np.float32)
        if mixing.offset_share and generator.random() < mixing.offset_share:
            result += np.float32(generator.uniform(*mixing.offset) * generator.choice([-1, 1]) * np.abs(total).max())
        return result

    def transmit(self, sources: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """All that is in the recording, `[source, time]`, through the microphone and the telephone's band."""
        if self.mixing.microphone_db:
            octaves = augment.num_octaves(self.sample_rate)
            sources = augment.equalize(
                sources, self.sample_rate, generator.normal(0, self.mixing.microphone_db, octaves)
            )
        if self.line is not None:
            sources = augment.through_line(augment.limit_band(sources, self.sample_rate, *self.line), self.sample_rate)
        return sources.astype(np.float32, copy=False)

    def degrade(self, item: Mixture, generator: np.random.Generator) -> Mixture:
        """The mixture clipped or coded; its sources as they are."""
        mixing, samples = self.mixing, item.mixture.numpy()
        if mixing.clip_share and generator.random() < mixing.clip_share:
            samples = augment.clip(samples, generator.uniform(*mixing.clip_fraction))
        if self.line_codec is not None:
            samples = augment.through_line(samples, self.sample_rate, self.line_codec)
        if mixing.codec_share and generator.random() < mixing.codec_share:
            samples = augment.code(samples, self.sample_rate, *augment.draw_codec(self.sample_rate, generator))
        return replace(item, mixture=torch.from_numpy(samples))
