import pytest
import torch

from separator.models.norms import make_norm
from separator.models.state import State


def randomized(name, channels=5):
    torch.manual_seed(0)
    norm = make_norm(name, channels)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    return norm


def test_an_empty_block_is_allowed():
    norm, state = make_norm("cumulative", 3), State()
    frames = torch.randn(1, 9, 3)
    parts = [norm(block, state) for block in (frames[:, :0], frames[:, :4], frames[:, :0], frames[:, 4:])]
    torch.testing.assert_close(torch.cat(parts, 1), norm(frames))


def test_global_equals_group_norm_with_one_group():
    norm = randomized("global")
    features = 3 * torch.randn(2, 11, 5) + 1
    expected = torch.nn.functional.group_norm(features.mT, 1, norm.weight, norm.bias, 1e-8).mT
    torch.testing.assert_close(norm(features), expected)


def test_cumulative_equals_the_formula_of_the_paper():
    norm = randomized("cumulative")
    features = 3 * torch.randn(2, 9, 5) + 1
    for frame in range(9):
        past = features[:, : frame + 1].flatten(1)
        mean, deviation = past.mean(1, keepdim=True), past.var(1, correction=0, keepdim=True).sqrt()
        expected = (features[:, frame] - mean) / deviation * norm.weight + norm.bias
        torch.testing.assert_close(norm(features)[:, frame], expected)


def test_cumulative_at_the_last_frame_equals_global():
    cumulative, norm = randomized("cumulative"), randomized("global")
    features = torch.randn(2, 50, 5)
    torch.testing.assert_close(cumulative(features)[:, -1], norm(features)[:, -1])


def test_cumulative_normalizes_nearly_constant_features():
    """Logarithms of silence are nearly constant. Summing their squares in float32 would lose the variance."""
    features = -9.21 + 0.01 * torch.randn(1, 200, 64)
    norm, exact = make_norm("cumulative", 64), make_norm("cumulative", 64).double()
    torch.testing.assert_close(norm(features), exact(features.double()).float(), atol=1e-3, rtol=0)


def test_cumulative_does_not_drift_over_an_hour():
    norm = make_norm("cumulative", 1)
    features = 100 + torch.randn(1, 900_000, 1)
    tail = norm(features)[:, -10_000:].detach()
    assert abs(float(tail.std()) - 1) < 0.01
    assert abs(float(tail.mean())) < 0.02


def test_channel_equals_layer_norm():
    norm = randomized("channel")
    features = torch.randn(2, 9, 5)
    expected = torch.nn.functional.layer_norm(features, (5,), norm.weight, norm.bias, 1e-8)
    torch.testing.assert_close(norm(features), expected)


@pytest.mark.parametrize("name", ["global", "cumulative", "channel"])
def test_half_precision_uses_float32_statistics(name):
    norm = randomized(name)
    features = (50 + torch.randn(1, 4000, 5)).bfloat16()
    assert norm(features).dtype == torch.bfloat16
    torch.testing.assert_close(norm(features).float(), norm(features.float()), atol=0.05, rtol=0.02)
