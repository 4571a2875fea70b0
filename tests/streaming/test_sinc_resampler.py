"""Resampling of streams: independent of block sizes, accurate, and with low latency."""

import numpy as np
import pytest

from separator.streaming import sinc_resampler
from separator.streaming.sinc_resampler import StreamResampler

PAIRS = [(48000, 16000), (16000, 48000), (44100, 16000), (16000, 44100), (8000, 16000), (16000, 8000), (16000, 11025)]


def tone(frequency, rate, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate + 0.3)[None].astype(np.float32)


def whole(samples, from_rate, to_rate):
    return StreamResampler(len(samples), from_rate, to_rate).push(samples, last=True)


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
@pytest.mark.parametrize("sizes", [[1], [7, 0, 333], [480], [100_000]])
def test_blocks_do_not_matter(from_rate, to_rate, sizes):
    samples = np.random.default_rng(0).standard_normal((2, 3001)).astype(np.float32)
    stream, given, start, number = StreamResampler(2, from_rate, to_rate), [], 0, 0
    while start < samples.shape[-1]:
        size = sizes[number % len(sizes)]
        given.append(stream.push(samples[:, start : start + size]))
        start, number = start + size, number + 1
    given.append(stream.push(samples[:, :0], last=True))
    expected = whole(samples, from_rate, to_rate)
    assert expected.shape == (2, -(-3001 * to_rate // from_rate))
    np.testing.assert_allclose(np.concatenate(given, axis=-1), expected, atol=1e-5)


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
@pytest.mark.parametrize("part", [0.001, 0.3, 0.8])
def test_tones_below_the_lower_nyquist_frequency_are_unchanged(from_rate, to_rate, part):
    frequency = part * min(from_rate, to_rate) / 2
    given = whole(tone(frequency, from_rate), from_rate, to_rate)
    middle = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(given[:, middle], tone(frequency, to_rate)[:, middle], atol=2e-3)


@pytest.mark.parametrize(("from_rate", "to_rate"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_tones_above_the_lower_nyquist_frequency_are_removed(from_rate, to_rate):
    for frequency in np.linspace(1.01 * to_rate / 2, 0.98 * from_rate / 2, 5):
        given = whole(tone(frequency, from_rate), from_rate, to_rate)[:, to_rate // 10 : -to_rate // 10]
        assert 20 * np.log10(np.abs(given).max()) < -60, frequency


@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [*PAIRS, (96000, 16000), (22050, 16000), (1000, 16000), (16000, 16000)]
)
def test_no_sample_is_later_than_the_latency(from_rate, to_rate):
    stream, given, longest = StreamResampler(1, from_rate, to_rate), 0, 0.0
    for number in range(1, 3000):
        given += stream.push(np.zeros((1, 1), np.float32)).shape[-1]
        longest = max(longest, number / from_rate - given / to_rate)
    latency = sinc_resampler.latency(from_rate, to_rate)
    assert longest <= latency + 1e-9
    assert longest >= 0.85 * latency
    assert latency < 0.0045 or min(from_rate, to_rate) < 16000


def test_a_ratio_with_many_phases_uses_no_cached_table():
    rate = 96001  # 16,000 phases
    tables = sinc_resampler._all_filters.cache_info().misses
    given = whole(tone(1000, rate, 0.2), rate, 16000)
    np.testing.assert_allclose(given[:, 300:-300], tone(1000, 16000, 0.2)[:, 300:-300], atol=2e-3)
    assert sinc_resampler._all_filters.cache_info().misses == tables


def test_memory_does_not_grow():
    stream = StreamResampler(1, 48000, 16000)
    for _ in range(50):
        stream.push(np.zeros((1, 4800), np.float32))
    assert stream._samples.nbytes < 10_000
