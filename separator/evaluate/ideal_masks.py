"""What masking a spectrogram could reach at best, knowing the sources: ideal binary and ideal ratio masks."""

from __future__ import annotations

import torch
from torch import Tensor

# The usual window of 32 ms, every 8 ms.
WINDOW_SECONDS = 0.032
OVERLAPPING = 4


def ideal_mask(mixture: Tensor, sources: Tensor, sample_rate: int, kind: str) -> Tensor:
    """Estimates by a mask on the mixture's short-time Fourier transform, made from the sources themselves.

    What the mixture holds beside the sources counts as one more source. (D. Wang 2005; the ratio of magnitudes as in
    Luo & Mesgarani 2019, section III.)

    Args:
        mixture: `[..., time]`.
        sources: `[source, ..., time]`.
        sample_rate: Hz.
        kind: "binary" gives each bin to the loudest source, "ratio" shares it out by the sources' magnitudes.

    Returns:
        `[source, ..., time]`.
    """
    window = torch.hann_window(max(OVERLAPPING, round(WINDOW_SECONDS * sample_rate)), dtype=mixture.dtype)
    rest = mixture - sources.sum(0)
    magnitudes = _transform(torch.cat([sources, rest[None]]), window).abs()
    if kind == "binary":
        masks = (magnitudes == magnitudes.amax(0, keepdim=True)).to(mixture.dtype)
        masks = masks / masks.sum(0, keepdim=True)  # bins in which several are alike
    else:
        masks = magnitudes / magnitudes.sum(0, keepdim=True).clamp_min(1e-12)
    masked = masks[:-1] * _transform(mixture, window)
    flat = masked.reshape(-1, *masked.shape[-2:])
    hop = len(window) // OVERLAPPING
    signals = torch.istft(flat, len(window), hop, window=window, length=mixture.shape[-1])
    return signals.reshape(sources.shape)


def _transform(signals: Tensor, window: Tensor) -> Tensor:
    """`[..., time]` -> `[..., bin, frame]`."""
    flat = signals.reshape(-1, signals.shape[-1])
    # As with silence before and after, for recordings shorter than a window too.
    spectra = torch.stft(
        flat, len(window), len(window) // OVERLAPPING, window=window, return_complex=True, pad_mode="constant"
    )
    return spectra.reshape(*signals.shape[:-1], *spectra.shape[-2:])
