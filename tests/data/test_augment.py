import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from separator.data import GeneratedCorpus, GeneratedNoise, Mixing, Mixtures, Rooms, augment
from separator.data.mixture import at_loudness
from separator.data.noises import KINDS, scene
from separator.data.turns import turns
from separator.errors import ConfigError, DataError

RATE = 8000


@pytest.fixture(scope="module")
def voice():
    return GeneratedCorpus(1, 1, 2.0, 16000, seed=1).read(0, 0, 0, 32000)


def lag(samples, other):
    """Delay of `other` in samples."""
    size = 2 * len(samples)
    correlation = np.fft.irfft(np.fft.rfft(other, size) * np.conj(np.fft.rfft(samples, size)))
    place = int(correlation.argmax())
    return place - size if place > len(samples) else place


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("names", augment.CODECS)
def test_codecs_add_noise_but_keep_length_and_time(voice, rate, names):
    if rate not in augment.CODEC_RATES.get(names[1], (rate,)):
        pytest.skip("the codec does not support this rate")
    for level in augment.CODECS[names] or (None,):
        coded = augment.code(voice, rate, *names, level)
        assert coded.shape == voice.shape and coded.dtype == np.float32
        assert abs(lag(voice, coded)) <= 1
        snr = 10 * np.log10(np.square(voice).sum() / np.square(voice - coded).sum())
        assert 3 < snr < 45


def test_only_codecs_that_support_the_rate_are_drawn():
    generator = np.random.default_rng(0)
    drawn = {augment.draw_codec(44100, generator)[1] for _ in range(60)}
    assert drawn == {"VORBIS", "MPEG_LAYER_III", "ULAW", "GSM610"}


def test_a_band_limit_keeps_frequencies_inside_the_band():
    times = np.arange(RATE) / RATE
    for frequency, gain in ((100, 0.0), (1000, 1.0), (3800, 0.0)):
        tone = np.sin(2 * np.pi * frequency * times).astype(np.float32)
        limited = augment.limit_band(tone, RATE, 300, 2800)[RATE // 2 :]
        assert limited.dtype == np.float32
        assert np.sqrt(2 * np.mean(np.square(limited))) == pytest.approx(gain, abs=0.1)


def test_clipping_limits_the_peak(voice):
    clipped = augment.clip(voice, 0.5)
    assert np.abs(clipped).max() == pytest.approx(0.5 * np.abs(voice).max())
    assert (clipped == voice).mean() > 0.8


def test_pitch_shift_keeps_the_length():
    tone = np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE).astype(np.float32)
    shifted = augment.shift_pitch(tone, RATE, 12)
    assert len(shifted) == len(tone) and np.abs(np.fft.rfft(shifted)).argmax() == pytest.approx(2000, abs=20)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_turns_have_the_wanted_overlap(count, overlap):
    generator = np.random.default_rng(0)
    both = []
    for _ in range(50):
        speaking = turns(count, 6 * RATE, RATE, overlap, generator)
        assert speaking.shape == (count, 6 * RATE) and speaking.min() >= 0 and speaking.max() <= 1
        assert (speaking.max(1) == 1).all()  # every voice has a turn
        assert (speaking.sum(0) > 0).mean() > 0.98  # there is almost always a voice
        both.append((speaking > 0).sum(0))
    together = np.mean(np.concatenate(both) > 1)
    if count > 1:
        low, high = {0.0: (0, 0.02), 0.5: (0.2, 0.6), 1.0: (0.5, 1.0)}[overlap]
        assert low <= together <= high


def test_loudness_agrees_with_the_standard(voice):
    import pyloudnorm

    assert pyloudnorm.Meter(16000).integrated_loudness(at_loudness(voice, -28.0, 16000)) == pytest.approx(-28, abs=0.05)
    silence = np.zeros(16000, np.float32)
    assert np.array_equal(at_loudness(silence, -28.0, 16000), silence)


@pytest.fixture(scope="module")
def corpora():
    return [(GeneratedCorpus(5, 2, 2.0, RATE, seed=3), 1.0)]


def drawn(corpora, num_sources=2, noise=None, rooms=None, **mixing):
    mixtures = Mixtures(corpora, num_sources, Mixing(segment_seconds=1.0, **mixing), 0, noise, rooms)
    return [mixtures[index] for index in range(20)]


