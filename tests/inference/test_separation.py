import shutil

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from conftest import TINY

import separator
from separator.errors import AudioError, ConfigError
from separator.inference.network_runner import fit_levels
from separator.io import audio, readers, stem_files
from separator.io.stem_files import StemFiles

SMALL = dict(num_filters=16, filter_length=16, bottleneck_channels=8, hidden_channels=12, num_blocks=2, num_repeats=1)


def test_names_and_rate_come_from_the_model(tiny):
    assert tiny.sources == ("speaker1", "speaker2") and tiny.sample_rate == 8000


@pytest.mark.parametrize("shape", [(4000,), (1, 4000), (2, 4000), (6, 1500)])
@pytest.mark.parametrize("rate", [8000, 11025, 44100])
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32, torch.float64])
def test_stems_have_the_type_shape_and_rate_of_the_input(tiny, shape, rate, kind):
    waveform = 0.1 * np.random.default_rng(0).standard_normal(shape)
    waveform = torch.tensor(waveform, dtype=kind) if isinstance(kind, torch.dtype) else waveform.astype(kind)
    before = waveform.clone() if isinstance(waveform, torch.Tensor) else waveform.copy()
    stems = tiny.separate(waveform, rate)
    assert list(stems) == ["speaker1", "speaker2"]
    for stem in stems.values():
        assert type(stem) is type(waveform) and stem.dtype == waveform.dtype and stem.shape == waveform.shape
    assert (before == waveform).all()


def test_stems_of_a_mixture_consistent_model_sum_to_the_mixture(tiny, two_voices):
    mixture = two_voices.sum(0)[::2].copy()
    stems = tiny.separate(mixture, 8000)
    np.testing.assert_allclose(sum(stems.values()), mixture, atol=1e-5)


def test_silence_gives_silent_stems(tiny):
    for stem in tiny.separate(np.zeros((2, 5000), np.float32), 16000).values():
        assert np.abs(stem).max() == 0


@pytest.mark.parametrize("num_samples", [1, 2, 31, 33])
def test_very_short_recordings_work(tiny, num_samples):
    for rate in (8000, 44100):
        stems = tiny.separate(np.full(num_samples, 0.1, np.float32), rate)
        assert all(stem.shape == (num_samples,) and np.isfinite(stem).all() for stem in stems.values())


def test_the_stems_follow_the_level_of_the_input(tiny, two_voices):
    mixture = two_voices.sum(0)[::2].copy()
    loud, soft = tiny.separate(mixture, 8000), tiny.separate(0.1 * mixture, 8000)
    for name in loud:
        ratio = np.square(soft[name]).sum() / np.square(0.1 * loud[name]).sum()
        assert 10 * abs(np.log10(ratio)) < 1


def test_channels_keep_their_balance(tiny, two_voices):
    """All channels share one mask, so a level difference between channels is the same in every stem."""
    mono = two_voices.sum(0)[::2]
    stems = tiny.separate(np.stack([mono, 0.25 * mono]), 8000)
    for stem in stems.values():
        np.testing.assert_allclose(stem[1], 0.25 * stem[0], atol=1e-5)


def test_channels_of_opposite_polarity_do_not_cancel(tiny, two_voices):
    mono = two_voices.sum(0)[::2]
    plain, inverted = tiny.separate(mono, 8000), tiny.separate(np.stack([mono, -mono]), 8000)
    for name, stem in inverted.items():
        np.testing.assert_allclose(stem[0], plain[name], atol=1e-4)
        np.testing.assert_allclose(stem[1], -plain[name], atol=1e-4)


def test_levels_are_fitted_to_the_mixture():
    torch.manual_seed(0)
    truth = torch.randn(2, 1, 4000)
    gains = torch.tensor([0.01, 40.0])[:, None, None]
    torch.testing.assert_close(fit_levels(truth * gains, truth.sum(0)), truth, atol=1e-4, rtol=0)
    # Stems stay as they are if nothing is missing, or if they are silent.
    silent = torch.stack([truth[0], torch.zeros(1, 4000)])
    torch.testing.assert_close(fit_levels(silent, truth[0]), silent)
    twice = torch.stack([truth[0], truth[0]]) / 2
    torch.testing.assert_close(fit_levels(twice, truth[0]), twice)


