"""Another sample rate for a stream, a few milliseconds late.

soxr, which resamples whole recordings here, works in blocks of its own: 37 ms of delay from 48 kHz to 16 kHz, and as
much back. A windowed sinc for each output sample needs 2 ms for the same.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

# Zero crossings of the sinc on each side, at the lower rate: 2 ms at 16 kHz.
ZERO_CROSSINGS = 32
# Attenuation in dB from the lower rate's Nyquist frequency on, and what the Kaiser window makes of it (Kaiser &
# Schafer 1980): its shape, and the width of the transition as a part of the Nyquist frequency.
ATTENUATION = 70.0
KAISER_BETA = 0.1102 * (ATTENUATION - 8.7)
TRANSITION = (ATTENUATION - 7.95) / (2.285 * math.pi * (2 * ZERO_CROSSINGS - 1))
# Filters of all phases are kept if they are no more values than this.
MAX_TABLE = 2**21
# Output samples that are computed at a time, to bound the memory.
MAX_AT_ONCE = 2**13


class StreamResampler:
    """Blocks `[channel, time]` at one rate -> blocks at another, the same however they are cut.

    n samples become n * to_rate / from_rate, rounded up.
    """

    def __init__(self, channels: int, from_rate: int, to_rate: int) -> None:
        divisor = math.gcd(from_rate, to_rate)
        self._up, self._down = to_rate // divisor, from_rate // divisor
        self._half = _half(self._up, self._down)
        # Samples from `_start` on (counted from the first); before the first there is silence.
        self._samples = np.zeros((channels, self._half - 1), np.float32)
        self._start = 1 - self._half
        self._received = self._given = 0

    def push(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """`[channel, time]` -> `[channel, time']`: what is certain by now; all that is left if this is the last."""
        if self._up == self._down:
            return samples
        self._received += samples.shape[-1]
        ahead = [np.zeros((len(samples), self._half), np.float32)] if last else []
        self._samples = np.concatenate([self._samples, samples, *ahead], axis=-1)
        # Sample n lies at n * down / up; it needs the `half` samples behind that place.
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
        """The output samples of these numbers, `[channel, number]`."""
        place, phase = np.divmod(numbers * self._down, self._up)
        windows = np.lib.stride_tricks.sliding_window_view(self._samples, 2 * self._half, axis=-1)
        around = windows[:, place + 1 - self._half - self._start]
        if self._up * 2 * self._half <= MAX_TABLE:
            filters = _all_filters(self._up, self._down)[phase]
        else:
            filters = _filters(phase, self._up, self._down)
        return np.einsum("cnt,nt->cn", around, filters)


def latency(from_rate: int, to_rate: int) -> float:
    """Seconds after which a sample has left a `StreamResampler` at the latest."""
    if from_rate == to_rate:
        return 0.0
    # The filter's half, the sample itself, and the next place of a sample of the output.
    return (_half(to_rate, from_rate) + 1) / from_rate + 1 / to_rate


def _half(up: int, down: int) -> int:
    """Input samples that a filter reaches to each side; of the two rates only the ratio counts."""
    return math.ceil(ZERO_CROSSINGS * max(1.0, down / up))


def _filters(phase: np.ndarray, up: int, down: int) -> np.ndarray:
    """`[phase, tap]`: a sinc in a Kaiser window around places `phase / up` samples behind tap `half` - 1."""
    half = _half(up, down)
    distance = np.arange(1 - half, half + 1) - phase[:, None] / up
    cutoff = min(1.0, up / down) * (1 - TRANSITION / 2)
    window = np.i0(KAISER_BETA * np.sqrt(np.maximum(0, 1 - np.square(distance / half))))
    filters = np.sinc(cutoff * distance) * window
    return (filters / filters.sum(1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=16)
def _all_filters(up: int, down: int) -> np.ndarray:
    return _filters(np.arange(up), up, down)
