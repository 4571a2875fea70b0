import numpy as np
import pytest
import torch

from separator import objectives
from separator.data import GeneratedCorpus, GeneratedData, Voice
from separator.errors import ConfigError

RATE = 16000


def voice(number):
    return Voice.draw(np.random.default_rng([9, number]))


def speak(number, take=0, seconds=4.0, rate=RATE):
    return voice(number).speak(seconds, rate, np.random.default_rng([9, number, take]))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.21])
def test_length_type_and_peak(seconds, rate):
    samples = speak(0, seconds=seconds, rate=rate)
    assert samples.shape == (round(seconds * rate),) and samples.dtype == np.float32
    assert np.abs(samples).max() == pytest.approx(0.9, abs=1e-4)


def test_the_utterance_depends_on_the_seed():
    np.testing.assert_array_equal(speak(0), speak(0))
    for other in (speak(0, take=1), speak(1)):
        assert abs(np.corrcoef(speak(0), other)[0, 1]) < 0.1


def pitch(samples, rate):
    """Median fundamental frequency of the voiced parts, by librosa's YIN."""
    import librosa

    values = librosa.yin(samples, fmin=60, fmax=500, sr=rate, frame_length=1024)
    energy = librosa.feature.rms(y=samples, frame_length=1024, hop_length=256)[0]
    return float(np.median(values[energy > np.median(energy)]))


def test_a_voice_has_the_drawn_pitch():
    for number in range(6):
        assert pitch(speak(number), RATE) == pytest.approx(voice(number).pitch, rel=0.25)


def test_speakers_differ_in_pitch_and_tract():
    voices = [voice(number) for number in range(200)]
    pitches = np.array([item.pitch for item in voices])
    tracts = np.array([item.tract for item in voices])
    assert pitches.min() < 100 and pitches.max() > 220
    assert tracts.max() / tracts.min() > 1.25
    assert np.corrcoef(np.log(pitches), tracts)[0, 1] > 0.3  # as for real speakers


def test_there_are_pauses_and_hiss():
    samples = speak(1, seconds=10.0)
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    level = 20 * np.log10(np.sqrt((frames**2).mean(1)) + 1e-9)
    assert 0.05 < np.mean(level < level.max() - 35) < 0.7
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(320), axis=1)) ** 2
    high = spectrum[:, 60:].sum(1) / spectrum.sum(1)
    assert np.mean((high > 0.5) & (level > level.max() - 35)) > 0.02


def test_separating_two_voices_is_a_real_task_that_masks_can_solve():
    """The unprocessed mixture scores about 0 dB, and an ideal mask of the spectrogram scores far more."""
    references = torch.from_numpy(np.stack([speak(3), speak(4)]))
    references = references / references.square().mean(-1, keepdim=True).sqrt()
    window = torch.hann_window(512)
    spectra = torch.stft(references, 512, 128, window=window, return_complex=True)
    masks = spectra.abs() / spectra.abs().sum(0).clamp_min(1e-9)
    estimates = torch.istft(masks * spectra.sum(0), 512, 128, window=window, length=references.shape[-1])
    unmixed = objectives.si_snr(references.sum(0).expand_as(references), references).mean()
    assert abs(float(unmixed)) < 1.5
    assert float(objectives.si_snr(estimates, references).mean()) > 8


def test_a_corpus_returns_the_utterances_of_its_voices():
    corpus = GeneratedCorpus(3, 2, 1.0, 8000, seed=4)
    assert str(GeneratedCorpus(3, 20, 30.0, 8000, seed=4)) == "3 generated speakers (30 min)"
    assert len(corpus.speakers) == 3 and list(corpus.lengths(0)) == [8000, 8000]
    expected = Voice.draw(np.random.default_rng([4, 2])).speak(1.0, 8000, np.random.default_rng([4, 2, 2]))
    np.testing.assert_allclose(corpus.read(2, 1, 1000, 500), expected[1000:1500], atol=1e-4)
    assert len(corpus.read(0, 0, 7900, 500)) == 100


def test_training_and_validation_voices_differ():
    data = GeneratedData(num_speakers=4, recordings_per_speaker=1, recording_seconds=1.0, valid_mixtures=3)
    train, valid = (
        data.training(8000, ("a", "b"), 0).corpora[0],
        data.validation(8000, ("a", "b"), 0).mixtures.corpora[0],
    )
    assert not np.array_equal(train.read(0, 0, 0, 8000), valid.read(0, 0, 0, 8000))
    assert train.seed != valid.seed


def test_an_empty_corpus_is_rejected():
    with pytest.raises(ConfigError, match="at least 1 speaker"):
        GeneratedCorpus(0, 1, 1.0, 8000, seed=0)


def test_voices_at_a_low_rate_have_no_whistle_near_half_of_the_rate():
    corpus = GeneratedCorpus(8, 1, 2.0, 8000, seed=3)
    for speaker in range(8):
        power = np.square(np.abs(np.fft.rfft(corpus.read(speaker, 0, 0, 16000))))
        assert power[7400:].sum() < 0.15 * power.sum()
