import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separator.errors import ConfigError
from separator.inference.chunks import cut, join


def in_blocks(samples, sizes):
    start = 0
    for size in itertools.cycle(sizes):
        if start >= samples.shape[-1]:
            return
        yield samples[..., start : start + size]
        start += size


recordings = st.integers(1, 400).map(lambda n: np.random.default_rng(n).standard_normal((2, n)).astype(np.float32))
blocks = st.lists(st.integers(1, 150), min_size=1, max_size=4)
segments = st.integers(1, 200)
fractions = st.floats(0, 0.95)


@given(recording=recordings, sizes=blocks, segment=segments, fraction=fractions)
@settings(deadline=None)
def test_cutting_and_joining_returns_the_input_bit_for_bit(recording, sizes, segment, fraction):
    overlap = min(int(fraction * segment), segment - 1)
    joined = list(join(cut(in_blocks(recording, sizes), segment, overlap)))
    assert np.array_equal(np.concatenate(joined, axis=-1), recording)


@given(recording=recordings, sizes=blocks, segment=segments, fraction=fractions)
@settings(deadline=None)
def test_chunks_are_parts_of_the_recording_with_the_wanted_overlap(recording, sizes, segment, fraction):
    overlap = min(int(fraction * segment), segment - 1)
    found = [(start, chunk.copy()) for start, chunk in cut(in_blocks(recording, sizes), segment, overlap)]
    for start, chunk in found:
        assert chunk.shape[-1] == min(segment, recording.shape[-1])
        assert np.array_equal(chunk, recording[:, start : start + segment])
    starts = [start for start, _ in found]
    steps = np.diff(starts)
    assert starts[0] == 0 and starts[-1] + found[-1][1].shape[-1] == recording.shape[-1]
    assert (steps[:-1] == segment - overlap).all() and (steps > 0).all() and (steps <= segment - overlap).all()


def test_one_sample_more_than_a_segment_gives_two_chunks():
    assert [start for start, _ in cut([np.zeros((1, 100))], 100, 25)] == [0]
    assert [start for start, _ in cut([np.zeros((1, 101))], 100, 25)] == [0, 1]


def test_finished_samples_are_yielded_at_once():
    """However long the recording, no more than one chunk is held."""
    given_after = []

    def chunks():
        for number in range(10):
            given_after.append(sum(map(len, seen)))
            yield 75 * number, np.zeros(100)

    seen = []
    for block in join(chunks()):
        seen.append(block)
    assert given_after == [0, 0, *range(75, 675, 75)] and sum(map(len, seen)) == 775


def test_joins_do_not_click():
    ramp = np.linspace(0, 1, 4000)[None]
    drifting = ((start, chunk + chunk[0, 0]) for start, chunk in cut([ramp], 1000, 250))
    joined = np.concatenate(list(join(drifting)), axis=-1)
    assert np.abs(np.diff(joined)).max() < 0.01


def test_joining_does_not_modify_the_chunks():
    chunks = [(0, np.zeros(10)), (5, np.ones(10))]
    list(join(chunks))
    assert not chunks[0][1].any() and chunks[1][1].all()


def test_impossible_overlap_is_refused():
    with pytest.raises(ConfigError, match="cannot overlap"):
        list(cut([np.zeros((1, 10))], 5, 5))
