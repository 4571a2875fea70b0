"""What lies below every voice: a constant offset, mains hum, the rumble of a low-frequency channel.

Nobody hears it in the stems of two people, but its level beside that of the voices spoils the masks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# All below the first frequency is no voice, all above the second may be one. Between them is half a cosine.
STOP_HZ, PASS_HZ = 55.0, 80.0
# Ratio to the energy of the rest of a chunk above which it is taken out. In speech it is 1000 times less.
MIN_SHARE = 0.03


def rumble(mixture: Tensor, sample_rate: int) -> Tensor:
    """Finds what no voice has in a chunk.

    Args:
        mixture: `[..., channel, time]`.
        sample_rate: Hz.

    Returns:
        What is below 55 Hz, of the shape of `mixture`. Zeros in chunks that have little of it.
    """
    spectrum = torch.fft.rfft(mixture)
    frequencies = torch.linspace(0, sample_rate / 2, spectrum.shape[-1], device=mixture.device, dtype=mixture.dtype)
    place = ((frequencies - STOP_HZ) / (PASS_HZ - STOP_HZ)).clamp(0, 1)
    low = torch.fft.irfft(spectrum * (0.5 + 0.5 * torch.cos(math.pi * place)), mixture.shape[-1])
    matters = _energy(low) > MIN_SHARE * _energy(mixture - low)
    return low * matters[..., None, None]


def put_back(stems: Tensor, low: Tensor, num_interchangeable: int) -> Tensor:
    """Adds rumble to stems, so that they still add up to the mixture.

    Args:
        stems: `[source, channel, time]`, the speakers first.
        low: `[channel, time]`.
        num_interchangeable: number of speakers. If there is a source behind them, such as a background, it is given
            all of the rumble. Otherwise each speaker is given the same part.
    """
    if num_interchangeable == len(stems):
        return stems + low / len(stems)
    return torch.cat(
        [stems[:num_interchangeable], stems[num_interchangeable:][:1] + low, stems[num_interchangeable + 1 :]]
    )


def _energy(samples: Tensor) -> Tensor:
    return samples.square().sum((-2, -1))