def test_fewer_voices_than_sources(corpora):
    items = drawn(corpora, 3, active=[0.5, 0.5])
    counts = [int((item.sources.abs().amax(-1) > 0).sum()) for item in items]
    assert set(counts) == {1, 2}
    assert all(float(item.sources[2].abs().max()) == 0 for item in items)
    with pytest.raises(ConfigError, match="shares for up to 3 voices, but the model separates 2"):
        drawn(corpora, 2, active=[0, 0, 1])


class Hiss:
    """Corpus of speakers that never pause."""

    sample_rate, speakers = RATE, ("a", "b", "c")

    def lengths(self, speaker):
        return [4 * RATE]

    def read(self, speaker, recording, start, num_samples):
        return np.random.default_rng(speaker).standard_normal(4 * RATE).astype(np.float32)[start : start + num_samples]


def test_levels_are_measured_while_a_voice_speaks():
    for item in drawn([(Hiss(), 1.0)], overlap=(0.0, 0.0), level_db=0.0):
        turn = [source[slice(*source.nonzero().aminmax())] for source in item.sources]
        assert sum(map(len, turn)) == pytest.approx(RATE, abs=0.05 * RATE)
        first, second = (source.square().mean() for source in turn)
        assert abs(10 * np.log10(float(first / second))) < 0.5


def test_loudness_in_lufs(corpora):
    import pyloudnorm

    meter = pyloudnorm.Meter(RATE)
    for item in drawn(corpora, loudness_lufs=(-33.0, -25.0), peak_db=None):
        for source in item.sources.numpy():
            assert -33.1 < meter.integrated_loudness(source) < -24.9


