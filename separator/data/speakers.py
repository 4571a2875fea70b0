"""Who speaks in a mixture: speakers weighed by corpus, and pairs of near pitch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from separator.data.corpora import Corpus
from separator.errors import ConfigError, suggestion

# Of so many speakers the one whose pitch is nearest to the first one's is taken.
NUM_CANDIDATES = 8
# Seconds of a speaker in which the pitch is measured, and the range in which it is sought.
PITCH_SECONDS = 3.0
MIN_HZ, MAX_HZ = 60.0, 400.0
PITCH_FRAME_SECONDS = 0.064


class SpeakerDraw:
    """Draws speakers of a corpus.

    Args:
        corpus: whose speakers are drawn.
        shares: name of a corpus, with which its speakers' names begin as in `libri_1034`, -> its share of the voices.
            Corpora that it does not name have the rest in common. None draws every speaker equally often.

    Raises:
        ConfigError: for shares whose sum is above 1, or below 1 with nobody to have the rest, or for an unknown corpus.
    """

    def __init__(self, corpus: Corpus, shares: Mapping[str, float] | None = None) -> None:
        self.corpus = corpus
        self.weights = None if shares is None else _weights([corpus_of(name) for name in corpus.speakers], shares)
        self._pitches: dict[int, float] = {}

    def draw(self, count: int, is_near: bool, generator: np.random.Generator) -> np.ndarray:
        """Numbers of `count` different speakers; with `is_near` of speakers whose pitch is near to the first one's."""
        total = len(self.corpus.speakers)
        if not is_near or count < 2:
            return generator.choice(total, count, replace=False, p=self.weights)
        possible = total if self.weights is None else np.count_nonzero(self.weights)
        drawn = generator.choice(total, min(possible, count - 1 + NUM_CANDIDATES), replace=False, p=self.weights)
        first, *others = map(int, drawn)
        distances = [abs(np.log(self.pitch(speaker) / self.pitch(first))) for speaker in others]
        return np.array([first, *(others[place] for place in np.argsort(distances, kind="stable")[: count - 1])])

    def pitch(self, speaker: int) -> float:
        """A speaker's median fundamental frequency in Hz, measured when first asked for (YIN)."""
        if speaker not in self._pitches:
            num_samples = round(PITCH_SECONDS * self.corpus.sample_rate)
            self._pitches[speaker] = median_pitch(self.corpus.read(speaker, 0, 0, num_samples), self.corpus.sample_rate)
        return self._pitches[speaker]


def corpus_of(speaker: str) -> str:
    """The corpus that a speaker's name tells: what stands before the first underscore."""
    return speaker.partition("_")[0]


def median_pitch(voice: np.ndarray, sample_rate: int) -> float:
    """Median fundamental frequency in Hz of a voice `[time]` in its louder half (de Cheveigne & Kawahara 2002)."""
    import librosa  # takes seconds to import

    length = 2 * round(PITCH_FRAME_SECONDS * sample_rate / 2)
    voice = np.pad(voice, (0, max(0, length - len(voice))))
    track = librosa.yin(voice, fmin=MIN_HZ, fmax=MAX_HZ, sr=sample_rate, frame_length=length, center=False)
    frames = np.lib.stride_tricks.sliding_window_view(voice, length)[:: length // 4][: len(track)]
    energies = np.square(frames).sum(1)
    return float(np.median(track[: len(energies)][energies >= np.median(energies)]))


def _weights(corpora: list[str], shares: Mapping[str, float]) -> np.ndarray:
    """The probability of each speaker to be drawn first."""
    for name in shares:
        if name not in corpora:
            known = sorted(set(corpora))
            raise ConfigError(
                f"data.mixing.corpus_shares names {name!r}, which begins no speaker's name; there are "
                f"{', '.join(known[:20])}{suggestion(name, known)}"
            )
    total = sum(shares.values())
    others = [name for name in corpora if name not in shares]
    if total > 1 + 1e-6 or (not others and total < 1 - 1e-6):
        raise ConfigError(
            f"data.mixing.corpus_shares add up to {total:g}; wanted "
            + ("at most 1, the rest being for the other corpora" if others else "1, since they name every corpus")
        )
    rest = max(0.0, 1 - total)
    weights = [shares[name] / corpora.count(name) if name in shares else rest / len(others) for name in corpora]
    return np.array(weights) / sum(weights)
