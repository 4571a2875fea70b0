"""Who speaks when: turns of a conversation."""

from __future__ import annotations

import numpy as np

TURN_SECONDS = 2.5
# A turn in a conversation begins and ends within this.
FADE_SECONDS = 0.01


def turns(count: int, num_samples: int, sample_rate: int, overlap: float, generator: np.random.Generator) -> np.ndarray:
    """When each of `count` voices speaks, `[voice, time]` from 0 to 1, with soft edges.

    Everybody has a turn, nobody two in a row; of every turn and the next one, `overlap` of the shorter is common.
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
        # The beginning and the end of the mixture cut into a turn; there it needs no edge.
        rise = (times - start) / fade + (start <= 0)
        fall = (start + length - times) / fade + (start + length >= num_samples)
        result[voice] = np.maximum(result[voice], np.clip(np.minimum(rise, fall), 0, 1))
    return result
