import itertools

import numpy as np
import pytest
import torch

from separator.data import Voice
from separator.inference import speaker_matching
from separator.inference.speaker_matching import SpeakerMatcher, describe

RATE = 16000


@pytest.fixture(scope="module")
def voices():
    """Three generated speakers, 40 s each, `[speaker, time]`."""
    drawn = []
    for seed in (3, 4, 7):
        generator = np.random.default_rng([1, seed])
        drawn.append(Voice.draw(generator).speak(40.0, RATE, generator))
    return torch.from_numpy(np.stack(drawn).astype(np.float32))


def chunks(sources, orders, seconds=4.0, overlap=1.0):
    """Cut `sources`, `[speaker, time]`, into chunks, each with its own order of the sources."""
    length, hop = int(seconds * RATE), int((seconds - overlap) * RATE)
    for number, order in enumerate(orders):
        yield number * hop, sources[list(order), number * hop : number * hop + length]


def decide(pieces, rate=RATE):
    matcher = SpeakerMatcher(rate)
    for start, sources in pieces:
        matcher.observe(start, sources)
    return matcher.decide()


def apply(orders, decided):
    """Return the set of speaker orders after matching. A single order means that all chunks are matched."""
    return {tuple(orders[chunk][source] for source in order) for chunk, order in enumerate(decided)}


def turns(voices, pause=1.5):
    """Make a conversation in turns: one speaks, then nobody speaks during the overlap of chunks, then the other."""
    speech = torch.zeros_like(voices)
    for number, start in enumerate(range(int(1.1 * RATE), voices.shape[1], 3 * RATE)):
        who = (number // 2) % len(voices)
        speech[who, start : start + int((3 - pause) * RATE)] = voices[who, start : start + int((3 - pause) * RATE)]
    return speech


@pytest.mark.parametrize("number", [2, 3])
def test_a_known_permutation_is_found(voices, number):
    generator = np.random.default_rng(0)
    orders = [tuple(generator.permutation(number)) for _ in range(12)]
    decided, confidences = decide(chunks(voices[:number], orders))
    assert decided[0] == tuple(range(number)) and len(apply(orders, decided)) == 1
    assert len(confidences) == 11 and min(confidences) > 0.9


def test_speakers_are_recognized_after_silence(voices):
    """Nobody speaks where chunks overlap, so the overlaps say nothing. Elsewhere only one speaks at a time."""
    speech = turns(voices[:2])
    orders = [(0, 1), (1, 0), (0, 1), (1, 0), (1, 0), (0, 1), (0, 1), (1, 0), (1, 0), (0, 1), (1, 0), (0, 1)]
    pieces = list(chunks(speech, orders))
    for (start, one), (begin, two) in itertools.pairwise(pieces):
        assert not one[:, begin - start :].any() and not two[:, :RATE].any()
    decided, _ = decide(pieces)
    assert len(apply(orders, decided)) == 1


def test_confidence_is_low_without_any_cue(voices):
    silence = torch.zeros(2, 4 * RATE)
    pieces = [(0, voices[:2, : 4 * RATE]), (3 * RATE, silence), (6 * RATE, silence)]
    decided, confidences = decide(pieces)
    assert decided[0] == (0, 1) and confidences == pytest.approx([0.5, 0.5], abs=0.05)


def test_one_chunk_or_one_source_needs_no_decision(voices):
    assert decide([(0, voices)]) == ([(0, 1, 2)], [])
    assert decide(chunks(voices[:1], [(0,), (0,)])) == ([(0,), (0,)], [1.0])


def test_many_sources_are_matched_by_their_overlaps():
    torch.manual_seed(0)
    sources = torch.randn(7, 40 * RATE)
    orders = [tuple(np.random.default_rng(seed).permutation(7)) for seed in range(5)]
    decided, confidences = decide(chunks(sources, orders))
    assert len(apply(orders, decided)) == 1 and min(confidences) > 0.9


@pytest.mark.parametrize("rate", [4000, 8000, 44100])
def test_models_of_other_rates(voices, rate):
    from soxr import resample

    at_rate = torch.from_numpy(np.stack([resample(voice.numpy(), RATE, rate) for voice in voices[:2]]))
    orders = [(0, 1), (1, 0), (1, 0), (0, 1), (1, 0)]
    pieces = [(start * rate // RATE, sources) for start, sources in chunks(voices[:2], orders)]
    pieces = [
        (start, at_rate[list(order), start : start + 4 * rate])
        for (start, _), order in zip(pieces, orders, strict=True)
    ]
    decided, _ = decide(pieces, rate)
    assert len(apply(orders, decided)) == 1


def test_the_mean_spectrum_does_not_depend_on_loudness(voices):
    loud, soft = describe(voices[:2], RATE), describe(0.01 * voices[:2], RATE)
    np.testing.assert_allclose(loud.spectra, soft.spectra, atol=1e-3)
    assert np.array_equal(loud.frames, soft.frames)


def test_only_frames_with_a_single_source_count(voices):
    both = describe(torch.stack([voices[0], voices[0]]), RATE)
    assert not both.frames.any()
    alone = describe(torch.stack([voices[0], torch.zeros_like(voices[0])]), RATE)
    assert alone.frames[0] > 1000 and alone.frames[1] == 0


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_chunks_shorter_than_a_window(samples):
    assert not describe(torch.zeros(2, samples), RATE).frames.any()


def test_the_statistics_are_a_valid_covariance():
    scatter = speaker_matching.load_file(speaker_matching.STATISTICS)["scatter"]
    assert scatter.shape == (speaker_matching.NUM_BANDS,) * 2
    np.testing.assert_allclose(scatter, scatter.T, rtol=1e-5)
    assert np.linalg.eigvalsh(scatter.astype(float)).min() > -1e-4


def test_the_sign_of_the_downmix_makes_no_difference():
    """Where channels cancel each other, the sign comes from the loudest channel, which may differ between chunks."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(2, 48000, generator=generator)
    channels = torch.stack([sources, -sources], dim=1)  # opposite polarity
    matcher = SpeakerMatcher(16000)
    matcher.observe(0, channels[..., :32000], torch.tensor([0.5, -0.5]))
    matcher.observe(16000, channels[..., 16000:], torch.tensor([-0.5, 0.5]))
    orders, confidences = matcher.decide()
    assert orders == [(0, 1), (0, 1)] and confidences[0] > 0.5
