"""The mixture of two generated voices that the demo and the web page separate."""

from __future__ import annotations

import numpy as np

from separator.data.mixture import Mixture, unit_rms
from separator.data.voices import Voice

SAMPLE_RATE = 16000
SECONDS = 8.0
# Training never draws these voices: its generators are seeded with two or three numbers, not four.
VOICE_SEEDS = ([2026, 0, 0, 0], [2026, 0, 0, 1])
PEAK = 0.7


def make_example() -> Mixture:
    """Mix two generated speakers that talk at the same time and are equally loud."""
    voices = []
    for seed in VOICE_SEEDS:
        generator = np.random.default_rng(seed)
        voices.append(unit_rms(Voice.draw(generator).speak(SECONDS, SAMPLE_RATE, generator)))
    return Mixture.of(np.stack(voices), SAMPLE_RATE, "demo", PEAK)
