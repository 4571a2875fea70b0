"""Turns of a conversation: the times at which each voice speaks."""

from __future__ import annotations

import numpy as np

TURN_SECONDS = 2.5
# Length of the fade at the start and the end of a turn.
FADE_SECONDS = 0.01


def turns(count: int, num_samples: int, sample_rate: int, overlap: float, generator: np.random.Generator) -> np.ndarray:
    """Draw the turns of `count` voices. Every voice has a turn, and no voice has two in a row.

    Args:
        count: number of voices.
        num_samples: length of the mixture in samples.
        sample_rate: in Hz.
        overlap: overlap of one turn with the next, as a share of the shorter turn (0 to 1).
        generator: draws the order and the lengths.

    Returns:
        Gain of each voice, `[voice, time]`: 1 where it speaks and 0 where it does not, with short fades.
    """
    number = max(count, round(num_samples / sample_rate / TURN_SECONDS))
    order = list(generator.permutation(count))
    while len(order) < number:
        others = [voice for voice in range(count) if voice != order[-1] or count == 1]
        order.append(int(generator.choice(others)))
    lengths = generator.uniform(0.5, 1.5, number)
    common = overlap * np.minimum(lengths[:-1], lengths[1:])
    starts = np.concatenate([[0.0], np.cumsum(lengths[:-1] - common)])
    scale = num_samples / (starts + lengths).max()
    result = np.zeros((count, num_samples), np.float32)
    fade = max(1, round(FADE_SECONDS * sample_rate))
    times = np.arange(num_samples)
    for voice, start, length in zip(order, scale * starts, scale * lengths, strict=True):
        # No fade at the start and the end of the mixture: a turn is cut there.
        rise = (times - start) / fade + (start <= 0)
        fall = (start + length - times) / fade + (start + length >= num_samples)
        result[voice] = np.maximum(result[voice], np.clip(np.minimum(rise, fall), 0, 1))
    return result
