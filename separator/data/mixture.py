"""A mixture and its sources: the type that training, evaluation and reports exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

# Largest peak of a mixture that keeps its level.
MAX_PEAK = 0.9
# Below this RMS level (about -100 dB of full scale), a signal is silence and is not scaled.
SILENT_RMS = 1e-5


@dataclass(frozen=True)
class Mixture:
    """A mixture and its sources.

    Attributes:
        mixture: `[time]` or `[channel, time]`. In a batch `[batch, ...]`.
        sources: `[source, time]` or `[source, channel, time]`. In a batch `[batch, ...]`.
        sample_rate: in Hz.
        name: origin of the mixture, for messages and scores.
        skipped: error messages of recordings that were drawn for it but could not be used.
    """

    mixture: Tensor
    sources: Tensor
    sample_rate: int
    name: str
    skipped: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Mixture:
        """Copy the mixture to a device."""
        return replace(self, mixture=self.mixture.to(device), sources=self.sources.to(device))

    @classmethod
    def of(
        cls, sources: np.ndarray, sample_rate: int, name: str, peak: float | None, rest: np.ndarray | None = None
    ) -> Mixture:
        """Make a mixture as the sum of its sources and the rest.

        The mixture and the sources are scaled by the same gain.

        Args:
            sources: `[source, time]`.
            sample_rate: in Hz.
            name: origin of the mixture.
            peak: peak of the mixture, 1 for full scale. None keeps the level, but prevents clipping.
            rest: sound that is not a source, `[time]`. None (default) for nothing.
        """
        total = sources.sum(0) if rest is None else sources.sum(0) + rest
        highest = max(float(np.abs(total).max()), 1e-9)
        gain = min(1.0, MAX_PEAK / highest) if peak is None else peak / highest
        stems = torch.from_numpy((sources * gain).astype(np.float32))
        if rest is None:
            return cls(stems.sum(0), stems, sample_rate, name)
        return cls(torch.from_numpy((total * gain).astype(np.float32)), stems, sample_rate, name)


def collate(mixtures: Sequence[Mixture]) -> Mixture:
    """Combine mixtures of the same length into one batch."""
    return Mixture(
        torch.stack([item.mixture for item in mixtures]),
        torch.stack([item.sources for item in mixtures]),
        mixtures[0].sample_rate,
        ", ".join(item.name for item in mixtures),
        tuple(name for item in mixtures for name in item.skipped),
    )


def unit_rms(voice: np.ndarray) -> np.ndarray:
    """Scale a voice to a root mean square of 1. Silence stays the same."""
    rms = float(np.sqrt(np.mean(np.square(voice, dtype=np.float64))))
    return voice / rms if rms > SILENT_RMS else voice


def at_loudness(voice: np.ndarray, lufs: float, sample_rate: int) -> np.ndarray:
    """Scale a voice to a loudness in LUFS (ITU-R BS.1770-4). A voice too quiet to measure stays the same."""
    import pyloudnorm

    now = pyloudnorm.Meter(sample_rate).integrated_loudness(voice)
    return (voice * 10 ** ((lufs - now) / 20)).astype(np.float32) if np.isfinite(now) else voice