def test_long_recordings_are_separated_in_chunks_and_joined(tiny_checkpoint, two_voices):
    seen = []
    chunked = separator.Separator(
        tiny_checkpoint, segment_seconds=0.7, overlap=0.3, callback=lambda *args: seen.append(args)
    )
    mixture = two_voices.sum(0)[::2].copy()
    stems = chunked.separate(mixture, 8000)
    np.testing.assert_allclose(sum(stems.values()), mixture, atol=1e-5)
    assert len(seen) > 4 and seen[-1] == (1.0, 3.0, 3.0)


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "stereo.safetensors"
    separator.save(separator.ConvTasNet(sample_rate=8000, num_channels=2, sources=("vocals", "rest"), **TINY), path)
    return separator.Separator(path)


def test_a_stereo_model_takes_stereo_and_mono(stereo, two_voices):
    """A mono recording is the same signal in both channels."""
    both = stereo.separate(np.stack([two_voices[0], two_voices[0]]), 16000)
    mono = stereo.separate(two_voices[0], 16000)
    assert list(mono) == ["vocals", "rest"] and mono["vocals"].shape == two_voices[0].shape
    np.testing.assert_allclose(mono["vocals"], both["vocals"].mean(0), atol=1e-6)
    sides = stereo.separate(two_voices, 16000)["vocals"]
    assert sides.shape == two_voices.shape and not np.allclose(sides[0], both["vocals"][0], atol=1e-4)


def test_a_stereo_model_rejects_other_numbers_of_channels(stereo):
    with pytest.raises(AudioError, match=r"the recording has 6 channels, the model .* takes 2 or 1; downmix it first"):
        stereo.separate(np.zeros((6, 800), np.float32), 8000)


def test_a_callback_can_stop_the_separation(tiny_checkpoint):
    class StopIt(Exception):
        pass

    def stop(*_):
        raise StopIt

    with pytest.raises(StopIt):
        separator.Separator(tiny_checkpoint, callback=stop).separate(np.zeros(1000, np.float32), 8000)


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (np.zeros(10, np.int16), 8000, "floating-point samples .* got int16"),
        (torch.zeros(10, dtype=torch.int32), 8000, "floating-point samples"),
        (np.zeros(0, np.float32), 8000, "at least one sample"),
        (np.zeros((1, 2, 3), np.float32), 8000, r"\[channel, time\]"),
        (np.zeros((8000, 2), np.float32), 8000, "8000 channels; transpose"),
        (np.array([0, np.nan], np.float32), 8000, "contains samples that are NaN, infinite or beyond 1e"),
        (torch.tensor([0, torch.inf]), 8000, "contains samples that are NaN, infinite or beyond 1e"),
        (np.array([0, -1e11]), 8000, "contains samples that are NaN, infinite or beyond 1e"),
        ([0.0, 0.1], 8000, "a Tensor or an ndarray, got list"),
        (np.zeros(10, np.float32), 0, "sample rate"),
        (np.zeros(10, np.float32), 44.1, "sample rate"),
    ],
)
def test_invalid_waveforms_are_rejected(tiny, waveform, rate, message):
    with pytest.raises(AudioError, match=message):
        tiny.separate(waveform, rate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(model="defalt"), "unknown model 'defalt'"),
        (dict(device="gpu"), "device 'gpu' cannot be used"),
        (dict(precision="int8"), "unknown precision"),
        (dict(segment_seconds=0), "segment_seconds must be a number from 0.01"),
        (dict(segment_seconds=float("inf")), "segment_seconds must be a number .*, got inf"),
        (dict(shifts=0), "shifts must be a whole number of at least 1, got 0"),
        (dict(shifts=1.5), "shifts must be a whole number"),
        (dict(overlap=1.0), "overlap must be a number from 0 to 0.95"),
    ],
)
def test_invalid_settings_are_rejected(tiny_checkpoint, arguments, message):
    with pytest.raises(ConfigError, match=message):
        separator.Separator(**({"model": tiny_checkpoint} | arguments))


