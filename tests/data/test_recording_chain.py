"""Tests of the degradation of whole recordings in training."""

import numpy as np
import pytest
import soundfile
import torch

from separator.data import GeneratedCorpus, GeneratedNoise, Mixing, Mixtures, Rooms, augment
from separator.errors import ConfigError, DataError

RATE = 16000


@pytest.fixture(scope="module")
def corpus():
    return GeneratedCorpus(4, 1, 2.0, RATE, seed=3)


@pytest.fixture(scope="module")
def noise():
    return GeneratedNoise(snr_db=(5.0, 5.0), is_source=True, num_recordings=2).background("train", RATE, 0)


def draw(corpus, noise=None, rooms=None, num_sources=None, **mixing):
    number = num_sources or (3 if noise is not None and noise.is_source else 2)
    return Mixtures([(corpus, 1.0)], number, Mixing(segment_seconds=1.0, **mixing), 0, noise, rooms)


def energy_above(samples, hertz):
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    return spectrum[..., int(hertz * samples.shape[-1] / RATE) :].sum() / spectrum.sum()


@pytest.mark.parametrize(
    "setting", [{"microphone_db": 6.0}, {"line_share": 1.0}, {"hum_share": 1.0}, {"offset_share": 1.0}]
)
def test_the_sources_still_add_up(corpus, noise, setting):
    """Linear effects are applied to all sources, and hum and offset are part of the background."""
    drawn, plain = draw(corpus, noise, line_codec_share=0.0, **setting), draw(corpus, noise)
    for index in range(3):
        item = drawn[index]
        torch.testing.assert_close(item.mixture, item.sources.sum(0), atol=1e-5, rtol=0)
        assert not torch.allclose(item.mixture, plain[index].mixture, atol=1e-3)


def test_a_telephone_line_limits_the_band(corpus, noise):
    drawn = draw(corpus, noise, line_share=1.0, line_high_hz=(3400.0, 3400.0))
    for index in range(4):
        item = drawn[index]
        assert energy_above(item.sources.numpy(), 4200) < 1e-4 and energy_above(item.mixture.numpy(), 4200) < 1e-4
        assert energy_above(draw(corpus, noise)[index].mixture.numpy(), 4200) > 1e-3


def test_a_telephone_codec_is_applied_to_the_mixture_only(corpus):
    plain = draw(corpus, line_share=1.0, line_codec_share=0.0)
    coded = draw(corpus, line_share=1.0, line_codec_share=1.0)
    differences = []
    for index in range(6):
        item = coded[index]
        error = (item.mixture - item.sources.sum(0)).square().sum() / item.mixture.square().sum()
        differences.append(10 * float(torch.log10(error + 1e-12)))
        torch.testing.assert_close(plain[index].mixture, plain[index].sources.sum(0), atol=1e-5, rtol=0)
    assert max(differences) < 5 and min(differences) > -60


def test_a_line_keeps_length_and_time(corpus):
    voice = augment.limit_band(corpus.read(0, 0, 0, RATE), RATE, 0, 3000)
    for codec in (None, ("WAV", "ULAW", None)):
        through = augment.through_line(voice, RATE, codec)
        assert through.shape == voice.shape
        assert 10 * np.log10(np.square(voice).sum() / np.square(voice - through).sum()) > 15


def test_mixtures_of_background_alone_have_no_voice(corpus, noise):
    drawn = draw(corpus, noise, background_share=0.4)
    silent = []
    for index in range(40):
        item = drawn[index]
        silent.append(float(item.sources[:2].abs().max()) == 0)
        assert item.sources[2].abs().max() > 0 and item.mixture.abs().max() > 0.05
    assert 0.15 < np.mean(silent) < 0.65


def test_background_alone_needs_a_background(corpus):
    with pytest.raises(ConfigError, match=r"background_share=0\.1 needs background noise"):
        draw(corpus, background_share=0.1)


def test_an_offset_and_hum_are_in_the_background(corpus, noise):
    item = draw(corpus, noise, offset_share=1.0, offset=(0.5, 0.5))[0]
    assert abs(float(item.sources[2].mean())) > 0.05
    assert float(item.sources[:2].mean(1).abs().max()) < 0.01
    item = draw(corpus, noise, hum_share=1.0, hum_snr_db=(-20.0, -20.0))[0]
    assert float(item.sources[2].square().sum()) > 10 * float(item.sources[:2].square().sum())


def test_empty_bands_are_rejected():
    with pytest.raises(ConfigError, match="a band from 4500 to 7000 Hz is empty at a sample rate of 8000 Hz"):
        augment.limit_band(np.zeros(100, np.float32), 8000, 4500, 7000)
    with pytest.raises(ConfigError, match="a band from 3000 to 300 Hz is empty"):
        augment.limit_band(np.zeros(100, np.float32), 8000, 3000, 300)


def test_measured_responses_are_used_instead_of_simulated_rooms(corpus, tmp_path):
    pytest.importorskip("pyroomacoustics")
    response = np.zeros(2000, np.float32)
    response[[5, 1500]] = 1.0, 0.5
    soundfile.write(tmp_path / "room.wav", response, RATE, "FLOAT")
    settings = dict(count=1, target="reverberant", cache=str(tmp_path), responses=str(tmp_path), measured_share=1.0)
    drawn = draw(corpus, rooms=Rooms(**settings).bank("train", 2, RATE))
    dry, heard = draw(corpus)[0].sources, drawn[0].sources
    echo = dry + 0.5 * torch.nn.functional.pad(dry, (1495, 0))[:, : dry.shape[1]]
    gain = (heard * echo).sum() / echo.square().sum()
    torch.testing.assert_close(heard, gain * echo, atol=1e-3, rtol=0)


def test_missing_measured_responses_are_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"measured_share=0\.5 needs measured impulse responses"):
        Rooms(measured_share=0.5)
    pytest.importorskip("pyroomacoustics")
    for folder, what in ((tmp_path / "none", "no such folder"), (tmp_path, "contains no audio file")):
        with pytest.raises(DataError, match=what):
            rooms = Rooms(count=1, responses=str(folder), measured_share=0.5, cache=str(tmp_path / "cache"))
            rooms.bank("train", 2, RATE)
