import numpy as np
import pytest

from separator.inference.channel_likeness import ChannelLikeness

RATE = 8000


def differ(left, right, block=1000):
    likeness = ChannelLikeness(RATE)
    both = np.stack([left, right]).astype(np.float32)
    for start in range(0, both.shape[1], block):
        likeness.add(both[:, start : start + block])
    return likeness.differ()


@pytest.fixture
def voices():
    noise = np.random.default_rng(0).standard_normal((2, 6 * RATE))
    return 0.1 * noise


def test_channels_with_one_speaker_each_are_recognized(voices):
    assert differ(*voices)
    assert differ(voices[0] + 0.1, 0.1 * voices[1])


@pytest.mark.parametrize("delay", [0, 3, 200])
def test_two_microphones_with_the_same_sound_are_alike(voices, delay):
    assert not differ(voices[0], 0.5 * np.roll(voices[0], delay) + 0.1 * voices[1])


def test_opposite_polarity_is_alike(voices):
    assert not differ(voices[0], -voices[0])


def test_an_empty_channel_or_a_short_recording_is_not_a_call(voices):
    assert not differ(voices[0], 0 * voices[1])
    assert not differ(voices[0, : 2 * RATE], voices[1, : 2 * RATE])


def test_the_result_does_not_depend_on_the_block_size(voices):
    mixed = 0.2 * voices[0] + voices[1]
    assert differ(voices[0], mixed, 977) == differ(voices[0], mixed, 48000)