@pytest.mark.parametrize("interchangeable", [True, False])
def test_shifts_average_passes_with_shifted_input(interchangeable, tmp_path, two_voices, monkeypatch):
    names = None if interchangeable else ["speech", "noise"]
    net = separator.ConvTasNet(sample_rate=8000, sources=names, **SMALL)
    separator.save(net, tmp_path / "net.safetensors")
    model = separator.Separator(tmp_path / "net.safetensors", precision="float32", shifts=4)
    voices = torch.tensor(two_voices[:, None, ::2])
    calls = []

    def estimate(mixture, weights, state=None):
        """Return the voices, each time with another error. The order is reversed in every second call."""
        shift = mixture.shape[-1] - voices.shape[-1]
        number = len(calls)
        calls.append((shift, mixture))
        stems = [torch.nn.functional.pad(voice, (shift, 0)) for voice in voices]
        errors = torch.randn(2, *mixture.shape[1:], generator=torch.Generator().manual_seed(number))
        stems = (-1) ** number * torch.stack([stem + 0.05 * error for stem, error in zip(stems, errors, strict=True)])
        return (stems.flip(0) if interchangeable and number % 2 else stems).transpose(0, 1)[None]

    monkeypatch.setattr(model._estimator, "estimate", estimate)
    stems = model.separate(two_voices.sum(0)[::2].copy(), 8000)
    assert [shift for shift, _ in calls] == [0, 2, 4, 6]  # of a stride of 8 samples
    first = calls[0][1]
    for number, (shift, mixture) in enumerate(calls):
        torch.testing.assert_close((-1) ** number * mixture[..., shift:], first)
        assert not mixture[..., :shift].any()
    gain = float(first.abs().max() / np.abs(two_voices.sum(0)[::2]).max())
    errors = [gain * stem - voice[0].numpy() for stem, voice in zip(stems.values(), voices, strict=True)]
    # The mean of four independent errors of 0.05 is an error of half that size.
    assert 0.02 < np.sqrt(np.mean(np.square(errors))) < 0.03


def test_a_model_that_streams_takes_only_one_shift(tmp_path):
    separator.save(separator.ConvTasNet(causal=True, norm="channel", **SMALL), tmp_path / "net.safetensors")
    with pytest.raises(ConfigError, match="shifts=2: a model that can stream processes a recording once"):
        separator.Separator(tmp_path / "net.safetensors", shifts=2)
    model = separator.Separator(tmp_path / "net.safetensors")
    with pytest.raises(ConfigError, match="shifts=3"):
        model.shifts = 3
    assert model.shifts == 1


def write(path, samples, rate=8000, subtype=None):
    soundfile.write(path, samples, rate, subtype)
    return path


@pytest.mark.parametrize(
    ("suffix", "subtype", "expected"),
    [
        ("wav", "PCM_16", "PCM_16"),
        ("wav", "PCM_24", "PCM_24"),
        ("wav", "FLOAT", "FLOAT"),
        ("wav", "PCM_U8", "PCM_U8"),
        ("flac", "PCM_24", "PCM_24"),
        ("ogg", "VORBIS", "PCM_16"),
        ("mp3", "MPEG_LAYER_III", "PCM_16"),
        ("aiff", "PCM_16", "PCM_16"),
    ],
)
def test_files_keep_rate_channels_length_and_depth(tiny, tmp_path, suffix, subtype, expected):
    samples = 0.1 * np.random.default_rng(0).standard_normal((22050, 2))
    path = write(tmp_path / f"mix.{suffix}", samples, 44100, subtype)
    result = tiny.separate_file(path, tmp_path / "stems")
    assert result.paths == {name: tmp_path / "stems" / "mix" / f"{name}.wav" for name in tiny.sources}
    for stem in result.paths.values():
        before, after = soundfile.info(path), soundfile.info(stem)
        assert (after.samplerate, after.channels, after.frames) == (44100, 2, before.frames)
        assert after.subtype == expected == result.subtype
    assert result.gain_db == 0 and result.channels == 2 and result.real_time_factor > 0


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW", "PCM_32", "DOUBLE"])
def test_stems_are_written_in_any_sample_format_of_wav(tiny, tmp_path, subtype):
    path = write(tmp_path / "mix.wav", 0.1 * np.random.default_rng(0).standard_normal(8000))
    result = tiny.separate_file(path, tmp_path / "stems", subtype=subtype)
    wanted = tiny.separate(soundfile.read(path, dtype="float32")[0], 8000)
    for name, stem in result.paths.items():
        assert soundfile.info(stem).subtype == subtype == result.subtype
        np.testing.assert_allclose(soundfile.read(stem)[0], wanted[name], atol=2 / 256)


