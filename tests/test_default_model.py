"""The bundled models separate any recording of any length, also live, and in the demo."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

import separator
from separator import cli, demo
from separator.data import GeneratedData, Mixture, MixtureSet, Voice
from separator.data.lists import mixture_list
from separator.data.mixture import unit_rms
from separator.data.ready_made import WithSilentSources
from separator.evaluate import evaluation
from separator.inference.file_result import is_speaker


@pytest.fixture(scope="module")
def default():
    return separator.Separator()


@pytest.fixture(scope="module")
def causal():
    return separator.Separator("default-causal")


def improvement(stems, item):
    """SI-SNRi in dB over both voices, with one permutation for the whole recording."""
    speakers = [stem for name, stem in stems.items() if is_speaker(Path(name).stem)]
    estimate = torch.stack([torch.as_tensor(stem) for stem in speakers])[None]
    return float(separator.si_snr_improvement(estimate, item.sources[None], item.mixture[None]))


BOTH = pytest.mark.parametrize(("model", "wanted"), [("default", 5), ("causal", 4)])


@BOTH
def test_it_separates_generated_voices(model, wanted, request):
    chosen = request.getfixturevalue(model)
    speakers = chosen.sources[: chosen.num_interchangeable]
    mixtures = GeneratedData(valid_mixtures=8).validation(chosen.sample_rate, speakers, seed=123)
    mixtures = WithSilentSources(mixtures, len(chosen.sources) - len(speakers))
    scores = [row["si_snri"] for row in evaluation.evaluate(chosen, mixtures)]
    assert np.mean(scores) > wanted, scores


def scores_on_real_voices(chosen, limit):
    path = Path(__file__).resolve().parents[2] / "shared" / "voices" / "valid_mixtures.csv"
    if not path.exists():
        pytest.skip("the recordings of real voices are not available")
    mixtures = MixtureSet(mixture_list(path, chosen.sources), chosen.sample_rate)
    return [row["si_snri"] for row in evaluation.evaluate(chosen, mixtures, limit)]


@BOTH
def test_it_separates_real_voices(model, wanted, request):
    assert np.mean(scores_on_real_voices(request.getfixturevalue(model), 12)) > wanted


def test_more_shifts_are_better(default):
    once, often = (np.array(scores_on_real_voices(one, 20)) for one in (default, separator.Separator(shifts=4)))
    assert often.mean() > once.mean() + 0.1 and (often > once).mean() > 0.6


@pytest.mark.parametrize("model", ["default", "causal"])
def test_the_level_of_the_recording_does_not_matter(model, request):
    separate, item = request.getfixturevalue(model).separate, demo.make_example()
    scores = [improvement(separate(gain * item.mixture, 16000), item) for gain in (1.0, 0.01, 0.001)]
    assert max(scores) - min(scores) < 0.5, scores


@pytest.mark.parametrize("model", ["default"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_single_voice_gives_one_stem(model, seed, request, tmp_path):
    voice = 0.1 * Voice.draw(np.random.default_rng([77, seed])).speak(6.0, 16000, np.random.default_rng(seed))
    soundfile.write(tmp_path / "one.wav", voice, 16000)
    result = request.getfixturevalue(model).separate_file(tmp_path / "one.wav", out=tmp_path / "stems")
    (name,) = result.active
    stem, _ = soundfile.read(result.paths[name], dtype="float32")
    assert float(separator.si_snr(torch.from_numpy(stem), torch.from_numpy(voice).float())) > 20


def test_the_causal_model_gives_the_same_stems_live(causal):
    item = demo.make_example()
    samples = item.mixture.numpy()
    with causal.stream() as stream:
        assert stream.latency < 0.005
        blocks = [stream.push(samples[start : start + 160]) for start in range(0, len(samples), 160)]
        blocks.append(stream.flush())
    whole = np.stack(list(causal.separate(samples, 16000).values()))
    np.testing.assert_allclose(np.concatenate(blocks, axis=-1), whole, atol=1e-5)
    np.testing.assert_allclose(whole.sum(0), samples, atol=1e-4)  # as loud as in the mixture


def test_the_causal_model_recovers_after_a_loud_part(causal):
    item = demo.make_example()
    alone = causal.separate(0.05 * item.mixture, 16000)
    behind = causal.separate(torch.cat([torch.flip(item.mixture, [0]), 0.05 * item.mixture]), 16000)
    behind = {name: stem[len(item.mixture) :] for name, stem in behind.items()}
    assert improvement(behind, item) > improvement(alone, item) - 1.0


def long_mixture(minutes, sample_rate):
    """Two long voices, made of consecutive utterances of half a minute."""
    sources = []
    for seed in (1, 2):
        voice = Voice.draw(np.random.default_rng([31, 31, 31, seed]))
        takes = [voice.speak(30.0, sample_rate, np.random.default_rng([31, 31, seed, take])) for take in range(2)]
        sources.append(unit_rms(np.resize(np.concatenate(takes), int(60 * minutes * sample_rate))))
    return Mixture.of(np.stack(sources), sample_rate, "long", 0.8)


def test_minutes_in_chunks_keep_the_voices_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    item = long_mixture(4, 16000)
    soundfile.write("long.wav", item.mixture.numpy(), 16000)
    assert cli.main(["long.wav", "--out", "stems"]) == 0
    stems = {name: soundfile.read(f"stems/long/{name}.wav", dtype="float32")[0] for name in ("speaker1", "speaker2")}
    assert all(len(stem) == 240 * 16000 for stem in stems.values())
    # One permutation for the whole recording. A swap at a join would cost most of this.
    assert improvement(stems, item) > 5.5


def test_a_stereo_recording_at_44100_hz(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    item = demo.make_example()
    stereo = np.stack([item.mixture.numpy(), 0.5 * item.mixture.numpy()])
    upsampled = soxr.resample(stereo.T, 16000, 44100).T
    soundfile.write("mix.wav", upsampled.T, 44100, "PCM_24")
    assert cli.main(["mix.wav"]) == 0
    stems = {}
    for name in ("speaker1", "speaker2"):
        samples, rate = soundfile.read(f"stems/mix/{name}.wav", dtype="float32")
        assert rate == 44100 and samples.shape == upsampled.T.shape
        assert soundfile.info(f"stems/mix/{name}.wav").subtype == "PCM_24"
        np.testing.assert_allclose(samples[:, 1], 0.5 * samples[:, 0], atol=1e-4)
        stems[name] = soxr.resample(samples, 44100, 16000)[: item.mixture.shape[0], 0]
    assert improvement(stems, item) > 8


def test_the_demo_prints_paths_and_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path / "demo")])
    assert demo.main() == 0
    out = capsys.readouterr().out
    for name in ("mix.wav", "stems/mix/speaker1.wav", "stems/mix/speaker2.wav", "picture.png"):
        assert (tmp_path / "demo" / name).is_file() and str(tmp_path / "demo" / name) in out
    score = float(out.split("SI-SNRi ")[1].split(" dB")[0])
    item = demo.make_example()
    stems = {
        path.name: soundfile.read(path, dtype="float32")[0] for path in (tmp_path / "demo" / "stems" / "mix").iterdir()
    }
    assert score == pytest.approx(improvement(stems, item), abs=0.06) and score > 8


@pytest.mark.parametrize("model", ["default", "default-causal"])
def test_the_header_has_the_training_settings(model):
    from separator import zoo
    from separator.zoo import checkpoint

    facts = checkpoint.read_facts(zoo.find(model))
    assert facts["training"]["settings"]["trainer"]["max_steps"] == facts["training"]["settings"]["schedule"]["steps"]