@pytest.mark.parametrize("kind", KINDS)
def test_noises_are_seeded_and_audible(kind):
    first, again, other = (KINDS[kind](2.0, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (2 * RATE,) and np.isfinite(first).all() and first.std() > 1e-5


def test_scenes_have_the_full_peak():
    samples = scene(2.0, RATE, np.random.default_rng(0))
    assert samples.dtype == np.float32 and np.abs(samples).max() == pytest.approx(0.9)


@pytest.mark.parametrize("is_source", [False, True])
def test_noise_has_the_wanted_snr(corpora, is_source):
    noise = GeneratedNoise(num_recordings=3, recording_seconds=2.0, snr_db=(5.0, 5.0), is_source=is_source)
    for item in drawn(corpora, 2 + is_source, noise.background("train", RATE, 0)):
        voices = item.sources[:2].sum(0)
        rest = item.mixture - voices
        ratio = 10 * np.log10(float(voices.square().sum() / rest.square().sum()))
        assert ratio == pytest.approx(5, abs=0.05)
        if is_source:
            np.testing.assert_allclose(item.sources[2], rest, atol=1e-6)


def test_validation_uses_different_noise():
    noise = GeneratedNoise(num_recordings=4, recording_seconds=1.0)
    train, valid = (noise.corpus(split, RATE, 0).read(0, 0, 0, RATE) for split in ("train", "valid"))
    assert not np.array_equal(train, valid)


def test_rooms_add_reverberation_and_are_cached(tmp_path, corpora):
    pytest.importorskip("pyroomacoustics")
    rooms = Rooms(count=3, cache=str(tmp_path), rt60_seconds=(0.2, 0.3))
    bank = rooms.bank("train", 2, RATE)
    (file,) = tmp_path.glob("*.npy")
    before = file.stat().st_mtime_ns
    assert np.array_equal(rooms.bank("train", 2, RATE).responses, bank.responses) and file.stat().st_mtime_ns == before
    assert bank.responses.shape[:2] == (3, 2)
    clean = drawn(corpora)
    dry = drawn(corpora, rooms=bank)
    wet = drawn(
        corpora,
        rooms=Rooms(count=3, cache=str(tmp_path), rt60_seconds=(0.2, 0.3), target="reverberant").bank("train", 2, RATE),
    )
    for plain, item, echo in zip(clean, dry, wet, strict=True):
        np.testing.assert_allclose(
            item.mixture / item.mixture.abs().max(), echo.mixture / echo.mixture.abs().max(), atol=1e-5
        )
        np.testing.assert_allclose(echo.mixture, echo.sources.sum(0), atol=1e-5)
        assert float((item.mixture - item.sources.sum(0)).square().sum()) > 0.01 * float(item.mixture.square().sum())
        # The dry voice is aligned to the sample, and almost unchanged.
        low = [augment.limit_band(one.sources[0].numpy(), RATE, 0, 1000) for one in (plain, item)]
        assert np.corrcoef(*low)[0, 1] > 0.85


def test_rooms_are_simulated_by_one_process_while_others_wait(tmp_path, monkeypatch):
    first, second = threading.Event(), threading.Event()

    def compute(self, num_voices, sample_rate):
        if first.is_set():
            second.set()
        first.set()
        second.wait(1)  # time for a second simulation to start, which would be an error
        return np.ones((self.count, num_voices, 4), np.float32)

    monkeypatch.setattr(Rooms, "_compute", compute)
    rooms = Rooms(count=3, cache=str(tmp_path / "cache"))
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(rooms.bank, "train", 2, RATE)
        first.wait()
        banks = [rooms.bank("train", 2, RATE), begun.result()]
    assert not second.is_set() and all(bank.responses.shape == (3, 2, 4) for bank in banks)


def test_a_process_does_not_wait_for_the_rooms_of_a_killed_process(tmp_path, monkeypatch):
    monkeypatch.setattr(Rooms, "_compute", lambda self, num_voices, rate: np.ones((1, num_voices, 4), np.float32))
    rooms = Rooms(count=1, cache=str(tmp_path))
    rooms.bank("train", 2, RATE)
    (kept,) = tmp_path.glob("*.npy")
    kept.unlink()
    (tmp_path / f".{kept.stem}.half.npy").write_bytes(b"unfinished file of a killed process")
    program = (
        "import sys; from separator.io import locks; file = open(sys.argv[1], 'ab'); locks.lock(file); print(); input()"
    )
    command = [sys.executable, "-c", program, str(kept.with_suffix(".lock"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(rooms.bank, "train", 2, RATE)
            process.kill()
            assert waiting.result(60).responses.shape == (1, 2, 4)
    assert not list(tmp_path.glob(".*"))


def test_rooms_have_the_wanted_reverberation_time(tmp_path):
    pytest.importorskip("pyroomacoustics")
    from pyroomacoustics.experimental import measure_rt60

    def measured(seconds):
        bank = Rooms(count=6, cache=str(tmp_path), rt60_seconds=(seconds, seconds)).bank("train", 1, RATE)
        return np.median([measure_rt60(np.asarray(room[0]), fs=RATE) for room in bank.responses])

    assert 0.1 < measured(0.2) < 0.4 < measured(0.6) < 1.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(overlap=(0.5, 1.5)),
            r"data\.mixing\.overlap must be two numbers from 0 to 1, the lower one first, got \(0.5, 1.5\)",
        ),
        (dict(overlap=(0.5, 0.2)), r"data\.mixing\.overlap must be two numbers from 0 to 1, the lower one first"),
        (dict(overlap=0.5), r"data\.mixing\.overlap must be two numbers from 0 to 1, the lower one first, got 0.5"),
        (dict(level_db=-5), r"data\.mixing\.level_db must be a number from 0 to 60, got -5"),
        (dict(segment_seconds="abc"), r"data\.mixing\.segment_seconds must be a number of at least 0.01, got 'abc'"),
        (dict(loudness_lufs=-30), r"data\.mixing\.loudness_lufs must be two numbers"),
        (dict(codec_share=1.5), r"data\.mixing\.codec_share must be a number from 0 to 1, got 1.5"),
        (dict(peak_db=(3, 6)), r"data\.mixing\.peak_db must be two numbers from -90 to 0"),
        (dict(active=2), r"data\.mixing\.active must be a list of shares"),
        (dict(speeds=(0.0, 1.0)), r"data\.mixing\.speeds"),
        (dict(active=[0.0, 0.0]), "active must have a sum above 0"),
    ],
)
def test_invalid_mixing_settings_are_rejected(settings, message):
    with pytest.raises(ConfigError, match=message):
        Mixing(**settings)


@pytest.mark.parametrize(
    ("settings", "rate", "message"),
    [
        (
            dict(band_share=0.1, band_low_hz=(100, 4500), band_high_hz=(5000, 6000)),
            8000,
            "band_low_hz=.* start it below 4000",
        ),
        (dict(band_share=0.1, band_low_hz=(100, 4000)), 44100, r"band_low_hz=\[100, 4000\] and .* it below 3400 Hz"),
        (
            dict(line_share=0.1, line_low_hz=(4000, 4500), line_high_hz=(5000, 6000)),
            44100,
            "line_low_hz=.* below 4000 Hz",
        ),
        (
            dict(loudness_lufs=(-30, -20), segment_seconds=0.3),
            8000,
            r"needs voices of more than 0\.4 s, got 0\.3 s",
        ),
    ],
)
def test_settings_that_would_fail_later_are_rejected_before_the_first_mixture(settings, rate, message):
    voices = [(GeneratedCorpus(2, 1, 1.0, rate, seed=1), 1.0)]
    with pytest.raises(ConfigError, match=message):
        Mixtures(voices, 2, Mixing(**settings), 0)


@pytest.mark.parametrize("rate", [8000, 10000, 16000, 96000])
def test_codecs_are_checked_at_the_sample_rate(rate, monkeypatch):
    voices = [(GeneratedCorpus(2, 1, 1.0, rate, seed=1), 1.0)]
    Mixtures(voices, 2, Mixing(codec_share=1.0, line_share=1.0), 0)
    monkeypatch.setitem(augment.CODECS, ("OGG", "NONE"), None)
    with pytest.raises(DataError, match="codec NONE does not work at 8000 Hz with this libsndfile"):
        Mixtures(voices, 2, Mixing(line_share=1.0), 0)


def test_invalid_room_settings_are_rejected():
    with pytest.raises(ConfigError, match=r"data\.rooms\.rt60_seconds must be two numbers from 0.05 to 3"):
        Rooms(rt60_seconds=(0.5, 0.1))
    with pytest.raises(ConfigError, match=r"unknown data\.rooms\.target 'wet'"):
        Rooms(target="wet")


def formant(samples, lowest, highest):
    """Frequency in Hz of the strongest part of the long-term spectrum between two frequencies."""
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    smooth = np.convolve(spectrum, np.ones(400) / 400, "same")
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    inside = (frequencies > lowest) & (frequencies < highest)
    return frequencies[inside][smooth[inside].argmax()]


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_warping_moves_formants_and_keeps_the_pitch(factor):
    time = np.arange(RATE) / RATE
    harmonics = np.arange(1, int(3900 / 120))[:, None] * 120.0
    envelope = np.exp(-(((harmonics - 1500) / 250) ** 2))
    vowel = (envelope * np.sin(2 * np.pi * harmonics * time)).sum(0).astype(np.float32)
    warped = augment.warp_formants(vowel, RATE, factor)
    assert warped.shape == vowel.shape and warped.dtype == np.float32
    assert formant(vowel, 500, 3500) == pytest.approx(1500, rel=0.05)
    assert formant(warped, 500, 3500) == pytest.approx(1500 * factor, rel=0.07)
    peaks = np.abs(np.fft.rfft(warped))[60::120][:20]  # between the harmonics of 120 Hz
    assert peaks.max() < 0.02 * np.abs(np.fft.rfft(warped)).max()


def test_warping_by_factor_1_changes_nothing():
    voice = np.random.default_rng(0).standard_normal(5001).astype(np.float32)
    np.testing.assert_allclose(augment.warp_formants(voice, RATE, 1.0), voice, atol=1e-4)
    assert np.abs(augment.warp_formants(np.zeros(100, np.float32), RATE, 1.2)).max() == 0


def test_formants_are_drawn_in_training_only():
    mixing = Mixing(segment_seconds=0.5, formants=(0.8, 1.25))
    plain = Mixing(segment_seconds=0.5)
    corpus = [(GeneratedCorpus(4, 1, 1.0, RATE, seed=0), 1.0)]
    warped, same = (Mixtures(corpus, 2, chosen, 3)[0].sources for chosen in (mixing, mixing.for_validation(0.5)))
    reference = Mixtures(corpus, 2, plain, 3)[0].sources
    assert torch.equal(same, reference) and not torch.allclose(warped, reference, atol=1e-3)


def test_an_equalizer_applies_its_gains_without_delay():
    time = np.arange(RATE) / RATE
    for frequency, gain in ((125, 6.0), (500, 0.0), (2000, -12.0)):
        tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)
        out = augment.equalize(tone, RATE, np.array([0.0, 6.0, 0.0, 0.0, 0.0, -12.0, 0.0]))
        assert out.shape == tone.shape and out.dtype == np.float32
        middle = slice(RATE // 4, 3 * RATE // 4)
        np.testing.assert_allclose(out[middle], 10 ** (gain / 20) * tone[middle], atol=0.03)


def test_each_voice_has_its_own_equalizer_in_training_only():
    corpus = [(GeneratedCorpus(4, 1, 1.0, RATE, seed=0), 1.0)]
    mixing = Mixing(segment_seconds=0.5, equalizer_db=6.0)
    reference = Mixtures(corpus, 2, Mixing(segment_seconds=0.5), 3)[0].sources
    assert torch.equal(Mixtures(corpus, 2, mixing.for_validation(0.5), 3)[0].sources, reference)
    assert not torch.allclose(Mixtures(corpus, 2, mixing, 3)[0].sources, reference, atol=1e-2)