def test_one_gain_keeps_all_stems_from_clipping(tmp_path, two_voices):
    torch.manual_seed(0)
    net = separator.ConvTasNet(sample_rate=8000, num_filters=16, num_blocks=1, num_repeats=1, mixture_consistency=True)
    separator.save(net, tmp_path / "net.safetensors")
    model = separator.Separator(tmp_path / "net.safetensors")
    # Stems that add up to the mixture, but are far from its level.
    model._estimator.estimate = lambda mixture, weights, state=None: torch.stack([3 * mixture, -2 * mixture], dim=2)
    mixture = two_voices.sum(0)[::2] / np.abs(two_voices.sum(0)).max()
    path = write(tmp_path / "mix.wav", 0.9 * mixture, subtype="FLOAT")
    whole = model.separate_file(path, tmp_path / "float")
    levels = {name: soundfile.read(stem)[0] for name, stem in whole.paths.items()}
    assert whole.gain_db == 0
    limited = model.separate_file(path, tmp_path / "int", subtype="PCM_24")
    loudest = max(np.abs(level).max() for level in levels.values())
    assert loudest > 1 and limited.gain_db == pytest.approx(20 * np.log10(0.999 / loudest), abs=1e-3)
    for name, stem in limited.paths.items():
        np.testing.assert_allclose(soundfile.read(stem)[0], levels[name] * 10 ** (limited.gain_db / 20), atol=1e-5)


