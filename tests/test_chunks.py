import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separator.chunks import bounds, in_chunks
from separator.errors import ConfigError

lengths = st.integers(1, 400)


@given(num_samples=lengths, segment=st.integers(1, 200), fraction=st.floats(0, 0.95))
@settings(deadline=None)
def test_identity_in_chunks_is_the_input_bit_for_bit(num_samples, segment, fraction):
    mixture = torch.randn(2, num_samples)
    overlap = min(int(fraction * segment), segment - 1)
    # Independent sources, so that their order is well defined.
    other = torch.randn(2, num_samples)
    both = torch.stack([mixture, other])
    indices = torch.arange(num_samples, dtype=torch.float32)[None]
    joined = in_chunks(lambda chunk: both[:, :, chunk[0].long()], indices, segment, overlap)
    assert joined.shape == (2, 2, num_samples)
    if overlap == 0:
        joined, both = joined.sum(0), both.sum(0)
    torch.testing.assert_close(joined, both, atol=0, rtol=0)


@given(num_samples=lengths, segment=st.integers(2, 200), fraction=st.floats(0, 0.95))
@settings(deadline=None)
def test_bounds_cover_everything_with_the_wanted_overlap(num_samples, segment, fraction):
    overlap = int(fraction * (segment - 1))
    pieces = bounds(num_samples, segment, overlap)
    assert pieces[0][0] == 0 and pieces[-1][1] == num_samples
    assert len({end - start for start, end in pieces}) == 1
    for (_, end), (start, _) in itertools.pairwise(pieces):
        assert end - start >= overlap


@pytest.mark.parametrize("num_sources", [2, 3, 5])
def test_sources_that_swap_between_chunks_are_put_in_order(num_sources):
    torch.manual_seed(0)
    truth = torch.randn(num_sources, 1, 5000)
    generator = torch.Generator().manual_seed(1)

    def shuffled(chunk):
        order = torch.randperm(num_sources, generator=generator)
        return truth[order][:, :, chunk[0].long()]

    joined = in_chunks(shuffled, torch.arange(5000.0)[None], 700, 100)
    first = [int((joined[i, 0, :100] - truth[:, 0, :100]).abs().sum(-1).argmin()) for i in range(num_sources)]
    torch.testing.assert_close(joined, truth[first], atol=0, rtol=0)


def test_sources_with_names_stay_where_they_are():
    """Though the second chunk's fit the other way round."""
    mixture = torch.randn(1, 100)
    calls = iter([False, True])

    def run(chunk):
        parts = torch.stack([chunk, -chunk])
        return parts.flip(0) if next(calls) else parts

    joined = in_chunks(run, mixture, 60, 20, align=False)
    assert torch.equal(joined[0, :, :40], mixture[:, :40]) and torch.equal(joined[0, :, 60:], -mixture[:, 60:])


def test_the_louder_part_of_the_overlap_decides_the_order():
    truth = torch.zeros(2, 1, 1000)
    truth[0, 0, 500:520], truth[1, 0, 520:540] = 1.0, -1.0
    noise = 1e-3 * torch.randn(2, 1, 1000)
    calls = []

    def noisy(chunk):
        calls.append(1)
        sources = (truth + noise * (-1) ** len(calls))[:, :, chunk[0].long()]
        return sources.flip(0) if len(calls) == 2 else sources

    joined = in_chunks(noisy, torch.arange(1000.0)[None], 600, 200)
    assert float((joined - truth).abs().max()) < 0.01


def test_joins_do_not_click():
    def drifting(chunk):
        return torch.stack([chunk + chunk[0, 0], -chunk - chunk[0, 0]])

    ramp = torch.linspace(0, 1, 4000)[None]
    joined = in_chunks(drifting, ramp, 1000, 250)
    assert float(joined.diff(dim=-1).abs().max()) < 0.01


def test_progress_ends_at_the_end():
    seen = []
    in_chunks(lambda chunk: chunk[None], torch.zeros(1, 1000), 300, 100, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (1000, 1000)


def test_impossible_overlap_is_refused():
    with pytest.raises(ConfigError, match="cannot overlap"):
        in_chunks(lambda chunk: chunk[None], torch.zeros(1, 10), 5, 5)
