import pytest
import torch
import torch.nn.functional as F

import separator
from separator.errors import ConfigError
from separator.models import TCN
from separator.models.state import State
from separator.models.tcn import SeparableStack, StackConfig


def tcn(**arguments):
    torch.manual_seed(0)
    return TCN(**(dict(num_inputs=3, channels=[4, 4, 6], kernel_size=3, dropout=0.0) | arguments)).double()


def test_an_empty_block_is_allowed():
    net, state = TCN(2, [3, 4]).eval(), State()
    frames = torch.randn(1, 2, 9)
    with torch.no_grad():
        parts = [net(block, state) for block in (frames[..., :4], frames[..., :0], frames[..., 4:])]
        torch.testing.assert_close(torch.cat(parts, -1), net(frames))
    assert parts[1].shape == (1, 4, 0)


def test_block_equals_the_figure_in_the_paper():
    """Bai et al. 2018, figure 1b, with plain convolutions and g * v / |v|."""
    net = tcn(channels=[4, 4])
    features = torch.randn(2, 3, 20, dtype=torch.float64)
    expected = features
    for level, block in enumerate(net.blocks):
        hidden = expected
        for layer in (block.conv1, block.conv2):
            gain, direction = (
                layer.conv.parametrizations.weight.original0,
                layer.conv.parametrizations.weight.original1,
            )
            weight = gain * direction / direction.flatten(1).norm(dim=1)[:, None, None]
            hidden = F.conv1d(F.pad(hidden, (2 * 2**level, 0)), weight, layer.conv.bias, dilation=2**level).relu()
        skipped = F.conv1d(expected, block.residual.weight, block.residual.bias) if level == 0 else expected
        expected = (hidden + skipped).relu()
    torch.testing.assert_close(net(features), expected)


def test_output_is_as_long_as_the_input():
    for frames in (1, 2, 50):
        assert tcn()(torch.randn(2, 3, frames, dtype=torch.float64)).shape == (2, 6, frames)


@pytest.mark.parametrize(
    ("kernel_size", "levels", "expected"), [(2, 1, 3), (2, 4, 31), (3, 3, 29), (7, 2, 37), (1, 3, 1)]
)
def test_receptive_field_matches_the_gradient(kernel_size, levels, expected):
    net = tcn(channels=[4] * levels, kernel_size=kernel_size)
    assert net.receptive_field == expected
    # With positive values the ReLUs cannot hide a frame by chance.
    features = torch.randn(1, 3, 60, dtype=torch.float64, requires_grad=True)
    for parameter in net.parameters():
        parameter.data.abs_()
    net(features.abs())[0, :, -1].sum().backward()
    seen = features.grad.abs().sum((0, 1)).nonzero().flatten()
    assert int(seen.max()) == 59
    assert 60 - int(seen.min()) == expected


def test_blocks_of_a_stream_equal_the_whole():
    net = tcn()
    features = torch.randn(2, 3, 40, dtype=torch.float64)
    state = State()
    blocks = [net(block, state) for block in features.split([1, 2, 20, 1, 16], dim=-1)]
    torch.testing.assert_close(torch.cat(blocks, dim=-1), net(features))


def test_dropout_is_only_used_in_training():
    net = tcn(dropout=0.5)
    features = torch.randn(1, 3, 40, dtype=torch.float64)
    assert not torch.equal(net(features), net(features))
    assert torch.equal(net.eval()(features), net(features))


@pytest.mark.parametrize(
    "arguments", [dict(channels=[]), dict(kernel_size=0), dict(channels=[4, 0]), dict(num_inputs=0)]
)
def test_impossible_sizes_are_refused(arguments):
    with pytest.raises(ConfigError, match=r"TCN.* must be a whole number of at least 1"):
        tcn(**arguments)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("temporal", ["depthwise", "gated", "light", "dynamic", "span_dynamic"])
def test_receptive_field_of_a_stack(temporal, causal):
    torch.manual_seed(0)
    config = StackConfig(4, 8, num_blocks=3, num_repeats=2, norm="channel", temporal=temporal, causal=causal)
    stack = SeparableStack(config).double().eval()
    features = torch.randn(1, 61, 4, dtype=torch.float64, requires_grad=True)
    stack(features)[0, 30].sum().backward()
    seen = features.grad.abs().sum((0, 2)).nonzero().flatten()
    assert (int(seen.min()), int(seen.max())) == stack.span(30, 30)
    assert stack.receptive_field == 2 * 2 * 7 + 1


@pytest.mark.parametrize(
    ("length", "stride", "decoder"), [(16, 8, 16), (16, 4, 16), (15, 6, 15), (24, 4, 8), (16, 16, 16)]
)
def test_receptive_field_of_a_network(length, stride, decoder):
    torch.manual_seed(0)
    net = separator.ConvTasNet(
        sample_rate=8000,
        num_filters=16,
        filter_length=length,
        stride=stride,
        decoder_length=decoder,
        bottleneck_channels=8,
        hidden_channels=8,
        num_blocks=2,
        num_repeats=2,
        causal=True,
        norm="channel",
    ).double()
    mixture = torch.randn(1, 1000, dtype=torch.float64, requires_grad=True)
    estimate = net(mixture)
    widest = 0
    for sample in range(600, 600 + stride):
        (gradient,) = torch.autograd.grad(estimate[0, 0, sample], mixture, retain_graph=True)
        seen = gradient[0].nonzero().flatten()
        widest = max(widest, int(seen.max() - seen.min()) + 1)
    assert net.receptive_field.samples == widest
    assert net.receptive_field.frames == 2 * 2 * 3 + 1
    assert net.receptive_field.seconds == widest / 8000
