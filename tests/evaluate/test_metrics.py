import math

import pytest
import torch

from separator import objectives
from separator.data import Mixture
from separator.errors import ConfigError
from separator.evaluate import metrics


@pytest.fixture(scope="module")
def item(two_voices):
    return Mixture.of(two_voices.copy(), 16000, "one", 0.9)


def noisy(item, level=0.01, seed=0):
    return item.sources + level * torch.randn(item.sources.shape, generator=torch.Generator().manual_seed(seed))


def test_sdr_equals_fast_bss_eval(item):
    peer = pytest.importorskip("fast_bss_eval")
    estimate = noisy(item)
    # Filtered by a short impulse response: BSS-eval does not count this as distortion.
    estimate[1] = torch.nn.functional.conv1d(
        estimate[1][None, None], torch.tensor([[[0.2, 1.0, -0.3]]]), padding=1
    ).flatten()
    expected = peer.sdr(item.sources.double().numpy(), estimate.double().numpy())
    assert metrics.score(estimate, item).values["sdr"] == pytest.approx(list(expected), abs=0.05)


def test_si_snr_and_permutation_equal_torchmetrics(item):
    audio = pytest.importorskip("torchmetrics.functional.audio")
    estimate = noisy(item).flip(0)
    ordered = metrics.in_best_order(estimate, item)
    value, order = audio.permutation_invariant_training(
        estimate[None], item.sources[None], audio.scale_invariant_signal_noise_ratio, eval_func="max"
    )
    assert torch.equal(ordered, estimate[order[0]])
    assert metrics.score(ordered, item).mean("si_snr") == pytest.approx(float(value), abs=1e-3)


def test_sdr_and_permutation_equal_fast_bss_eval(item):
    peer = pytest.importorskip("fast_bss_eval")
    estimate = noisy(item, 0.05).flip(0)
    expected = peer.bss_eval_sources(item.sources.double().numpy(), estimate.double().numpy(), compute_permutation=True)
    ordered = metrics.in_best_order(estimate, item)
    assert metrics.score(ordered, item).values["sdr"] == pytest.approx(list(expected[0]), abs=0.05)
    assert expected[-1].tolist() == [1, 0]


def test_silent_estimates_of_sources_that_are_not_silent_score_worse_than_the_mixture(item):
    """With three equal sources, the floors of SI-SNR would score silence 3 dB better than the mixture."""
    three = torch.cat([item.sources, item.sources[:1].roll(8000, -1)])
    mixture = Mixture(three.sum(0), three, 16000, "three")
    estimate = torch.stack([torch.zeros_like(three[0]), torch.full_like(three[0], 0.1), three[2] + 0.01 * three[0]])
    scores = metrics.score(estimate, mixture)
    assert scores.missing == [0, 1] and scores.values["si_snr"][:2] == scores.values["sdr"][:2] == [-80, -80]
    assert min(scores.values["si_snr"][2], scores.values["sdr"][2]) > 20
    improvement = objectives.si_snr_improvement(torch.zeros_like(three)[None], three[None], mixture.mixture[None])
    assert float(improvement) < -70
    # The silent estimate belongs to the silent source.
    quiet = Mixture(item.mixture, torch.cat([0 * item.sources[:1], item.sources]), 16000, "x")
    estimate = torch.stack([item.sources[1] - 0.9 * item.sources[0], item.sources[0], 0 * item.mixture])
    assert torch.equal(metrics.in_best_order(estimate, quiet), estimate[[2, 1, 0]])
    assert list(metrics.score(noisy(item), item).missing) == []


def test_silent_sources_are_not_scored_but_reported(item):
    silent = Mixture(item.mixture, torch.cat([item.sources, torch.zeros(1, item.sources.shape[1])]), 16000, "x")
    estimate = torch.cat([noisy(item), 0.1 * item.mixture[None]])
    scores = metrics.score(estimate, silent)
    assert scores.sources == [0, 1] and len(scores.values["sdr"]) == 2
    assert scores.silent_db == pytest.approx(-20, abs=0.01)
    assert math.isnan(metrics.score(noisy(item), item).silent_db)
    # A silent source takes the remaining estimate.
    ordered = metrics.in_best_order(estimate[[2, 1, 0]], silent)
    assert torch.equal(ordered, estimate)


def test_stereo_channels_count_by_their_energy(item):
    """A channel that is silent in the estimate and in the reference changes nothing."""
    sources = torch.stack([item.sources, torch.zeros_like(item.sources)], 1)
    stereo = Mixture(sources.sum(0), sources, 16000, "stereo")
    estimate = noisy(item) - noisy(item).mean(-1, keepdim=True)
    both = torch.stack([estimate, torch.zeros_like(estimate)], 1)
    mono = metrics.score(estimate, item)
    assert metrics.score(both, stereo).values["si_snr"] == pytest.approx(mono.values["si_snr"], abs=0.1)


def test_stoi_equals_the_package_and_falls_with_noise(item):
    peer = pytest.importorskip("pystoi")
    scores = [metrics.score(noisy(item, level), item, ["stoi"]).values["stoi"] for level in (0.001, 0.3)]
    expected = peer.stoi(item.sources[0].numpy(), noisy(item, 0.3)[0].numpy(), 16000)
    assert scores[1][0] == pytest.approx(expected) and min(scores[0]) > 0.95 > max(scores[1])


def test_pesq_equals_the_package(item):
    peer = pytest.importorskip("pesq")
    expected = peer.pesq(16000, item.sources[0].numpy(), noisy(item)[0].numpy(), "wb")
    assert metrics.score(noisy(item), item, ["pesq"]).values["pesq"][0] == pytest.approx(expected)
    other = Mixture(item.mixture, item.sources, 44100, "x")
    assert math.isnan(metrics.score(noisy(item), other, ["pesq"]).mean("pesq"))


def test_stoi_without_speech_is_nan():
    pytest.importorskip("pystoi")
    sources = torch.zeros(1, 8000)
    sources[0, 100] = 1.0
    item = Mixture(sources[0], sources, 16000, "a click")
    assert math.isnan(metrics.score(sources, item, ["stoi"]).mean("stoi"))


def test_metrics_without_their_package_are_reported(monkeypatch):
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None if name == "pesq" else name)
    found, missing = metrics.available(["pesq", "stoi"])
    assert found == ["stoi"] and missing == ["PESQ is left out: it needs the package pesq (pip install pesq)"]
    with pytest.raises(ConfigError, match=r"unknown measure 'pesk'.*did you mean 'pesq'"):
        metrics.available(["pesk"])
    with pytest.raises(ConfigError, match=r"measures must be a list, such as \[pesq,stoi\], got 'pesq'"):
        metrics.available("pesq")


def test_scoring_does_not_change_the_samples(item):
    before = item.sources.clone()
    metrics.score(noisy(item), item)
    assert torch.equal(before, item.sources)
