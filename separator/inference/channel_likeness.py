"""Test whether the two channels of a recording hold different sounds, such as one caller in each."""

from __future__ import annotations

import numpy as np

PART_SECONDS = 1.0
# Largest delay between two microphones that record the same sound, in seconds.
MAX_DELAY_SECONDS = 0.05
# Two channels hold different sounds if their normalized correlation stays below this value at every delay.
MAX_LIKENESS = 0.2
# The test needs this minimum ratio of the quieter channel's energy to the louder one's, and this minimum length.
# A correlation means little otherwise.
MIN_BALANCE, MIN_SECONDS = 1e-3, 3.0


class ChannelLikeness:
    """Correlate two channels over a whole recording. Memory use does not grow with its length.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._part = round(PART_SECONDS * sample_rate)
        self._buffer = np.zeros((2, 0), np.float32)
        self._cross = np.zeros(self._part + 1, complex)
        self._energies = np.zeros(2)
        self._seconds = 0.0

    def add(self, block: np.ndarray) -> None:
        """Add the next block, `[2, time]`."""
        self._buffer = np.concatenate([self._buffer, block], axis=1)
        while self._buffer.shape[1] >= self._part:
            part, self._buffer = self._buffer[:, : self._part], self._buffer[:, self._part :]
            part = part - part.mean(1, keepdims=True)
            # Zero padding to twice the length keeps the correlation from wrapping around.
            left, right = np.fft.rfft(part, 2 * self._part)
            self._cross += left * right.conj()
            self._energies += np.square(part, dtype=np.float64).sum(1)
            self._seconds += PART_SECONDS

    def differ(self) -> bool:
        """Return whether the channels hold different sounds."""
        low, high = np.sort(self._energies)
        if self._seconds < MIN_SECONDS or low <= MIN_BALANCE * high:
            return False
        correlation = np.fft.irfft(self._cross)
        delay = round(MAX_DELAY_SECONDS * self.sample_rate)
        near = np.concatenate([correlation[: delay + 1], correlation[-delay:]])
        return float(np.abs(near).max()) < MAX_LIKENESS * float(np.sqrt(low * high))
