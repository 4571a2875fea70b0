import pytest
import torch

import separator
from separator.errors import ConfigError
from separator.train.growth import start_from

SMALL = {
    "num_filters": 16,
    "filter_length": 16,
    "bottleneck_channels": 8,
    "skip_channels": 0,
    "hidden_channels": 12,
    "num_blocks": 2,
    "num_repeats": 2,
    "mask": "relu",
    "mixture_consistency": True,
}
LOW = {"num_repeats": 4, "num_blocks": [2, 3, 2, 1], "repeat_rates": [1, 4, 1, 2], "attention": True}


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    separator.save(separator.ConvTasNet(2, **SMALL), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def test_repeats_at_a_lower_rate_change_nothing_at_first(model):
    net = separator.ConvTasNet(2, **SMALL | LOW, low_rate_bottleneck_channels=10)
    start_from(net, str(model))
    mixture = torch.randn(2, 1000)
    torch.testing.assert_close(net(mixture), separator.load(model)(mixture))
    net(mixture).square().mean().backward()
    assert net.stack.low_rates[0].spread.weight.grad.any()


def test_a_new_source_is_nearly_silent_at_first_and_learns(model):
    names = ["speaker1", "speaker2", "background"]
    net = separator.ConvTasNet(3, **SMALL | LOW, sources=names)
    start_from(net, str(model))
    coefficients = torch.randn(1, 50, 16)
    old = separator.load(model).estimate_masks(coefficients)
    masks = net.estimate_masks(coefficients)
    torch.testing.assert_close(masks[:, :2], old)
    assert 0 < masks[:, 2].mean() < 0.2
    masks[:, 2].sum().backward()
    assert net.to_masks.bias.grad[32:].any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_channels": 16}, r"it has model\.hidden_channels=12, but this run has 16"),
        (LOW | {"num_blocks": [2, 3, 3, 1]}, r"its repeats have \[2, 2\] blocks, but this run has \[2, 3\]"),
        ({"sources": ["vocals", "speech", "rest"]}, r"it has model\.sources"),
    ],
)
def test_a_different_network_is_rejected(model, changed, message):
    net = separator.ConvTasNet(len(changed.get("sources", "12")), **SMALL | changed)
    with pytest.raises(ConfigError, match=message):
        start_from(net, str(model))


def test_a_network_with_fewer_sources_is_rejected(tmp_path):
    torch.manual_seed(0)
    separator.save(separator.ConvTasNet(3, **SMALL), tmp_path / "three.safetensors")
    with pytest.raises(ConfigError, match=r"it has model\.num_sources=3, but this run has 2"):
        start_from(separator.ConvTasNet(2, **SMALL), str(tmp_path / "three.safetensors"))
