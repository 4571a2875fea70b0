"""Which source of a chunk is which speaker, from the first chunk of a recording to the last.

Two things tell. Where two neighbouring chunks overlap, a source of one and its continuation in the other have the same
samples; but often nobody speaks there. And a speaker sounds alike in all chunks: the mean spectrum of the moments in
which only this speaker is heard (in logarithms of mel bands, loudness taken out) is compared with those of all other
chunks, however long the silence between. How much such a mean scatters for one voice, and in which directions, was
learned from many (speakers.safetensors; `benchmarks/conversation.py --fit` makes it anew).

The speakers' spectra and the order of every chunk are estimated in turns, the orders all at once (Viterbi), from
several beginnings; what is best over the whole recording wins. That is expectation-maximization with hard decisions on
a hidden Markov model whose states are permutations.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from separator.objectives import best_permutation

STATISTICS = Path(__file__).with_name("speaker_statistics.safetensors")
NUM_BANDS, MIN_HZ, MAX_HZ = 40, 60.0, 7600.0
WINDOW_SECONDS, HOP_SECONDS = 0.032, 0.01
# A source is heard alone where it has more than so many times the energy of all others together,
DOMINANCE = 2.0
# and more than this part of what the chunk has in its loud moments, a part of all but the loudest hundredth.
AUDIBLE = 1e-3
LOUD_QUANTILE = 0.99
# A chunk whose loud moments are this much quieter than the recording's is background.
BACKGROUND = 1e-4
# Frames that say something; and with so many a mean is half as good as it can be: the voice itself changes too.
MIN_FRAMES, HALF_FRAMES = 10, 400
# Nats that two sources are worth which are equal in the overlap. A join says little beside a voice, because where
# it is wrong, the network has swapped the speakers within a chunk.
JOIN_NATS = 0.3
# What chunks tell is not independent. With this part of it, of the joins that are said to be right with a certain
# probability so many are (on conversations of validation speakers).
CERTAINTY = 0.25
SHRINKAGE = 0.02
MAX_ROUNDS, NUM_BEGINNINGS = 20, 8
# Permutations grow fast; models for more sources than this go by the overlaps alone.
MAX_SOURCES = 5


@dataclass(frozen=True)
class Voice:
    """What is known of a chunk's sources: spectra `[source, band]`, frames they are means of `[source]`, loudness."""

    spectra: np.ndarray
    frames: np.ndarray
    loudness: float


