"""Match the sources of every chunk to the speakers of the whole recording.

There are two cues. First, where two neighbouring chunks overlap, a source and its continuation have the same samples.
But often nobody speaks there. Second, a speaker sounds alike in all chunks, however long the silence between them. To
compare speakers, each source gets a mean spectrum (log mel bands, without loudness) over the frames in which only this
source is heard. How much such a mean spectrum varies for one voice, and in which directions, was learned from many
voices. The result is in speaker_statistics.safetensors, which `benchmarks/conversation.py --fit` makes.

The speakers' spectra and the orders of the sources are estimated in turns. The orders of all chunks are found at once
(Viterbi). This is expectation-maximization with hard decisions, on a hidden Markov model whose states are permutations.
It starts from several initial spectra, and the result with the best score over the whole recording is used.
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
# A source is heard alone in a frame if its energy is more than this multiple of the energy of all other sources,
DOMINANCE = 2.0
# and more than this fraction of the chunk's loud level, which is this quantile of the energies of its frames.
AUDIBLE = 1e-3
LOUD_QUANTILE = 0.99
# A chunk counts as background if the ratio of its loud level to that of the loudest chunk is at most this value.
BACKGROUND = 1e-4
# Minimum number of frames of a usable mean spectrum.
MIN_FRAMES = 10
# Number of frames at which a mean spectrum has half of the maximum weight. The weight is limited because the voice
# itself changes too.
HALF_FRAMES = 400
# Log-likelihood, in nats, of two sources that are equal in the overlap. It is low compared with the cue of the voice,
# because the overlap misleads where the network swaps the speakers within a chunk.
JOIN_NATS = 0.3
# The cues of different chunks are not independent. With log-likelihoods scaled by this factor, the confidence of a join
# equals the fraction of joins with this confidence that are right (on conversations of validation speakers).
CERTAINTY = 0.25
# Fraction of the mean variance that is added to each band's variance (shrinkage of the covariance).
SHRINKAGE = 0.02
MAX_ROUNDS, NUM_STARTS = 20, 8
# The number of permutations grows fast. With more sources than this, only the overlaps are used.
MAX_SOURCES = 5


@dataclass(frozen=True)
class ChunkSpectra:
    """Mean spectra of the sources of a chunk.

    Attributes:
        spectra: `[source, band]`, in logarithms of mel bands.
        frames: `[source]`, number of frames in each mean.
        loudness: loud level of the chunk.
    """

    spectra: np.ndarray
    frames: np.ndarray
    loudness: float


class SpeakerMatcher:
    """Collect the chunks of a recording in order, then decide the order of the sources in each.

    Args:
        sample_rate: sample rate of the chunks, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._descriptions: list[ChunkSpectra] = []
        self._joins: list[np.ndarray] = []
        self._before: tuple[int, Tensor] | None = None

    def observe(self, start: int, sources: Tensor, downmix: Tensor | None = None) -> None:
        """Add the next chunk.

        Args:
            start: index of its first sample in the recording.
            sources: `[source, time]` or `[source, channel, time]`.
            downmix: weight `[channel]` of each channel in the signal for the spectrum. The mean if None. Only the
                spectrum depends on it, so its sign may differ between chunks.
        """
        channels = sources if sources.ndim == 3 else sources[:, None]
        if self._before is not None:
            begin, before = self._before
            self._joins.append(_likeness(before[..., start - begin :], channels))
        self._before = start, channels
        mono = channels.mean(1) if downmix is None else torch.einsum("sct,c->st", channels, downmix)
        self._descriptions.append(describe(mono, self.sample_rate))

    def decide(self) -> tuple[list[tuple[int, ...]], list[float]]:
        """Decide the order of the sources in each chunk.

        Returns:
            For each chunk, the index of the first speaker's source, of the second speaker's, and so on. For each join,
            the confidence: 1 is certain, and 1 / (number of possible orders) is a guess.
        """
        num_sources = len(self._descriptions[0].spectra)
        if len(self._descriptions) == 1 or num_sources == 1:
            return [tuple(range(num_sources))] * len(self._descriptions), [1.0] * len(self._joins)
        if num_sources > MAX_SOURCES:
            return self._decide_by_overlaps()
        orders = np.array(list(itertools.permutations(range(num_sources))))
        spectra, weights = self._comparable()
        # [join, order before, order after]
        joins = np.stack([join[orders[:, None], orders[None]].sum(-1) for join in self._joins]) * JOIN_NATS
        best, states, chunks = -np.inf, np.zeros(len(spectra), int), np.zeros((len(spectra), len(orders)))
        for first in np.argsort(-weights.min(1), kind="stable")[:NUM_STARTS]:
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
        confidences = _confidences(CERTAINTY * chunks, CERTAINTY * joins, orders, states)
        # The first chunk's sources keep their order.
        named = orders[states][:, np.argsort(orders[states[0]])]
        return [tuple(map(int, order)) for order in named], confidences

    def _decide_by_overlaps(self) -> tuple[list[tuple[int, ...]], list[float]]:
        """Go from join to join. The confidence is the correlation of the sources in the overlap."""
        order = np.arange(len(self._descriptions[0].spectra))
        decided, confidences = [order], []
        for join in self._joins:
            continuation = best_permutation(torch.from_numpy(join)[None])[0].numpy()
            confidences.append(float(np.clip(join[order, continuation].sum(), 0, 1)))
            decided.append(continuation[decided[-1]])
        return [tuple(map(int, order)) for order in decided], confidences

    def _comparable(self) -> tuple[np.ndarray, np.ndarray]:
        """Return whitened spectra `[chunk, source, dimension]`, in which a voice varies by 1, and their weights."""
        spectra = np.stack([chunk.spectra for chunk in self._descriptions])
        frames = np.stack([chunk.frames for chunk in self._descriptions]).astype(float)
        loudness = np.array([chunk.loudness for chunk in self._descriptions])
        known = (frames >= MIN_FRAMES) & (loudness > BACKGROUND * loudness.max())[:, None]
        weights = np.where(known, frames / (frames + HALF_FRAMES), 0.0)
        mean = (weights[..., None] * spectra).sum((0, 1)) / max(weights.sum(), 1e-9)
        return np.where(known[..., None], spectra - mean, 0.0) @ _whitening(spectra.shape[-1]), weights


