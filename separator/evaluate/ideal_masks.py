"""Ideal binary and ideal ratio masks: the upper bound of masking a spectrogram, with known sources."""

from __future__ import annotations

import torch
from torch import Tensor

# The usual STFT: window of 32 ms, hop of 8 ms.
WINDOW_SECONDS = 0.032
OVERLAPPING = 4


def ideal_mask(mixture: Tensor, sources: Tensor, sample_rate: int, kind: str) -> Tensor:
    """Estimate the sources with an ideal mask on the mixture's short-time Fourier transform (STFT).

    The mask is computed from the sources. The rest of the mixture counts as one more source. (D. Wang 2005; ratio of
    magnitudes as in Luo & Mesgarani 2019, section III.)

    Args:
        mixture: `[..., time]`.
        sources: `[source, ..., time]`.
        sample_rate: in Hz.
        kind: "binary" gives each bin to the loudest source. "ratio" divides it in proportion to the sources'
            magnitudes.

    Returns:
        Estimates `[source, ..., time]`.
    """
    window = torch.hann_window(max(OVERLAPPING, round(WINDOW_SECONDS * sample_rate)), dtype=mixture.dtype)
    rest = mixture - sources.sum(0)
    magnitudes = _transform(torch.cat([sources, rest[None]]), window).abs()
    if kind == "binary":
        masks = (magnitudes == magnitudes.amax(0, keepdim=True)).to(mixture.dtype)
        masks = masks / masks.sum(0, keepdim=True)  # bins in which several sources are equally loud
    else:
        masks = magnitudes / magnitudes.sum(0, keepdim=True).clamp_min(1e-12)
    masked = masks[:-1] * _transform(mixture, window)
    flat = masked.reshape(-1, *masked.shape[-2:])
    hop = len(window) // OVERLAPPING
    signals = torch.istft(flat, len(window), hop, window=window, length=mixture.shape[-1])
    return signals.reshape(sources.shape)


def _transform(signals: Tensor, window: Tensor) -> Tensor:
    """STFT: `[..., time]` -> `[..., bin, frame]`."""
    flat = signals.reshape(-1, signals.shape[-1])
    # Padding with zeros also works for recordings shorter than a window.
    spectra = torch.stft(
        flat, len(window), len(window) // OVERLAPPING, window=window, return_complex=True, pad_mode="constant"
    )
    return spectra.reshape(*signals.shape[:-1], *spectra.shape[-2:])
