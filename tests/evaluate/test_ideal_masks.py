import pytest
import torch

from separator import objectives
from separator.evaluate import ideal_masks


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_sources_that_never_share_a_bin_are_separated_almost_perfectly():
    """Two tones of different frequency have no common bins."""
    time = torch.arange(16000) / 16000
    sources = torch.stack([torch.sin(2 * torch.pi * 500 * time), torch.sin(2 * torch.pi * 3000 * time)])
    for kind in ("binary", "ratio"):
        estimate = ideal_masks.ideal_mask(sources.sum(0), sources, 16000, kind)
        # Not quite perfect, because of the side lobes of the window.
        assert (objectives.si_snr(estimate, sources) > 40).all()


def test_ratio_masks_divide_bins_by_magnitude():
    """Sources that are 1 and 3 times the same signal get a quarter and three quarters of the mixture."""
    signal = noise(8000)
    sources = torch.stack([signal, 3 * signal])
    estimate = ideal_masks.ideal_mask(sources.sum(0), sources, 8000, "ratio")
    torch.testing.assert_close(estimate, sources, atol=1e-4, rtol=0)
    louder = ideal_masks.ideal_mask(sources.sum(0), sources, 8000, "binary")
    torch.testing.assert_close(louder, torch.stack([0 * signal, 4 * signal]), atol=1e-4, rtol=0)


def test_the_rest_of_the_mixture_is_removed():
    source, rest = noise(1, 8000), 10 * noise(8000, seed=1)
    estimate = ideal_masks.ideal_mask(source[0] + rest, source, 8000, "binary")
    assert estimate.square().sum() < 0.1 * rest.square().sum()


@pytest.mark.parametrize("shape", [(2, 3), (2, 2, 1000), (3, 700)])
def test_estimates_have_the_shape_of_the_sources(shape):
    sources = noise(*shape)
    for kind in ("binary", "ratio"):
        estimate = ideal_masks.ideal_mask(sources.sum(0), sources, 8000, kind)
        assert estimate.shape == sources.shape and estimate.isfinite().all()


def test_both_bounds_improve_a_real_mixture(two_voices):
    sources = torch.from_numpy(two_voices)
    mixture = sources.sum(0)
    before = objectives.si_snr(mixture.expand_as(sources), sources).mean()
    for kind in ("binary", "ratio"):
        after = objectives.si_snr(ideal_masks.ideal_mask(mixture, sources, 16000, kind), sources).mean()
        assert after - before > 8
