"""Find the stems that a network outputs with inverted polarity.

SI-SNR ignores the sign of an estimate. So a network may settle on either sign if it starts from random filters, is
trained with SI-SNR and has no mixture consistency. (This is known from other projects' networks as well.) The mixture
shows the right sign: a stem is a part of the mixture, so their product is positive.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PROBE_SECONDS, PROBE_PEAK = 2.0, 0.5
# Pitch in Hz and syllables per second of the two voices in the probe.
PROBE_VOICES = ((120.0, 3.0), (215.0, 4.3))


@torch.inference_mode()
def polarity(net: Any) -> Tensor:
    """Return 1 or -1 for each source, `[source]`: the factor that gives the stems their sign in the mixture.

    It is measured on a mixture of two voice-like sounds. It is 1 for every source of a network with mixture
    consistency.
    """
    weight: Tensor = net.encoder.weight
    if net.mixture_consistency:
        return weight.new_ones(net.num_sources)
    mixture = _probe(net.sample_rate).to(weight)[None]
    if net.num_channels > 1:
        mixture = mixture[:, None].repeat(1, net.num_channels, 1)
    return signs(net(mixture)[0].flatten(1), mixture.flatten())


def signs(stems: Tensor, mixture: Tensor) -> Tensor:
    """Return -1 for each of the stems `[source, time]` whose product with the mixture `[time]` is negative, else 1."""
    products = stems.double() @ mixture.double()
    return torch.where(products < 0, -1.0, 1.0).to(stems)


def _probe(sample_rate: int) -> Tensor:
    times = torch.arange(round(PROBE_SECONDS * sample_rate), dtype=torch.float32, device="cpu") / sample_rate
    total = torch.zeros_like(times)
    for pitch, rate in PROBE_VOICES:
        syllables = torch.sin(torch.pi * rate * times).square()
        for harmonic in range(1, max(2, int(min(3000.0, 0.4 * sample_rate) / pitch))):
            total += syllables * torch.sin(2 * torch.pi * harmonic * pitch * times + harmonic**2) / harmonic
    return total * (PROBE_PEAK / total.abs().max())
