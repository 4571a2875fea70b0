import numpy as np
import pytest
import torch

import separator
from separator.inference.rumble import put_back, rumble

RATE = 16000


def tone(hertz, seconds=3.0):
    return torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)[None]


@pytest.mark.parametrize("low", [0.5 + 0 * tone(1), tone(50), tone(30)], ids=["offset", "hum", "rumble"])
def test_rumble_is_found(low):
    voice = 0.2 * tone(110) + 0.1 * tone(1000)
    torch.testing.assert_close(rumble((voice + low)[None], RATE)[0], low, atol=0.06, rtol=0)


def test_a_recording_without_rumble_is_not_changed():
    mixture = torch.randn(2, 3, 2 * RATE, generator=torch.Generator().manual_seed(0)) + 0.01
    assert not rumble(mixture, RATE).any()


def test_rumble_goes_to_the_background_or_is_shared():
    stems, low = torch.zeros(3, 2, 100), torch.ones(2, 100)
    assert put_back(stems, low, 2).mean((1, 2)).tolist() == [0, 0, 1]
    torch.testing.assert_close(put_back(stems, low, 3).sum(0), low)
    five = put_back(torch.zeros(5, 2, 100), low, 2)
    assert five.mean((1, 2)).tolist() == [0, 0, 1, 0, 0]


def mixture_of_voices():
    from separator.data.voices import Voice

    voices = []
    for number in range(2):
        generator = np.random.default_rng([2026, 0, 0, number])
        voice = Voice.draw(generator).speak(4, RATE, generator)
        voices.append(0.1 * voice / np.sqrt(np.mean(voice**2)))
    return sum(voices).astype(np.float32)


@pytest.mark.parametrize("kind", ["offset", "hum", "low-frequency channel"])
def test_rumble_hardly_changes_the_voices_and_the_stems_still_add_up(kind):
    """Without this step, an offset of 0.3 costs 4 dB, and hum as loud as the voices costs 15 dB."""
    voices = mixture_of_voices()
    low = 0.14 * tone(50, 4)[0].numpy() if kind == "hum" else np.full_like(voices, 0.3)
    recording = voices + low
    if kind == "low-frequency channel":
        recording = np.stack([voices, 0.5 * tone(40, 4)[0].numpy()])
    separate = separator.Separator("default")
    plain, got = (list(separate.separate(x, RATE).values()) for x in (voices, recording))
    np.testing.assert_allclose(sum(got), recording, atol=1e-4)
    for one, other in zip(plain, got, strict=True):
        other = np.atleast_2d(other)[0]
        spectra = [np.fft.rfft(x)[(100 * 4) :] for x in (one, other)]
        error = np.square(np.abs(spectra[0] - spectra[1])).sum() / np.square(np.abs(spectra[0])).sum()
        assert 10 * np.log10(error) < -15