class SpeakerMemory:
    """Takes the chunks of a recording in their order, and then says in which order their sources are.

    Args:
        sample_rate: Hz of the chunks.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._voices: list[Voice] = []
        self._joins: list[np.ndarray] = []
        self._before: tuple[int, Tensor] | None = None

    def observe(self, start: int, sources: Tensor, downmix: Tensor | None = None) -> None:
        """Takes the next chunk.

        Args:
            start: number of its first sample in the recording.
            sources: `[source, time]` or `[source, channel, time]`.
            downmix: weight of each channel, `[channel]`, in the signal whose spectrum is taken; the mean if None.
                Only the spectrum depends on it: signs that differ between chunks change nothing.
        """
        channels = sources if sources.ndim == 3 else sources[:, None]
        if self._before is not None:
            begin, before = self._before
            self._joins.append(_likeness(before[..., start - begin :], channels))
        self._before = start, channels
        mono = channels.mean(1) if downmix is None else torch.einsum("sct,c->st", channels, downmix)
        self._voices.append(describe(mono, self.sample_rate))

    def decide(self) -> tuple[list[tuple[int, ...]], list[float]]:
        """For each chunk which source is the first speaker, the second, ...; for each join how sure that is.

        Sure is 1, and 1 / (number of possible orders) is a guess.
        """
        num_sources = len(self._voices[0].spectra)
        if len(self._voices) == 1 or num_sources == 1:
            return [tuple(range(num_sources))] * len(self._voices), [1.0] * len(self._joins)
        if num_sources > MAX_SOURCES:
            return self._decide_by_overlaps()
        orders = np.array(list(itertools.permutations(range(num_sources))))
        spectra, weights = self._comparable()
        # [join, order before, order behind]
        joins = np.stack([join[orders[:, None], orders[None]].sum(-1) for join in self._joins]) * JOIN_NATS
        best, states, chunks = -np.inf, np.zeros(len(spectra), int), np.zeros((len(spectra), len(orders)))
        for first in np.argsort(-weights.min(1), kind="stable")[:NUM_BEGINNINGS]:
            speakers, chosen = spectra[first], None
            for _ in range(MAX_ROUNDS):
                fits = _fits(spectra, weights, speakers, orders)
                score, path = _best_path(fits, joins)
                if chosen is not None and (path == chosen).all():
                    break
                chosen = path
                speakers = _means(spectra, weights, orders[path])
            if score > best:
                best, states, chunks = score, path, fits
        sure = _confidences(CERTAINTY * chunks, CERTAINTY * joins, orders, states)
        # The first chunk's sources keep their order.
        named = orders[states][:, np.argsort(orders[states[0]])]
        return [tuple(map(int, order)) for order in named], sure

    def _decide_by_overlaps(self) -> tuple[list[tuple[int, ...]], list[float]]:
        """From join to join; as sure as the sources are alike there."""
        order = np.arange(len(self._voices[0].spectra))
        decided, sure = [order], []
        for join in self._joins:
            continuation = best_permutation(torch.from_numpy(join)[None])[0].numpy()
            sure.append(float(np.clip(join[order, continuation].sum(), 0, 1)))
            decided.append(continuation[decided[-1]])
        return [tuple(map(int, order)) for order in decided], sure

    def _comparable(self) -> tuple[np.ndarray, np.ndarray]:
        """Spectra `[chunk, source, dimension]`, turned so that a voice scatters by 1 in each, and their weights."""
        spectra = np.stack([voice.spectra for voice in self._voices])
        frames = np.stack([voice.frames for voice in self._voices]).astype(float)
        loudness = np.array([voice.loudness for voice in self._voices])
        known = (frames >= MIN_FRAMES) & (loudness > BACKGROUND * loudness.max())[:, None]
        weights = np.where(known, frames / (frames + HALF_FRAMES), 0.0)
        mean = (weights[..., None] * spectra).sum((0, 1)) / max(weights.sum(), 1e-9)
        return np.where(known[..., None], spectra - mean, 0.0) @ _whitening(spectra.shape[-1]), weights


def describe(sources: Tensor, sample_rate: int) -> Voice:
    """The mean spectrum of each of a chunk's sources `[source, time]`, where it is heard alone."""
    window = max(2, round(WINDOW_SECONDS * sample_rate))
    padded = torch.nn.functional.pad(sources, (0, max(0, window - sources.shape[-1])))
    hop = max(1, round(HOP_SECONDS * sample_rate))
    shape = torch.hann_window(window, dtype=sources.dtype, device=sources.device)
    powers = torch.stft(padded, window, hop, window=shape, center=False, return_complex=True).abs().square()
    energies = powers.sum(1)
    total = energies.sum(0)
    loud = float(torch.quantile(total, LOUD_QUANTILE))
    alone = (energies > AUDIBLE * loud) & (energies > DOMINANCE * (total - energies))
    bands = torch.log(_mel_bands(sample_rate, window) @ powers + 1e-9 * loud + 1e-20)
    bands = bands - bands.mean(1, keepdim=True)
    frames = alone.sum(1)
    spectra = (bands * alone[:, None]).sum(-1) / frames.clamp_min(1)[:, None]
    return Voice(spectra.numpy().astype(float), frames.numpy(), loud)


def _likeness(before: Tensor, after: Tensor) -> np.ndarray:
    """Which source of one chunk is which of the next, over their overlap: `[before, after]`, at most 1 in all.

    Of `[source, channel, time]`. All channels count, so that channels of opposite polarity do not cancel.
    """
    shared = before.shape[-1]
    before, after = before.flatten(1).double(), after[..., :shared].flatten(1).double()
    energy = before.square().sum().sqrt() * after.square().sum().sqrt()
    return (before @ after.T / energy.clamp_min(1e-9)).numpy()


