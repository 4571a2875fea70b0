import itertools
import math

import pytest
import torch

import separator
from separator import objectives

torch.manual_seed(0)


@pytest.mark.parametrize("scale", [1e-2, 1, 30])
def test_si_snr_equals_torchmetrics(scale):
    peer = pytest.importorskip("torchmetrics.functional.audio")
    reference = scale * torch.randn(3, 2, 4000)
    estimate = reference + 0.3 * scale * torch.randn(3, 2, 4000) + scale
    expected = peer.scale_invariant_signal_noise_ratio(estimate, reference)
    torch.testing.assert_close(separator.si_snr(estimate, reference), expected, atol=1e-3, rtol=0)


def test_snr_equals_torchmetrics():
    peer = pytest.importorskip("torchmetrics.functional.audio")
    reference = torch.randn(3, 4000)
    estimate = reference + 0.3 * torch.randn(3, 4000)
    torch.testing.assert_close(
        separator.snr(estimate, reference), peer.signal_noise_ratio(estimate, reference), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("decibels", [-10.0, 0.0, 7.5, 40.0])
def test_orthogonal_noise_gives_the_ratio_of_the_energies(decibels):
    time = torch.arange(8000, dtype=torch.float64) / 8000
    reference = torch.sin(2 * math.pi * 100 * time)
    noise = torch.sin(2 * math.pi * 300 * time) * 10 ** (-decibels / 20)
    assert float(separator.si_snr(3.7 * (reference + noise), reference)) == pytest.approx(decibels, abs=1e-5)
    assert float(separator.snr(reference + noise, reference)) == pytest.approx(decibels, abs=1e-5)


def test_si_snr_ignores_scale_sign_and_offset_snr_does_not():
    reference, noise = torch.randn(2, 5000, dtype=torch.float64)
    estimate = reference + 0.5 * noise
    value = separator.si_snr(estimate, reference)
    for other in (10 * estimate, -estimate, estimate + 3):
        torch.testing.assert_close(separator.si_snr(other, reference), value, atol=1e-6, rtol=0)
        assert separator.snr(other, reference) < separator.snr(estimate, reference) - 3


def test_snr_of_a_silent_reference_falls_with_the_estimates_energy():
    silence = torch.zeros(4000)
    values = [float(separator.snr(level * torch.randn(4000), silence)) for level in (0, 1e-3, 1e-2, 1e-1)]
    assert values[0] == 0
    assert values == sorted(values, reverse=True)
    assert values[2] - values[3] == pytest.approx(20, abs=1)


@pytest.mark.parametrize("metric", [separator.si_snr, separator.snr])
def test_max_db_bounds_the_score(metric):
    reference = torch.randn(4000)
    assert float(metric(reference, reference, max_db=30)) == pytest.approx(30, abs=1e-3)
    rough = reference + torch.randn(4000)
    assert float(metric(rough, reference, max_db=30)) == pytest.approx(float(metric(rough, reference)), abs=0.01)


@pytest.mark.parametrize("metric", [separator.si_snr, separator.snr])
@pytest.mark.parametrize("case", ["identical", "zero estimate", "zero reference", "both zero", "quiet", "constant"])
def test_values_and_gradients_are_finite(metric, case):
    reference = torch.randn(2, 1000)
    estimate = {
        "identical": reference,
        "zero estimate": torch.zeros(2, 1000),
        "zero reference": torch.randn(2, 1000),
        "both zero": torch.zeros(2, 1000),
        "quiet": 1e-12 * reference,
        "constant": torch.ones(2, 1000),
    }[case].clone()
    if case in ("zero reference", "both zero"):
        reference = torch.zeros(2, 1000)
    estimate.requires_grad_()
    value = metric(estimate, reference)
    value.sum().backward()
    assert value.isfinite().all()
    assert estimate.grad.isfinite().all()


@pytest.mark.parametrize("num_sources", [1, 2, 3, 4, 5, 6])
def test_pit_finds_a_known_permutation(num_sources):
    reference = torch.randn(4, num_sources, 2000)
    orders = torch.stack([torch.randperm(num_sources) for _ in range(4)])
    # Estimate number orders[b, i] belongs to reference i.
    estimate = torch.empty_like(reference)
    estimate.scatter_(1, orders.unsqueeze(-1).expand_as(reference), reference + 0.1 * torch.randn_like(reference))
    value, permutation = separator.pit(separator.si_snr, estimate, reference)
    assert torch.equal(permutation, orders)
    torch.testing.assert_close(
        value, separator.si_snr(separator.reorder(estimate, permutation), reference).mean(-1), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("num_sources", [3, 4, 5, 6])
def test_assignment_is_the_best_of_all(num_sources):
    scores = torch.randn(20, num_sources, num_sources)
    chosen = objectives.best_permutation(scores)
    sums = scores.gather(2, chosen.unsqueeze(-1)).sum((1, 2))
    rows = torch.arange(num_sources)
    best = [
        max(float(matrix[rows, list(order)].sum()) for order in itertools.permutations(range(num_sources)))
        for matrix in scores
    ]
    torch.testing.assert_close(sums, torch.tensor(best))


def test_pit_equals_torchmetrics_with_gradient():
    peer = pytest.importorskip("torchmetrics.functional.audio")
    reference, estimate = torch.randn(2, 3, 3, 1500)
    estimate.requires_grad_()
    value, _ = separator.pit(separator.si_snr, estimate, reference)
    expected, _ = peer.permutation_invariant_training(estimate, reference, peer.scale_invariant_signal_noise_ratio)
    torch.testing.assert_close(value, expected, atol=1e-3, rtol=0)
    value.sum().backward()
    assert estimate.grad.abs().sum() > 0


def test_improvement_is_the_gain_over_the_mixture_in_any_order():
    # Each of three orthogonal sources has 10 log10(1/2) dB in their sum. Noise with a tenth of the RMS leaves 20 dB.
    time = torch.arange(8000) / 8000
    reference = torch.stack([torch.sin(2 * torch.pi * hertz * time) for hertz in (100, 200, 300)])[None]
    noise = torch.stack([torch.sin(2 * torch.pi * hertz * time) for hertz in (400, 500, 600)])[None]
    estimate = (reference + 0.1 * noise).roll(1, dims=1)
    value = separator.si_snr_improvement(estimate, reference, reference.sum(1))
    torch.testing.assert_close(value, torch.tensor([23.0103]), atol=1e-3, rtol=0)


def test_mean_snr_sets_the_level_and_improves_the_shape():
    reference = torch.randn(4000, generator=torch.Generator().manual_seed(8))
    half = 0.5 * reference
    assert float(objectives.mean_snr(half, reference, max_db=30)) == pytest.approx((6.02 + 30) / 2, abs=0.05)
    assert float(objectives.mean_snr(reference, reference, max_db=30)) == pytest.approx(30, abs=0.01)


def test_silent_sources_do_not_count_in_the_improvement():
    generator = torch.Generator().manual_seed(3)
    reference = torch.randn(2, 3, 4000, generator=generator)
    reference[1, 2] = 0
    estimate = reference + 0.1 * torch.randn(2, 3, 4000, generator=generator)
    mixture = reference.sum(1)
    both = separator.si_snr_improvement(estimate[1:, :2], reference[1:, :2], mixture[1:])
    assert separator.si_snr_improvement(estimate, reference, mixture)[1] == pytest.approx(float(both), abs=1e-4)
    turned = separator.si_snr_improvement(estimate.flip(1), reference, mixture)
    assert torch.allclose(turned, separator.si_snr_improvement(estimate, reference, mixture), atol=1e-4)
    assert float(separator.si_snr_improvement(estimate.flip(1), reference, mixture, permute=False)[0]) < -10


def test_silence_safe_snr_is_the_snr_of_sounding_and_the_quietness_of_silent_sources():
    generator = torch.Generator().manual_seed(4)
    reference = torch.randn(2, 2, 4000, generator=generator)
    reference[1, 1] = 0
    mixture = reference.sum(1)
    metric = objectives.silence_safe(separator.snr, mixture)
    value = metric(reference + 0.1 * torch.randn(2, 2, 4000, generator=generator), reference)
    bounded = -10 * math.log10(0.01 + 0.001)
    assert value[0].tolist() == pytest.approx([bounded] * 2, abs=0.3)
    assert float(value[1, 1]) == pytest.approx(0.2 * bounded, abs=0.1)  # noise 20 dB below the mixture
    assert metric(torch.stack([mixture, mixture], 1), reference)[1, 1] == pytest.approx(0, abs=0.01)
    assert metric(reference, reference).flatten().tolist() == pytest.approx([30, 30, 30, 6], abs=0.01)


@pytest.mark.parametrize("metric", [separator.snr, objectives.mean_snr])
def test_silence_safe_snr_finds_the_permutation_with_silent_sources(metric):
    generator = torch.Generator().manual_seed(5)
    reference = torch.randn(1, 3, 4000, generator=generator) * torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1)
    estimate = reference[:, [2, 0, 1]] + 0.01
    _, permutation = objectives.pit(objectives.silence_safe(metric, reference.sum(1)), estimate, reference)
    assert permutation.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("metric", [separator.snr, objectives.mean_snr])
@pytest.mark.parametrize("case", ["all silent", "silent estimate", "perfect"])
def test_silence_safe_snr_has_finite_gradients(metric, case):
    reference = torch.randn(2, 2, 800, generator=torch.Generator().manual_seed(6))
    reference[:, 1] = 0
    if case == "all silent":
        reference = torch.zeros_like(reference)
    estimate = (torch.zeros_like(reference) if case == "silent estimate" else reference.clone()).requires_grad_()
    value, _ = objectives.pit(objectives.silence_safe(metric, reference.sum(1)), estimate, reference)
    value.sum().backward()
    assert value.isfinite().all() and estimate.grad.isfinite().all()


def test_a_single_voice_is_not_a_mixture():
    voice = torch.randn(3, 1, 800, generator=torch.Generator().manual_seed(7))
    reference = torch.cat([voice, torch.zeros_like(voice)], 1)
    reference[1, 1] = 0.5 * voice[2, 0]
    mixture = reference.sum(1)
    mixture[2] += 0.1 * voice[0, 0]  # noise
    assert objectives.is_mixed(reference, mixture).tolist() == [False, True, True]


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        separator.pit(separator.si_snr, torch.zeros(1, 2, 10), torch.zeros(1, 3, 10))
    with pytest.raises(ValueError, match=r"\[\.\.\., time\]"):
        separator.si_snr(torch.zeros(2, 10), torch.zeros(2, 11))


def test_mixture_consistency_is_the_orthogonal_projection():
    estimate, other = torch.randn(2, 3, 2, 100, dtype=torch.float64)
    mixture = torch.randn(3, 100, dtype=torch.float64)
    projected = separator.mixture_consistency(estimate, mixture)
    torch.testing.assert_close(projected.sum(1), mixture)
    # Orthogonal means that no other consistent estimate is nearer.
    elsewhere = separator.mixture_consistency(other, mixture)
    assert ((projected - estimate).square().sum() < (elsewhere - estimate).square().sum()).all()
    product = ((projected - estimate) * (elsewhere - projected)).sum()
    assert abs(float(product)) < 1e-9


def test_only_the_first_sources_are_permuted():
    generator = torch.Generator().manual_seed(5)
    reference = torch.randn(2, 3, 2000, generator=generator)
    estimate = (reference + 0.1 * torch.randn(2, 3, 2000, generator=generator))[:, [1, 0, 2]]
    value, permutation = separator.pit(separator.si_snr, estimate, reference, num_interchangeable=2)
    assert permutation.tolist() == [[1, 0, 2]] * 2 and (value > 15).all()
    # The third source keeps its place, even if another would be better.
    value, permutation = separator.pit(separator.si_snr, estimate[:, [2, 0, 1]], reference, num_interchangeable=2)
    assert (permutation[:, 2] == 2).all() and (value < 10).all()
    gain = separator.si_snr_improvement(estimate, reference, reference.sum(1), num_interchangeable=2)
    assert torch.allclose(gain, separator.si_snr_improvement(estimate, reference, reference.sum(1)), atol=1e-4)
    assert separator.pit(separator.si_snr, estimate, reference, num_interchangeable=0)[1].tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("quiet_db", [0.0, 20.0, 50.0])
def test_errors_far_below_the_mixture_do_not_count(quiet_db):
    """The noise in the score is the estimate's error plus noise 30 dB below the mixture."""
    time = torch.arange(16000, dtype=torch.float64) / 16000
    loud = torch.sin(2 * math.pi * 100 * time)
    quiet = 10 ** (-quiet_db / 20) * torch.sin(2 * math.pi * 200 * time)
    mixture, error = loud + quiet, 0.01 * torch.sin(2 * math.pi * 300 * time)
    metric = objectives.thresholded(objectives.snr, mixture[None])
    energy = quiet.square().sum()
    noise = error.square().sum() + 1e-3 * mixture.square().sum() * (energy > 0)
    expected = 10 * math.log10(energy / noise)
    assert float(metric((quiet + error)[None, None], quiet[None, None])) == pytest.approx(expected, abs=0.01)


def test_thresholded_scores_of_silent_sources_are_those_of_silence_safe():
    generator = torch.Generator().manual_seed(6)
    mixture, estimate = torch.randn(2, 1000, generator=generator), torch.randn(2, 2, 1000, generator=generator)
    silent = torch.zeros(2, 2, 1000)
    one, other = (
        kind(objectives.si_snr, mixture)(estimate, silent) for kind in (objectives.thresholded, objectives.silence_safe)
    )
    assert torch.equal(one, other)
