from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separator.errors import AudioError
from separator.inference.pipeline import ChunkStore, Separation


class Identity:
    """Stands for the network: the sources are the mixture and its negative."""

    batch = 3
    net = SimpleNamespace(sample_rate=8000, num_channels=1, num_sources=2, can_stream=False, num_interchangeable=0)

    def __call__(self, chunks):
        return [torch.stack([chunk, -chunk]) for chunk in chunks]


def separate(samples, rate, segment_seconds, overlap, folder=None, estimator=None, block=1000):
    with ChunkStore(folder) as store:
        work = Separation(estimator or Identity(), rate, len(samples), segment_seconds, overlap, store, lambda _: None)
        work.process(samples[:, start : start + block] for start in range(0, samples.shape[-1], block))
        return np.concatenate(list(work.stems()), axis=-1), work


@given(
    length=st.integers(1, 20_000),
    channels=st.integers(1, 3),
    segment=st.floats(0.001, 1.0),
    overlap=st.floats(0, 0.95),
)
@settings(deadline=None, max_examples=50)
def test_with_an_identity_network_the_output_is_the_input(length, channels, segment, overlap):
    samples = np.random.default_rng(length).standard_normal((channels, length)).astype(np.float32)
    stems, _ = separate(samples, 8000, segment, overlap)
    assert np.array_equal(stems, np.stack([samples, -samples]))


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 192000])
@pytest.mark.parametrize("length", [1, 2, 100, 30_001])
def test_stems_have_the_length_of_the_recording_at_any_rate(rate, length):
    time = np.arange(length) / rate
    samples = np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 300 * time)]).astype(np.float32)
    stems, work = separate(samples, rate, 0.5, 0.25)
    assert stems.shape == (2, 2, length) and work.num_samples == length
    if length > 1000:
        middle = slice(length // 4, 3 * length // 4)
        np.testing.assert_allclose(stems[0][:, middle], samples[:, middle], atol=2e-3)


class Lossy(Identity):
    """Leaves a tenth of the mixture out of the stems."""

    def __call__(self, chunks):
        return [torch.stack([0.6 * chunk, 0.3 * chunk]) for chunk in chunks]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_the_residual_is_measured(channels, overlap):
    samples = np.random.default_rng(0).standard_normal((channels, 20_000)).astype(np.float32)
    assert separate(samples, 8000, 0.2, overlap, estimator=Lossy())[1].residual_db == pytest.approx(-20, abs=0.01)


def test_the_residual_includes_sound_above_the_models_band():
    time = np.arange(88_200) / 44_100
    samples = (np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 9000 * time))[None].astype(np.float32)
    stems, work = separate(samples, 44_100, 0.5, 0.25, estimator=Lossy())
    missing = samples - stems.sum(0)
    measured = 10 * np.log10(np.square(missing).sum() / np.square(samples).sum())
    assert measured == pytest.approx(-17, abs=0.3)
    assert work.residual_db == pytest.approx(measured, abs=0.1)


def test_the_residual_of_silence_is_the_floor():
    assert separate(np.zeros((1, 5000), np.float32), 8000, 0.2, 0.25, estimator=Lossy())[1].residual_db == -120


def test_chunks_on_disk_equal_chunks_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("separator.inference.pipeline.MEMORY_BYTES", 1000)
    samples = np.random.default_rng(0).standard_normal((2, 20_000)).astype(np.float32)
    stems, work = separate(samples, 8000, 0.3, 0.25, folder=tmp_path)
    assert np.array_equal(stems[0], samples) and work.num_chunks > 5
    assert list(tmp_path.iterdir()) == []


def test_stems_can_be_read_twice(tmp_path):
    samples = np.random.default_rng(0).standard_normal((1, 5000)).astype(np.float32)
    with ChunkStore(tmp_path) as store:
        work = Separation(Identity(), 11025, 1, 0.1, 0.5, store, lambda _: None)
        work.process([samples])
        first, second = (np.concatenate(list(work.stems()), axis=-1) for _ in range(2))
    assert np.array_equal(first, second)


def test_speakers_swapped_by_the_network_are_put_back(two_voices):
    """The network swaps the speakers in every second chunk."""
    mixture = np.tile(two_voices.sum(0), 6)[None]
    truth = torch.from_numpy(np.tile(two_voices, 6))[:, None]
    calls = []

    class Swapping(Identity):
        batch = 1
        net = SimpleNamespace(sample_rate=16000, num_channels=1, num_sources=2, can_stream=False, num_interchangeable=2)

        def __call__(self, chunks):
            start = min(3 * 8000 * len(calls), 16 * 16000)
            calls.append(1)
            chunk = truth[..., start : start + 4 * 8000]
            return [chunk.flip(0) if len(calls) % 2 == 0 else chunk]

    stems, work = separate(mixture, 16000, 2.0, 0.25, estimator=Swapping())
    np.testing.assert_allclose(stems[:, 0], truth[:, 0], atol=1e-6)
    assert all(confidence > 0.9 for _, confidence in work.joins)


def test_progress_is_reported_in_seconds():
    reported = []
    with ChunkStore() as store:
        work = Separation(Identity(), 16000, 1, 0.5, 0.25, store, reported.append)
        work.process([np.zeros((1, 40_000), np.float32)])
    assert reported == sorted(reported) and reported[-1] == 2.5 and len(reported) == work.num_chunks > 3


def test_a_full_disk_is_reported(tmp_path):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    store = ChunkStore()
    store._folder, store._file = tmp_path, Full()
    with pytest.raises(AudioError, match=r"data cannot be written \(No space left on device\); choose another folder"):
        store.append(0, np.zeros(10, np.float32))
