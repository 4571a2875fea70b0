"""A mixture and what is in it: the type that training, evaluation and reports exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

# Peak of a mixture whose level is otherwise kept.
MAX_PEAK = 0.9
# Below this level (RMS, about -100 dB of full scale) a signal is silence and is not scaled.
SILENT_RMS = 1e-5


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


def unit_rms(voice: np.ndarray) -> np.ndarray:
    """Scaled to a root mean square of 1; silence is left as it is."""
    rms = float(np.sqrt(np.mean(np.square(voice, dtype=np.float64))))
    return voice / rms if rms > SILENT_RMS else voice


def at_loudness(voice: np.ndarray, lufs: float, sample_rate: int) -> np.ndarray:
    """Scaled to a loudness by ITU-R BS.1770-4; what is too quiet to have one is left as it is."""
    import pyloudnorm

    now = pyloudnorm.Meter(sample_rate).integrated_loudness(voice)
    return (voice * 10 ** ((lufs - now) / 20)).astype(np.float32) if np.isfinite(now) else voice