def _fits(spectra: np.ndarray, weights: np.ndarray, speakers: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Log-likelihood of each chunk in each order: `[chunk, order]`."""
    distances = np.square(spectra[:, :, None] - speakers).sum(-1)  # [chunk, source, speaker]
    return (-0.5 * weights[..., None] * distances)[:, orders, np.arange(len(speakers))].sum(-1)


def _means(spectra: np.ndarray, weights: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The speakers' spectra, given the order of each chunk `[chunk, speaker]`."""
    weights = np.take_along_axis(weights, order, 1)[..., None]
    return (weights * np.take_along_axis(spectra, order[..., None], 1)).sum(0) / np.maximum(weights.sum(0), 1e-9)


def _best_path(fits: np.ndarray, joins: np.ndarray) -> tuple[float, np.ndarray]:
    """The most likely order of every chunk, and its log-likelihood (Viterbi)."""
    score, came_from = fits[0], []
    for fit, join in zip(fits[1:], joins, strict=True):
        through = score[:, None] + join
        came_from.append(through.argmax(0))
        score = through.max(0) + fit
    path = [int(score.argmax())]
    for pointers in reversed(came_from):
        path.append(int(pointers[path[-1]]))
    return float(score.max()), np.array(path[::-1])


def _confidences(fits: np.ndarray, joins: np.ndarray, orders: np.ndarray, path: np.ndarray) -> list[float]:
    """For each join the probability that the sources continue as chosen (forward-backward)."""
    forward, backward = [fits[0]], [np.zeros(len(orders))]
    for fit, join in zip(fits[1:], joins, strict=True):
        forward.append(np.logaddexp.reduce(forward[-1][:, None] + join, axis=0) + fit)
    for fit, join in zip(fits[:0:-1], joins[::-1], strict=True):
        backward.append(np.logaddexp.reduce(join + fit + backward[-1], axis=1))
    backward.reverse()
    # [order, order]: which source continues which, by the number of that permutation
    numbers = {tuple(order): number for number, order in enumerate(orders)}
    continued = np.array(
        [[numbers[tuple(behind[before])] for behind in orders] for before in np.argsort(orders, axis=1)]
    )
    confidences = []
    for number, join in enumerate(joins):
        joint = forward[number][:, None] + join + fits[number + 1] + backward[number + 1]
        same = continued == continued[path[number], path[number + 1]]
        confidences.append(float(np.exp(np.logaddexp.reduce(joint[same]) - np.logaddexp.reduce(joint, axis=None))))
    return confidences


@functools.lru_cache(maxsize=8)
def _whitening(num_bands: int) -> np.ndarray:
    """`[band, dimension]`; of fewer bands than there are statistics of, those are the lower ones."""
    scatter = load_file(STATISTICS)["scatter"].astype(float)[:num_bands, :num_bands]
    scatter = scatter - scatter.mean(0) - scatter.mean(1)[:, None] + scatter.mean()  # loudness taken out of these alone
    scatter += SHRINKAGE * np.trace(scatter) / num_bands * np.eye(num_bands)
    values, vectors = np.linalg.eigh(scatter)
    return vectors / np.sqrt(values)


@functools.lru_cache(maxsize=8)
def _mel_bands(sample_rate: int, window: int) -> Tensor:
    """`[band, frequency]`: triangles, those of 16 kHz that lie below the Nyquist frequency."""
    edges = 700 * (10 ** (np.linspace(_mel(MIN_HZ), _mel(MAX_HZ), NUM_BANDS + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    bands = np.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)).clip(0)
    return torch.from_numpy(bands[edges[2:] <= max(sample_rate / 2, edges[2])].astype(np.float32))


def _mel(hertz: float) -> float:
    return 2595 * np.log10(1 + hertz / 700)
