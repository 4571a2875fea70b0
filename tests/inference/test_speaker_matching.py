import itertools

import numpy as np
import pytest
import torch

from separator.data import Voice
from separator.inference import speaker_matching
from separator.inference.speaker_matching import SpeakerMemory, describe

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
    """Chunks of `sources` `[speaker, time]`, each in an order of its own."""
    length, hop = int(seconds * RATE), int((seconds - overlap) * RATE)
    for number, order in enumerate(orders):
        yield number * hop, sources[list(order), number * hop : number * hop + length]


def decide(pieces, rate=RATE):
    memory = SpeakerMemory(rate)
    for start, sources in pieces:
        memory.observe(start, sources)
    return memory.decide()


def put_right(orders, decided):
    """Which speaker comes out where, in each chunk: the same everywhere if all is well."""
    return {tuple(orders[chunk][source] for source in order) for chunk, order in enumerate(decided)}


def turns(voices, pause=1.5):
    """One speaks 2 s, then nobody for as long as all overlaps last, then the other, and so on."""
    speech = torch.zeros_like(voices)
    for number, start in enumerate(range(int(1.1 * RATE), voices.shape[1], 3 * RATE)):
        who = (number // 2) % len(voices)
        speech[who, start : start + int((3 - pause) * RATE)] = voices[who, start : start + int((3 - pause) * RATE)]
    return speech


@pytest.mark.parametrize("number", [2, 3])
def test_a_known_permutation_is_found(voices, number):
    generator = np.random.default_rng(0)
    orders = [tuple(generator.permutation(number)) for _ in range(12)]
    decided, sure = decide(chunks(voices[:number], orders))
    assert decided[0] == tuple(range(number)) and len(put_right(orders, decided)) == 1
    assert len(sure) == 11 and min(sure) > 0.9


def test_speakers_are_known_again_after_silence(voices):
    """Nobody speaks where chunks overlap, and one at a time elsewhere: overlaps say nothing."""
    speech = turns(voices[:2])
    orders = [(0, 1), (1, 0), (0, 1), (1, 0), (1, 0), (0, 1), (0, 1), (1, 0), (1, 0), (0, 1), (1, 0), (0, 1)]
    pieces = list(chunks(speech, orders))
    for (start, one), (begin, two) in itertools.pairwise(pieces):
        assert not one[:, begin - start :].any() and not two[:, :RATE].any()
    decided, _ = decide(pieces)
    assert len(put_right(orders, decided)) == 1


def test_confidence_is_low_where_nothing_tells(voices):
    silence = torch.zeros(2, 4 * RATE)
    pieces = [(0, voices[:2, : 4 * RATE]), (3 * RATE, silence), (6 * RATE, silence)]
    decided, sure = decide(pieces)
    assert decided[0] == (0, 1) and sure == pytest.approx([0.5, 0.5], abs=0.05)


def test_one_chunk_or_one_source_needs_no_decision(voices):
    assert decide([(0, voices)]) == ([(0, 1, 2)], [])
    assert decide(chunks(voices[:1], [(0,), (0,)])) == ([(0,), (0,)], [1.0])


def test_many_sources_go_by_their_overlaps():
    torch.manual_seed(0)
    sources = torch.randn(7, 40 * RATE)
    orders = [tuple(np.random.default_rng(seed).permutation(7)) for seed in range(5)]
    decided, sure = decide(chunks(sources, orders))
    assert len(put_right(orders, decided)) == 1 and min(sure) > 0.9


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
    assert len(put_right(orders, decided)) == 1


def test_loudness_is_no_property_of_a_voice(voices):
    loud, soft = describe(voices[:2], RATE), describe(0.01 * voices[:2], RATE)
    np.testing.assert_allclose(loud.spectra, soft.spectra, atol=1e-3)
    assert np.array_equal(loud.frames, soft.frames)


def test_only_moments_in_which_a_source_is_alone_count(voices):
    both = describe(torch.stack([voices[0], voices[0]]), RATE)
    assert not both.frames.any()
    alone = describe(torch.stack([voices[0], torch.zeros_like(voices[0])]), RATE)
    assert alone.frames[0] > 1000 and alone.frames[1] == 0


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_chunks_shorter_than_a_window(samples):
    assert not describe(torch.zeros(2, samples), RATE).frames.any()


def test_the_statistics_are_a_covariance():
    scatter = speaker_matching.load_file(speaker_matching.STATISTICS)["scatter"]
    assert scatter.shape == (speaker_matching.NUM_BANDS,) * 2
    np.testing.assert_allclose(scatter, scatter.T, rtol=1e-5)
    assert np.linalg.eigvalsh(scatter.astype(float)).min() > -1e-4


def test_the_sign_of_the_downmix_changes_nothing():
    """Where channels cancel each other, it is that of the loudest channel, which another chunk may see otherwise."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(2, 48000, generator=generator)
    channels = torch.stack([sources, -sources], dim=1)  # opposite polarity
    memory = SpeakerMemory(16000)
    memory.observe(0, channels[..., :32000], torch.tensor([0.5, -0.5]))
    memory.observe(16000, channels[..., 16000:], torch.tensor([-0.5, 0.5]))
    orders, sure = memory.decide()
    assert orders == [(0, 1), (0, 1)] and sure[0] > 0.5
