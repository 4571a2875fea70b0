"""Choice of the speakers in a mixture: speakers weighted by corpus, and speakers of similar pitch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from separator.data.corpora import Corpus
from separator.errors import ConfigError, suggestion

# Number of extra candidates from which the speakers of the most similar pitch are taken.
NUM_CANDIDATES = 8
# Length of the audio in which a speaker's pitch is measured, and the range of pitches.
PITCH_SECONDS = 3.0
MIN_HZ, MAX_HZ = 60.0, 400.0
PITCH_FRAME_SECONDS = 0.064


class SpeakerDraw:
    """Random choice of speakers from a corpus.

    Args:
        corpus: the speakers to draw from.
        shares: name of a corpus -> its share of the voices. Speakers' names begin with the name of their corpus, as in
            `libri_1034`. Corpora without a share divide the rest among them. None (default) draws every speaker
            equally often.

    Raises:
        ConfigError: for an unknown corpus, or if the sum of the shares is above 1. Also if the sum is below 1 and
            every corpus has a share.
    """

    def __init__(self, corpus: Corpus, shares: Mapping[str, float] | None = None) -> None:
        self.corpus = corpus
        self.weights = None if shares is None else _weights([corpus_of(name) for name in corpus.speakers], shares)
        self._pitches: dict[int, float] = {}

    def draw(self, count: int, is_near: bool, generator: np.random.Generator) -> np.ndarray:
        """Draw the numbers of `count` different speakers.

        With `is_near`, the others have a pitch similar to that of the first speaker.
        """
        total = len(self.corpus.speakers)
        if not is_near or count < 2:
            return generator.choice(total, count, replace=False, p=self.weights)
        possible = total if self.weights is None else np.count_nonzero(self.weights)
        drawn = generator.choice(total, min(possible, count - 1 + NUM_CANDIDATES), replace=False, p=self.weights)
        first, *others = map(int, drawn)
        distances = [abs(np.log(self.pitch(speaker) / self.pitch(first))) for speaker in others]
        return np.array([first, *(others[place] for place in np.argsort(distances, kind="stable")[: count - 1])])

    def pitch(self, speaker: int) -> float:
        """Median fundamental frequency of a speaker in Hz (YIN). It is measured once and cached."""
        if speaker not in self._pitches:
            num_samples = round(PITCH_SECONDS * self.corpus.sample_rate)
            self._pitches[speaker] = median_pitch(self.corpus.read(speaker, 0, 0, num_samples), self.corpus.sample_rate)
        return self._pitches[speaker]


def corpus_of(speaker: str) -> str:
    """Name of a speaker's corpus: the part of the speaker's name before the first underscore."""
    return speaker.partition("_")[0]


def median_pitch(voice: np.ndarray, sample_rate: int) -> float:
    """Median fundamental frequency in Hz of the louder half of a voice `[time]` (de Cheveigne & Kawahara 2002)."""
    import librosa  # takes seconds to import

    length = 2 * round(PITCH_FRAME_SECONDS * sample_rate / 2)
    voice = np.pad(voice, (0, max(0, length - len(voice))))
    track = librosa.yin(voice, fmin=MIN_HZ, fmax=MAX_HZ, sr=sample_rate, frame_length=length, center=False)
    frames = np.lib.stride_tricks.sliding_window_view(voice, length)[:: length // 4][: len(track)]
    energies = np.square(frames).sum(1)
    return float(np.median(track[: len(energies)][energies >= np.median(energies)]))


def _weights(corpora: list[str], shares: Mapping[str, float]) -> np.ndarray:
    """Probability of each speaker to be drawn first."""
    for name in shares:
        if name not in corpora:
            known = sorted(set(corpora))
            raise ConfigError(
                f"data.mixing.corpus_shares names {name!r}, but no speaker's name begins with it; the corpora are "
                f"{', '.join(known[:20])}{suggestion(name, known)}"
            )
    total = sum(shares.values())
    others = [name for name in corpora if name not in shares]
    if total > 1 + 1e-6 or (not others and total < 1 - 1e-6):
        raise ConfigError(
            f"data.mixing.corpus_shares add up to {total:g}; they must add up to "
            + ("at most 1, and the other corpora get the rest" if others else "1, because they name every corpus")
        )
    rest = max(0.0, 1 - total)
    weights = [shares[name] / corpora.count(name) if name in shares else rest / len(others) for name in corpora]
    return np.array(weights) / sum(weights)
