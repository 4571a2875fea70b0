"""Resample a stream with a latency of a few milliseconds.

Whole recordings are resampled with soxr. soxr works in internal blocks, which delays a stream by 37 ms from 48 kHz to
16 kHz, and by another 37 ms back. This resampler applies a windowed sinc to each output sample. Its delay is 2 ms.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

# Zero crossings of the sinc on each side, at the lower rate: 2 ms at 16 kHz.
ZERO_CROSSINGS = 32
# Attenuation in dB above the Nyquist frequency of the lower rate. The shape of the Kaiser window and the width of the
# transition band, as a fraction of the Nyquist frequency, follow from it (Kaiser & Schafer 1980).
ATTENUATION = 70.0
KAISER_BETA = 0.1102 * (ATTENUATION - 8.7)
TRANSITION = (ATTENUATION - 7.95) / (2.285 * math.pi * (2 * ZERO_CROSSINGS - 1))
# The filters of all phases are cached if they have at most this number of values.
MAX_TABLE = 2**21
# Output samples that are computed together. This limits the memory.
MAX_AT_ONCE = 2**13


class StreamResampler:
    """Resampler for blocks `[channel, time]`. The result does not depend on the block sizes.

    n samples become n * to_rate / from_rate samples, rounded up.

    Args:
        channels: number of channels.
        from_rate: sample rate of the input, in Hz.
        to_rate: sample rate of the output, in Hz.
    """

    def __init__(self, channels: int, from_rate: int, to_rate: int) -> None:
        divisor = math.gcd(from_rate, to_rate)
        self._up, self._down = to_rate // divisor, from_rate // divisor
        self._half = _half(self._up, self._down)
        # Buffer of input samples. Its first sample has number `_start`. Samples before number 0 are silence.
        self._samples = np.zeros((channels, self._half - 1), np.float32)
        self._start = 1 - self._half
        self._received = self._given = 0

    def push(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """Resample a block.

        Args:
            samples: `[channel, time]`.
            last: whether this is the last block (default: False).

        Returns:
            `[channel, time']`: the output samples that are complete. After the last block, all remaining samples.
        """
        if self._up == self._down:
            return samples
        self._received += samples.shape[-1]
        ahead = [np.zeros((len(samples), self._half), np.float32)] if last else []
        self._samples = np.concatenate([self._samples, samples, *ahead], axis=-1)
        # Output sample n is at input position n * down / up. It needs the `half` input samples after that position.
        known = self._received if last else self._received - self._half
        until = max(self._given, -(-known * self._up // self._down))
        parts = [
            self._compute(np.arange(first, min(first + MAX_AT_ONCE, until)))
            for first in range(self._given, until, MAX_AT_ONCE)
        ]
        self._given = until
        keep_from = until * self._down // self._up + 1 - self._half
        self._samples, self._start = self._samples[:, keep_from - self._start :].copy(), keep_from
        return np.concatenate(parts, axis=-1) if parts else np.zeros((len(samples), 0), np.float32)

    def _compute(self, numbers: np.ndarray) -> np.ndarray:
        """Compute the output samples with these numbers, `[channel, number]`."""
        place, phase = np.divmod(numbers * self._down, self._up)
        windows = np.lib.stride_tricks.sliding_window_view(self._samples, 2 * self._half, axis=-1)
        around = windows[:, place + 1 - self._half - self._start]
        if self._up * 2 * self._half <= MAX_TABLE:
            filters = _all_filters(self._up, self._down)[phase]
        else:
            filters = _filters(phase, self._up, self._down)
        return np.einsum("cnt,nt->cn", around, filters)


def latency(from_rate: int, to_rate: int) -> float:
    """Return the latency of a `StreamResampler`: the maximum delay of a sample, in seconds."""
    if from_rate == to_rate:
        return 0.0
    # Half of the filter, the sample itself, and the distance to the next output sample.
    return (_half(to_rate, from_rate) + 1) / from_rate + 1 / to_rate


def _half(up: int, down: int) -> int:
    """Return half the filter length, in input samples. It depends only on the ratio of the rates."""
    return math.ceil(ZERO_CROSSINGS * max(1.0, down / up))


def _filters(phase: np.ndarray, up: int, down: int) -> np.ndarray:
    """Return the filters `[phase, tap]`: a sinc with a Kaiser window, centred `phase / up` after tap `half` - 1."""
    half = _half(up, down)
    distance = np.arange(1 - half, half + 1) - phase[:, None] / up
    cutoff = min(1.0, up / down) * (1 - TRANSITION / 2)
    window = np.i0(KAISER_BETA * np.sqrt(np.maximum(0, 1 - np.square(distance / half))))
    filters = np.sinc(cutoff * distance) * window
    return (filters / filters.sum(1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=16)
def _all_filters(up: int, down: int) -> np.ndarray:
    return _filters(np.arange(up), up, down)