def describe(sources: Tensor, sample_rate: int) -> ChunkSpectra:
    """Compute the mean spectrum of each source of a chunk `[source, time]`, over the frames where it is heard alone."""
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
    return ChunkSpectra(spectra.numpy().astype(float), frames.numpy(), loud)


def _likeness(before: Tensor, after: Tensor) -> np.ndarray:
    """Correlate the sources of two neighbouring chunks `[source, channel, time]` in their overlap.

    All channels count, so channels of opposite polarity do not cancel.

    Returns:
        `[before, after]`. The values of any permutation add up to at most 1.
    """
    shared = before.shape[-1]
    before, after = before.flatten(1).double(), after[..., :shared].flatten(1).double()
    energy = before.square().sum().sqrt() * after.square().sum().sqrt()
    return (before @ after.T / energy.clamp_min(1e-9)).numpy()


def _fits(spectra: np.ndarray, weights: np.ndarray, speakers: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Log-likelihood of each order for each chunk: `[chunk, order]`."""
    distances = np.square(spectra[:, :, None] - speakers).sum(-1)  # [chunk, source, speaker]
    return (-0.5 * weights[..., None] * distances)[:, orders, np.arange(len(speakers))].sum(-1)


def _means(spectra: np.ndarray, weights: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the speakers' mean spectra, given the order of each chunk `[chunk, speaker]`."""
    weights = np.take_along_axis(weights, order, 1)[..., None]
    return (weights * np.take_along_axis(spectra, order[..., None], 1)).sum(0) / np.maximum(weights.sum(0), 1e-9)


def _best_path(fits: np.ndarray, joins: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the log-likelihood of the most likely orders, and the order of each chunk (Viterbi)."""
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
    """Return for each join the probability that the sources continue as chosen (forward-backward)."""
    forward, backward = [fits[0]], [np.zeros(len(orders))]
    for fit, join in zip(fits[1:], joins, strict=True):
        forward.append(np.logaddexp.reduce(forward[-1][:, None] + join, axis=0) + fit)
    for fit, join in zip(fits[:0:-1], joins[::-1], strict=True):
        backward.append(np.logaddexp.reduce(join + fit + backward[-1], axis=1))
    backward.reverse()
    # [order, order]: index of the permutation that maps the sources of one chunk to those of the next
    numbers = {tuple(order): number for number, order in enumerate(orders)}
    continued = np.array([[numbers[tuple(after[before])] for after in orders] for before in np.argsort(orders, axis=1)])
    confidences = []
    for number, join in enumerate(joins):
        joint = forward[number][:, None] + join + fits[number + 1] + backward[number + 1]
        same = continued == continued[path[number], path[number + 1]]
        confidences.append(float(np.exp(np.logaddexp.reduce(joint[same]) - np.logaddexp.reduce(joint, axis=None))))
    return confidences


@functools.lru_cache(maxsize=8)
def _whitening(num_bands: int) -> np.ndarray:
    """Return the whitening matrix `[band, dimension]`. Fewer bands than in the statistics are the lower ones."""
    scatter = load_file(STATISTICS)["scatter"].astype(float)[:num_bands, :num_bands]
    scatter = scatter - scatter.mean(0) - scatter.mean(1)[:, None] + scatter.mean()  # remove loudness of these bands
    scatter += SHRINKAGE * np.trace(scatter) / num_bands * np.eye(num_bands)
    values, vectors = np.linalg.eigh(scatter)
    return vectors / np.sqrt(values)


@functools.lru_cache(maxsize=8)
def _mel_bands(sample_rate: int, window: int) -> Tensor:
    """Return triangular mel filters `[band, frequency]`: those for 16 kHz that lie below the Nyquist frequency."""
    edges = 700 * (10 ** (np.linspace(_mel(MIN_HZ), _mel(MAX_HZ), NUM_BANDS + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    bands = np.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)).clip(0)
    return torch.from_numpy(bands[edges[2:] <= max(sample_rate / 2, edges[2])].astype(np.float32))


def _mel(hertz: float) -> float:
    return 2595 * np.log10(1 + hertz / 700)
