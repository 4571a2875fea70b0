"""Sound below every voice: a constant offset, mains hum, the rumble of a low-frequency channel.

It cannot be heard in the stems of two speakers. But if it is loud compared with the voices, it spoils the masks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Below the first frequency there is no voice. Above the second there may be one. Between them, the filter is half a
# cosine.
STOP_HZ, PASS_HZ = 55.0, 80.0
# Rumble is removed if the ratio of its energy to that of the rest of the chunk is above this value. In speech the ratio
# is 1000 times smaller.
MIN_SHARE = 0.03


def rumble(mixture: Tensor, sample_rate: int) -> Tensor:
    """Find the rumble of chunks.

    Args:
        mixture: `[..., channel, time]`.
        sample_rate: Hz.

    Returns:
        The part below 55 Hz, in the shape of `mixture`. Zeros for chunks with little of it.
    """
    spectrum = torch.fft.rfft(mixture)
    frequencies = torch.linspace(0, sample_rate / 2, spectrum.shape[-1], device=mixture.device, dtype=mixture.dtype)
    place = ((frequencies - STOP_HZ) / (PASS_HZ - STOP_HZ)).clamp(0, 1)
    low = torch.fft.irfft(spectrum * (0.5 + 0.5 * torch.cos(math.pi * place)), mixture.shape[-1])
    matters = _energy(low) > MIN_SHARE * _energy(mixture - low)
    return low * matters[..., None, None]


def put_back(stems: Tensor, low: Tensor, num_interchangeable: int) -> Tensor:
    """Add rumble back to stems, so that they still add up to the mixture.

    Args:
        stems: `[source, channel, time]`, the speakers first.
        low: `[channel, time]`.
        num_interchangeable: number of speakers. If a source follows them, such as a background, that source gets all
            of the rumble. Otherwise all speakers get equal parts.
    """
    if num_interchangeable == len(stems):
        return stems + low / len(stems)
    return torch.cat(
        [stems[:num_interchangeable], stems[num_interchangeable:][:1] + low, stems[num_interchangeable + 1 :]]
    )


def _energy(samples: Tensor) -> Tensor:
    return samples.square().sum((-2, -1))