@pytest.mark.parametrize("consistent", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rate", [8000, 11025])
def test_the_residual_is_the_recording_minus_the_sum_of_the_files(tmp_path, consistent, causal, rate):
    torch.manual_seed(0)
    net = separator.ConvTasNet(
        sample_rate=8000, causal=causal, norm="channel", mixture_consistency=consistent, skip_channels=4, **SMALL
    )
    separator.save(net, tmp_path / "net.safetensors")
    samples = 0.1 * np.random.default_rng(0).standard_normal(5 * rate)
    soundfile.write(tmp_path / "mix.wav", samples, rate, subtype="FLOAT")
    chunking = {} if causal else {"segment_seconds": 2}
    model = separator.Separator(tmp_path / "net.safetensors", precision="float32", **chunking)
    result = model.separate_file(tmp_path / "mix.wav", out=tmp_path / "stems")
    missing = samples - sum(soundfile.read(path)[0] for path in result.paths.values())
    measured = 10 * np.log10(np.square(missing).sum() / np.square(samples).sum())
    if consistent and rate == 8000:
        assert result.residual_db < -110 and measured < -110
    else:
        assert result.residual_db == pytest.approx(measured, abs=0.3)
    assert result.report()["residual_db"] == round(result.residual_db, 1)


def test_existing_files_are_not_replaced_by_default(tiny, tmp_path):
    path = write(tmp_path / "mix.wav", 0.1 * np.ones(800))
    (tmp_path / "stems" / "mix").mkdir(parents=True)
    precious = tmp_path / "stems" / "mix" / "speaker2.wav"
    precious.write_text("precious")
    with pytest.raises(AudioError, match=r"speaker2\.wav: already exists; use -f"):
        tiny.separate_file(path, tmp_path / "stems")
    assert precious.read_text() == "precious" and len(list(precious.parent.iterdir())) == 1
    tiny.separate_file(path, tmp_path / "stems", overwrite=True)
    assert soundfile.info(precious).frames == 800


def test_filename_template(tiny, tmp_path):
    path = write(tmp_path / "mix.wav", 0.1 * np.ones(800))
    result = tiny.separate_file(path, tmp_path / "out", filename="{stem}-of-{track}.{ext}", extension="flac")
    assert result.paths["speaker1"] == tmp_path / "out" / "speaker1-of-mix.flac"
    assert soundfile.info(result.paths["speaker1"]).format == "FLAC"
    with pytest.raises(ConfigError, match=r"add \{stem\} to it"):
        tiny.separate_file(path, tmp_path / "out", filename="{track}.{ext}")
    with pytest.raises(ConfigError, match=r"only \{track\}, \{stem\} and \{ext\}"):
        tiny.separate_file(path, tmp_path / "out", filename="{album}/{stem}.{ext}")


def test_a_failed_write_leaves_nothing(tiny, tmp_path, monkeypatch):
    path = write(tmp_path / "mix.wav", 0.1 * np.ones(800))
    real, calls = stem_files.encode, []

    def full(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(stem_files, "encode", full)
    with pytest.raises(AudioError, match="No space left on device"):
        tiny.separate_file(path, tmp_path / "stems")
    assert not (tmp_path / "stems").exists()


def test_a_file_gives_the_same_stems_as_its_samples(tiny_checkpoint, tmp_path, two_voices):
    """Blocks, chunks, temporary data on disk and another sample rate make no difference."""
    model = separator.Separator(tiny_checkpoint, segment_seconds=0.7, overlap=0.3)
    path = write(tmp_path / "mix.wav", np.tile(two_voices, 4).T, 44100, "FLOAT")
    result = model.separate_file(path, tmp_path / "stems")
    stems = model.separate(np.tile(two_voices, 4), 44100)
    for name, stem in result.paths.items():
        assert np.array_equal(soundfile.read(stem, dtype="float32")[0].T, stems[name])
    assert result.num_chunks > 4 and len(result.joins) == result.num_chunks - 1
    assert all(0 < at < result.seconds and 0.5 <= confidence <= 1 for at, confidence in result.joins)
    assert result.peak_megabytes > 50


def test_a_stem_without_a_voice_is_not_active(tiny_checkpoint, tmp_path, two_voices):
    model = separator.Separator(tiny_checkpoint)
    model._estimator.estimate = lambda mixture, weights, state=None: torch.stack([mixture, 0.05 * mixture], dim=2)
    path = write(tmp_path / "mix.wav", two_voices[0], 16000)
    assert model.separate_file(path, tmp_path / "stems").active == ("speaker1",)
    silent = write(tmp_path / "silent.wav", np.zeros(8000))
    assert model.separate_file(silent, tmp_path / "stems").active == ()


def test_a_speaker_who_says_little_in_a_long_recording_is_active(tiny_checkpoint, tmp_path):
    """One stem has a voice for a minute, the other has one for a second."""
    model = separator.Separator(tiny_checkpoint, precision="float32")
    rate, rng = model.sample_rate, np.random.default_rng(0)
    voice = 0.1 * rng.standard_normal(60 * rate).astype(np.float32)
    brief = np.zeros_like(voice)
    brief[30 * rate : 31 * rate] = 0.05 * rng.standard_normal(rate)

    class Stems(StemFiles):
        def write(self, blocks, num_samples):
            both = np.stack([voice, brief])[:, None]
            parts = [both[..., start : start + 7000] for start in range(0, num_samples, 7000)]
            super().write(lambda: parts, num_samples)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("separator.inference.separation.StemFiles", Stems)
        path = write(tmp_path / "mix.wav", voice, rate)
        assert model.separate_file(path, tmp_path / "stems").active == ("speaker1", "speaker2")
    assert 10 * np.log10(np.square(brief).sum() / np.square(voice).sum()) < -20


def test_cancelling_leaves_no_files(tiny_checkpoint, tmp_path, two_voices):
    class Cancelled(Exception):
        pass

    def cancel(fraction, *_):
        if fraction > 0.5:
            raise Cancelled

    model = separator.Separator(tiny_checkpoint, segment_seconds=0.5, callback=cancel)
    path = write(tmp_path / "mix.wav", two_voices.sum(0), 16000)
    with pytest.raises(Cancelled):
        model.separate_file(path, tmp_path / "deep" / "stems")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mix.wav"]


@pytest.mark.parametrize("filename", ["../{stem}.{ext}", "/tmp/{stem}.{ext}", "{track}/../../{stem}.wav", "a/..", ""])
def test_a_template_cannot_leave_the_output_folder(tiny, tmp_path, filename):
    path = write(tmp_path / "mix.wav", 0.1 * np.ones(800))
    with pytest.raises(ConfigError, match="not inside the folder of --out"):
        tiny.separate_file(path, tmp_path / "stems", filename=filename)
    assert not (tmp_path / "stems").exists()


def test_a_folder_that_vanishes_is_reported(tiny_checkpoint, tmp_path, two_voices):
    path = write(tmp_path / "mix.wav", two_voices.sum(0), 16000)
    model = separator.Separator(tiny_checkpoint, callback=lambda *_: shutil.rmtree(tmp_path / "stems"))
    with pytest.raises(AudioError, match=r"stems/mix: cannot be written to .*choose another folder"):
        model.separate_file(path, tmp_path / "stems")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mix.wav"]


def test_if_two_runs_write_the_same_files_the_later_one_fails(tiny_checkpoint, tmp_path, two_voices):
    path = write(tmp_path / "mix.wav", two_voices.sum(0), 16000)
    written = {}

    def meanwhile(*_):
        result = separator.Separator(tiny_checkpoint).separate_file(path, tmp_path / "stems")
        written.update({stem: stem.read_bytes() for stem in result.paths.values()})

    with pytest.raises(AudioError, match=r"speaker1\.wav: already exists; use -f"):
        separator.Separator(tiny_checkpoint, callback=meanwhile).separate_file(path, tmp_path / "stems")
    folder = tmp_path / "stems" / "mix"
    assert {stem: stem.read_bytes() for stem in folder.iterdir()} == written and len(written) == 2


def test_the_readable_part_of_a_damaged_file_is_separated(tiny, tmp_path, two_voices):
    path = write(tmp_path / "mix.flac", two_voices.sum(0), 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = tiny.separate_file(path, tmp_path / "stems")
    assert "could be read" in result.damage and 0 < result.seconds < 3
    for stem in result.paths.values():
        assert soundfile.info(stem).frames == round(16000 * result.seconds)


@pytest.mark.parametrize(
    ("extension", "subtype", "expected"),
    [("flac", None, "PCM_16"), ("flac", "FLOAT", "PCM_24"), ("flac", "PCM_U8", "PCM_S8"), ("ogg", None, "VORBIS")],
)
def test_formats_of_stems(tiny, tmp_path, two_voices, extension, subtype, expected):
    path = write(tmp_path / "mix.wav", two_voices.sum(0), 16000)
    result = tiny.separate_file(path, tmp_path / "stems", extension=extension, subtype=subtype)
    assert result.subtype == expected
    for name, stem in result.paths.items():
        info = soundfile.info(stem)
        assert stem.name == f"{name}.{extension}" and info.format == extension.upper() and info.subtype == expected
        assert info.frames == 48000


def test_an_unknown_format_is_rejected(tiny, tmp_path):
    path = write(tmp_path / "mix.wav", 0.1 * np.ones(800))
    with pytest.raises(ConfigError, match="stems are written as wav, flac, ogg, mp3"):
        tiny.separate_file(path, tmp_path / "stems", extension="wma")
    assert not (tmp_path / "stems").exists()


def decoded(path):
    with readers.open_recording(path) as recording:
        samples = np.concatenate(list(recording.blocks()), axis=-1)
    assert not recording.damage
    return samples, recording.sample_rate


@pytest.mark.parametrize("rate", audio.MP3_RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_has_the_length_of_the_recording_and_no_delay(tiny, tmp_path, rate, channels):
    """The header holds the delay of the encoder, and readers remove it."""
    rng = np.random.default_rng(0)
    lowest, highest = next(limits for most, limits in stem_files.BITRATES.items() if rate <= most)
    for samples in (1, 1151, 2 * rate + 17):
        sound = np.cumsum(rng.standard_normal((samples, channels)), axis=0)
        soundfile.write(tmp_path / "mix.wav", 0.3 * (sound - sound.mean()) / (np.abs(sound).max() + 1e-3), rate)
        exact = tiny.separate_file(tmp_path / "mix.wav", tmp_path / "wav", overwrite=True)
        for bitrate in (None, lowest, highest):
            result = tiny.separate_file(
                tmp_path / "mix.wav", tmp_path / "mp3", extension="mp3", overwrite=True, bitrate=bitrate
            )
            assert result.subtype == "MPEG_LAYER_III" and result.paths["speaker1"].name == "speaker1.mp3"
            for name, path in result.paths.items():
                (found, found_rate), (wanted, _) = decoded(path), decoded(exact.paths[name])
                assert found.shape == wanted.shape and found_rate == rate
                if samples > rate and bitrate in (None, highest):
                    correlation = scipy.signal.correlate(found[0], wanted[0], method="fft")
                    assert correlation.argmax() == samples - 1  # no lag


def test_a_higher_bit_rate_makes_larger_files(tiny, tmp_path):
    write(tmp_path / "mix.wav", 0.1 * np.random.default_rng(0).standard_normal(80_000))
    sizes = []
    for bitrate in (16, 32, 64):
        result = tiny.separate_file(tmp_path / "mix.wav", tmp_path / str(bitrate), extension="mp3", bitrate=bitrate)
        sizes.append(8 * result.paths["speaker1"].stat().st_size / 10 / 1000)
    np.testing.assert_allclose(sizes, [16, 32, 64], rtol=0.25)


def test_only_mp3_has_a_bit_rate(tiny, tmp_path):
    write(tmp_path / "mix.wav", 0.1 * np.ones(800))
    with pytest.raises(ConfigError, match="bitrate=64: WAV has no bit rate setting; leave it out, or write MP3"):
        tiny.separate_file(tmp_path / "mix.wav", tmp_path / "stems", bitrate=64)
    with pytest.raises(ConfigError, match="bitrate=7: MP3 at 8000 Hz supports 8 to 64 kbit/s"):
        tiny.separate_file(tmp_path / "mix.wav", tmp_path / "stems", extension="mp3", bitrate=7)
    assert not (tmp_path / "stems").exists()


def test_missing_mp3_support_in_libsndfile_is_reported(tiny, tmp_path, monkeypatch):
    write(tmp_path / "mix.wav", 0.1 * np.ones(800))
    monkeypatch.setattr(soundfile, "check_format", lambda container, subtype: container != "MP3")
    with pytest.raises(ConfigError, match=r"speaker1.mp3: libsndfile [\d.]+ cannot write MP3; install a newer version"):
        tiny.separate_file(tmp_path / "mix.wav", tmp_path / "stems", extension="mp3")


def test_existing_stems_may_be_kept(tiny, tmp_path):
    path = write(tmp_path / "mix.wav", 0.1 * np.random.default_rng(0).standard_normal(800))
    (tmp_path / "stems/mix").mkdir(parents=True)
    (tmp_path / "stems/mix/speaker2.wav").write_text("mine")
    result = tiny.separate_file(path, tmp_path / "stems", keep_existing=True)
    assert result.kept == ("speaker2",) and result.report()["kept"] == ["speaker2"]
    assert result.paths["speaker2"].read_text() == "mine" and soundfile.info(result.paths["speaker1"]).frames == 800
    with pytest.raises(ConfigError, match="overwrite=True contradicts keep_existing=True"):
        tiny.separate_file(path, tmp_path / "stems", overwrite=True, keep_existing=True)


def test_stems_that_are_not_chosen_are_not_written(tiny_checkpoint, tiny, causal_checkpoint, tmp_path):
    mixture = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    one = separator.Separator(tiny_checkpoint, stems=["speaker2"])
    assert one.sources == ("speaker2",) and one.num_interchangeable == 1
    stems = one.separate(mixture, 8000)
    np.testing.assert_array_equal(stems["speaker2"], tiny.separate(mixture, 8000)["speaker2"])
    assert list(stems) == ["speaker2"]
    path = write(tmp_path / "mix.wav", mixture)
    result = one.separate_file(path, tmp_path / "stems")
    assert list(result.paths) == ["speaker2"] and result.active == ("speaker2",)
    causal = separator.Separator(causal_checkpoint, stems=["speaker1"])
    with causal.stream() as stream, separator.Separator(causal_checkpoint).stream() as both:
        block = mixture[:4000]
        assert stream.sources == ("speaker1",)
        got, wanted = (np.concatenate([s.push(block), s.flush()], axis=-1) for s in (stream, both))
    np.testing.assert_array_equal(got, wanted[:1])
    one.stems = None
    assert one.sources == ("speaker1", "speaker2")
    for names in (["drums"], [], "x"):
        with pytest.raises(ConfigError, match="expected some of speaker1, speaker2"):
            one.stems = names
