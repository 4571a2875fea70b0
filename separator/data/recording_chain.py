"""Degradation of a whole recording: hum and offset, microphone, telephone line, codec, clipping.

Linear effects are applied to every source in the same way, so that the sources still add up. Nonlinear effects are
applied to the mixture only.
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
    """The degradation of one mixture.

    Attributes:
        mixing: the settings that it was drawn from.
        sample_rate: in Hz.
        line: lower and upper end of a telephone line's band in Hz. None without a telephone line.
        line_codec: codec of the telephone line. None for no codec.
    """

    mixing: Mixing
    sample_rate: int
    line: tuple[float, float] | None
    line_codec: augment.Codec | None

    @classmethod
    def draw(cls, mixing: Mixing, sample_rate: int, generator: np.random.Generator) -> RecordingChain:
        """Draw a chain according to the shares in the settings."""
        line = codec = None
        if mixing.line_share and generator.random() < mixing.line_share:
            line = generator.uniform(*mixing.line_low_hz), generator.uniform(*mixing.line_high_hz)
            if generator.random() < mixing.line_codec_share:
                codec = augment.draw_codec(augment.LINE_RATE, generator)
        return cls(mixing, sample_rate, line, codec)

    def disturbance(self, total: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw hum and a constant offset, `[time]`, for a recording `[time]`. Zeros if neither is drawn."""
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
        """Send all sources and noises, `[source, time]`, through the microphone and the telephone line's band."""
        if self.mixing.microphone_db:
            octaves = augment.num_octaves(self.sample_rate)
            sources = augment.equalize(
                sources, self.sample_rate, generator.normal(0, self.mixing.microphone_db, octaves)
            )
        if self.line is not None:
            sources = augment.through_line(augment.limit_band(sources, self.sample_rate, *self.line), self.sample_rate)
        return sources.astype(np.float32, copy=False)

    def degrade(self, item: Mixture, generator: np.random.Generator) -> Mixture:
        """Clip or encode the mixture. The sources stay the same."""
        mixing, samples = self.mixing, item.mixture.numpy()
        if mixing.clip_share and generator.random() < mixing.clip_share:
            samples = augment.clip(samples, generator.uniform(*mixing.clip_fraction))
        if self.line_codec is not None:
            samples = augment.through_line(samples, self.sample_rate, self.line_codec)
        if mixing.codec_share and generator.random() < mixing.codec_share:
            samples = augment.code(samples, self.sample_rate, *augment.draw_codec(self.sample_rate, generator))
        return replace(item, mixture=torch.from_numpy(samples))
