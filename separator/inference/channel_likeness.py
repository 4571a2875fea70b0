"""Whether the two channels of a recording hold different sounds, such as one person of a call in each."""

from __future__ import annotations

import numpy as np

PART_SECONDS = 1.0
# Largest delay between two microphones that hear the same, seconds.
MAX_DELAY_SECONDS = 0.05
# Channels whose correlation stays below this at every delay have nothing in common,
MAX_LIKENESS = 0.2
# provided that neither is quieter than the other by more than this ratio of energies, and that they are long enough
# for a correlation to mean something.
MIN_BALANCE, MIN_SECONDS = 1e-3, 3.0


class ChannelLikeness:
    """Correlates two channels over a whole recording. Memory does not grow with its length.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._part = round(PART_SECONDS * sample_rate)
        self._waiting = np.zeros((2, 0), np.float32)
        self._cross = np.zeros(self._part + 1, complex)
        self._energies = np.zeros(2)
        self._seconds = 0.0

    def add(self, block: np.ndarray) -> None:
        """Takes the next block, `[2, time]`."""
        self._waiting = np.concatenate([self._waiting, block], axis=1)
        while self._waiting.shape[1] >= self._part:
            part, self._waiting = self._waiting[:, : self._part], self._waiting[:, self._part :]
            part = part - part.mean(1, keepdims=True)
            # Twice as long, so that a delay does not come round at the other end.
            left, right = np.fft.rfft(part, 2 * self._part)
            self._cross += left * right.conj()
            self._energies += np.square(part, dtype=np.float64).sum(1)
            self._seconds += PART_SECONDS

    def differ(self) -> bool:
        """Whether the channels hold different sounds."""
        low, high = np.sort(self._energies)
        if self._seconds < MIN_SECONDS or low <= MIN_BALANCE * high:
            return False
        correlation = np.fft.irfft(self._cross)
        delay = round(MAX_DELAY_SECONDS * self.sample_rate)
        near = np.concatenate([correlation[: delay + 1], correlation[-delay:]])
        return float(np.abs(near).max()) < MAX_LIKENESS * float(np.sqrt(low * high))
