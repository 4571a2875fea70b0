import math

import pytest
import torch

import separator
from separator.errors import ConfigError
from separator.models import Replay
from separator.models.filterbank import Decoder, Encoder, fourier_pair, num_frames
from separator.zoo.foreign import torchaudio

SMALL = dict(num_filters=16, filter_length=16, bottleneck_channels=8, skip_channels=8, hidden_channels=12)
SMALL |= dict(num_blocks=3, num_repeats=2)


def small(**arguments):
    torch.manual_seed(0)
    return separator.ConvTasNet(**(SMALL | arguments)).eval()


def test_standard_configuration_has_as_many_parameters_as_torchaudio():
    assert sum(parameter.numel() for parameter in separator.ConvTasNet().parameters()) == 4_984_881


@pytest.mark.parametrize(
    ("mask", "num_sources", "length", "filters", "bottleneck", "hidden", "blocks", "repeats"),
    [
        ("sigmoid", 2, 16, 512, 128, 512, 8, 3),  # the standard configuration
        ("relu", 3, 20, 64, 16, 24, 4, 2),
        ("sigmoid", 3, 20, 64, 16, 24, 4, 2),
        ("relu", 2, 32, 40, 24, 36, 1, 1),
    ],
)
def test_output_equals_torchaudio(mask, num_sources, length, filters, bottleneck, hidden, blocks, repeats):
    torchaudio_models = pytest.importorskip("torchaudio.models", exc_type=(ImportError, OSError))
    torch.manual_seed(1)
    peer = torchaudio_models.ConvTasNet(
        num_sources, length, filters, 3, bottleneck, hidden, blocks, repeats, msk_activate=mask
    ).eval()
    # Change the initial values, which are the same for all norms and PReLUs.
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    net = torchaudio.convert(peer.state_dict(), "here", 8000, blocks, mask)
    assert net.receptive_field.frames == 1 + repeats * 2 * (2**blocks - 1)
    for samples in (8000, 1237):
        mixture = 0.1 * torch.randn(2, samples)
        with torch.no_grad():
            expected = peer(mixture.unsqueeze(1))
            assert expected.abs().max() > 1e-2
            torch.testing.assert_close(net(mixture), expected, atol=1e-5, rtol=0)
            expected = peer.double()(mixture.unsqueeze(1).double())
            torch.testing.assert_close(net.double()(mixture.double()), expected, atol=1e-12, rtol=0)
            peer.float(), net.float()


@pytest.mark.parametrize("samples", [1, 2, 7, 8, 15, 16, 17, 100, 1001])
@pytest.mark.parametrize(("length", "stride"), [(16, 8), (16, 4), (15, 5), (16, 16), (10, 4)])
def test_output_is_as_long_as_the_input(samples, length, stride):
    net = small(filter_length=length, stride=stride)
    assert net(torch.randn(3, samples)).shape == (3, 2, samples)


@pytest.mark.parametrize(
    ("num_filters", "length", "stride", "decoder_length"),
    [
        (16, 16, 8, 16),
        (32, 16, 4, 16),
        (26, 25, 5, 25),
        (20, 20, 20, 20),
        (32, 32, 4, 8),
        (20, 20, 6, 6),
        (30, 30, 4, 9),
    ],
)
def test_fourier_pair_reconstructs(num_filters, length, stride, decoder_length):
    encoder = Encoder(num_filters, length, stride, decoder_length)
    decoder = Decoder(num_filters, decoder_length, stride)
    analysis, synthesis = fourier_pair(num_filters, length, stride, decoder_length)
    encoder.weight.data.copy_(analysis)
    decoder.weight.data.copy_(synthesis)
    for samples in (1, 57, 400):
        waveform = torch.randn(2, samples)
        torch.testing.assert_close(decoder(encoder(waveform), samples), waveform, atol=1e-5, rtol=0)


def test_encoder_and_decoder_equal_convolutions():
    encoder, decoder = Encoder(6, 12, 4), Decoder(6, 12, 4)
    waveform = torch.randn(2, 40)
    frames = num_frames(40, 12, 4)
    padded = torch.nn.functional.pad(waveform, (8, (frames - 1) * 4 + 12 - 48)).unsqueeze(1)
    expected = torch.nn.functional.conv1d(padded, encoder.weight.unsqueeze(1), stride=4)
    torch.testing.assert_close(encoder(waveform).mT, expected)
    back = torch.nn.functional.conv_transpose1d(expected, decoder.weight.unsqueeze(1), stride=4)
    torch.testing.assert_close(decoder(expected.mT, 40), back[:, 0, 8:48])


@pytest.mark.parametrize("norm", ["cumulative", "channel"])
@pytest.mark.parametrize("magnitude_input", [False, True])
def test_causal_output_ignores_the_future(norm, magnitude_input):
    net = small(causal=True, norm=norm, magnitude_input=magnitude_input).double()
    mixture = torch.randn(1, 400, dtype=torch.float64)
    changed = mixture.clone()
    changed[:, 200:] += 1
    before, after = net(mixture), net(changed)
    # The last window over sample 184 ends before sample 200.
    torch.testing.assert_close(before[..., :185], after[..., :185], atol=1e-12, rtol=0)
    assert (before[..., 200:] - after[..., 200:]).abs().max() > 1e-3


def test_mixture_consistency_makes_the_estimates_sum_to_the_mixture():
    mixture = torch.randn(2, 500)
    plain, consistent = small(), small(mixture_consistency=True)
    assert (plain(mixture).sum(1) - mixture).abs().max() > 1e-2
    torch.testing.assert_close(consistent(mixture).sum(1), mixture)


def test_softmax_masks_sum_to_one_over_the_sources():
    net = small(mask="softmax", num_sources=3)
    masks = net.estimate_masks(net.encoder(torch.randn(2, 300)))
    torch.testing.assert_close(masks.sum(1), torch.ones_like(masks[:, 0]))


@pytest.mark.parametrize("skip_channels", [0, 5])
def test_every_parameter_is_trained(skip_channels):
    net = small(skip_channels=skip_channels, magnitude_input=True)
    net(torch.randn(2, 500)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_channels_have_separate_masks_that_depend_on_all_channels():
    net = small(num_channels=2, num_sources=3, magnitude_input=True)
    mixture = torch.randn(4, 2, 700)
    estimate = net(mixture)
    assert estimate.shape == (4, 3, 2, 700)
    # Each example is independent of the others in the batch.
    torch.testing.assert_close(net(mixture[1:2]), estimate[1:2])
    # One channel's masks depend on the other.
    changed = mixture.clone()
    changed[:, 1] *= torch.linspace(0, 1, 700)
    assert not torch.allclose(net(changed)[:, :, 0], estimate[:, :, 0], atol=1e-4)
    # A channel's coefficients depend only on that channel, so a silent channel stays silent.
    changed[:, 1] = 0
    assert net(changed)[:, :, 1].abs().max() == 0 and net(changed)[:, :, 0].abs().max() > 0


def test_a_stereo_network_can_equal_a_mono_network():
    """The first channel gets the weights of the mono network, the second channel gets zeros."""
    one, two = small(), small(num_channels=2)
    state, num_filters = two.state_dict(), SMALL["num_filters"]
    for name, value in one.state_dict().items():
        if name.startswith("norm."):
            state[name][:num_filters] = value
        elif name == "bottleneck.weight":
            state[name][:] = 0
            state[name][:, :num_filters] = value
        elif name.startswith("to_masks"):
            state[name][: len(value)] = value
        else:
            state[name] = value
    two.load_state_dict(state)
    mixture = torch.randn(2, 1, 900)
    both = torch.cat([mixture, mixture], 1)
    torch.testing.assert_close(two(both)[:, :, 0], one(mixture[:, 0]), atol=1e-5, rtol=1e-4)


def test_silence_gives_silence_and_finite_gradients():
    net = small(magnitude_input=True)
    output = net(torch.zeros(1, 300))
    assert output.abs().max() == 0
    output.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_half_precision_keeps_waveforms_in_float32():
    net = small()
    mixture = torch.randn(1, 400)
    with torch.autocast("cpu", torch.bfloat16):
        output = net(mixture)
    assert output.dtype == torch.float32
    assert (output - net(mixture)).abs().max() < 0.05 * net(mixture).abs().max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(causal=True), "norm='cumulative'"),
        (dict(norm="globl"), "did you mean 'global'"),
        (dict(mask="tanh"), "unknown mask 'tanh'"),
        (dict(temporal="lite"), "did you mean 'light'"),
        (dict(stride=17), "stride=17, decoder_length=16.*use stride <= decoder_length"),
        (dict(decoder_length=17), "decoder_length=17, filter_length=16.*decoder_length <= filter_length"),
        (dict(temporal_options={"heads": 4}), "temporal 'depthwise' has no option 'heads'"),
        (dict(num_filters=0), "num_filters must be a whole number"),
        (dict(num_blocks=2.5), "num_blocks must be a whole number"),
        (dict(kernel_size=4), "odd kernel_size"),
        (dict(skip_channels=-1), "skip_channels"),
        (dict(num_filters=15, magnitude_input=True), "even"),
        (dict(num_filters=8, encoder_init="fourier"), "at least filter_length"),
        (dict(filter_length="16"), "filter_length must be a whole number of at least 1, got '16'"),
        (dict(num_sources=2.0), "num_sources must be a whole number"),
        (dict(num_sources=1, mixture_consistency=True), "the only source would be the whole mixture"),
        (dict(num_channels=2, causal=True, norm="channel"), "causal=True needs num_channels=1, got 2"),
        (dict(num_sources=1, mask="softmax"), "the only source would be the whole mixture"),
        (dict(sources="ab"), "expected 2 different source names, got 'ab'"),
        (dict(sources=[1, 2]), "source name 1 cannot be part of a file name"),
        (dict(sources=["a"]), "expected 2 different source names"),
        (dict(sources=["a", "a"]), "expected 2 different source names"),
        (dict(sources=["a", "../b"]), "cannot be part of a file name"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        small(**arguments)


def test_a_network_of_two_channels_refuses_one():
    with pytest.raises(ValueError, match=r"expected a mixture \[batch, 2, time\].*got \[2, 700\]"):
        small(num_channels=2)(torch.randn(2, 700))


def test_sources_with_names_are_not_interchangeable():
    assert small().interchangeable
    assert small(sources=("speaker1", "speaker2")).interchangeable
    assert not small(sources=("vocals", "rest")).interchangeable
    some = small(num_sources=3, sources=("speaker1", "speaker2", "background"))
    assert some.interchangeable and some.num_interchangeable == 2
    assert small(sources=("speaker1", "background")).num_interchangeable == 0


@pytest.mark.parametrize(
    "sources", [("background", "speaker1", "speaker2"), ("speaker2", "speaker1", "x"), ("Speaker1", "speaker2", "x")]
)
def test_speakers_must_come_first_and_in_order(sources):
    with pytest.raises(
        ConfigError, match=r"speakers are interchangeable and must come first, as speaker1.* write \[speaker1"
    ):
        small(num_sources=3, sources=sources)


LOW_RATE = dict(num_repeats=3, num_blocks=[2, 3, 1], repeat_rates=[1, 4, 1], skip_channels=0, norm="channel")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rates", [[1, 4, 1], [4, 4, 2], [3, 1, 1]])
def test_the_receptive_field_is_exact_with_repeats_at_a_lower_rate(causal, rates):
    net = small(**LOW_RATE | {"repeat_rates": rates, "causal": causal}).double().eval()
    for low in net.stack.low_rates:
        torch.nn.init.normal_(low.spread.weight)
    field, stride = net.receptive_field.samples, net.encoder.stride
    mixture = torch.randn(1, 4 * field, dtype=torch.float64, requires_grad=True)
    estimate = net(mixture)[0, 0]
    spans = []
    for sample in range(2 * field, 2 * field + stride * math.lcm(*rates)):
        (gradient,) = torch.autograd.grad(estimate[sample], mixture, retain_graph=True)
        seen = gradient[0].nonzero().flatten()
        spans.append(int(seen[-1] - seen[0]) + 1)
        if causal:
            assert int(seen[-1]) < sample + net.decoder.filter_length
    assert max(spans) == field


def test_repeats_at_a_lower_rate_give_the_same_output_in_a_stream():
    net = small(**LOW_RATE | {"causal": True}).double().eval().requires_grad_(False)
    torch.nn.init.normal_(net.stack.low_rates[0].spread.weight)
    mixture = torch.randn(1, 5000, dtype=torch.float64)
    for length in (1, 37, 64, 4999):
        stream = net.stream()
        blocks = [stream.push(block) for block in mixture.split(length, dim=-1)]
        streamed = torch.cat([*blocks, stream.flush()], dim=-1)
        assert torch.allclose(streamed, net(mixture), atol=1e-9)


@pytest.mark.parametrize("norm", ["channel", "cumulative"])
def test_streams_that_share_a_recorded_step_start_with_incomplete_groups(norm):
    net = small(**LOW_RATE | {"causal": True, "norm": norm}).double().eval().requires_grad_(False)
    torch.nn.init.normal_(net.stack.low_rates[0].spread.weight)
    mixture, step = torch.randn(1, 200, dtype=torch.float64), Replay(net)
    for _ in range(14):
        stream = net.stream(step)
        blocks = [stream.push(block) for block in mixture.split(net.encoder.stride, dim=-1)]
        streamed = torch.cat([*blocks, stream.flush()], dim=-1)
        torch.testing.assert_close(streamed, net(mixture), atol=1e-9, rtol=0)


def test_attention_uses_the_whole_recording():
    net = small(**LOW_RATE | {"attention": True}).double().eval()
    for layer in (net.stack.low_rates[0].spread, net.stack.attentions[0].out):
        torch.nn.init.normal_(layer.weight)
    mixture = torch.randn(1, 5000, dtype=torch.float64)
    changed = mixture.clone()
    changed[:, -50:] = 0
    assert (net(changed)[..., :50] - net(mixture)[..., :50]).abs().max() > 1e-9


def test_a_lower_rate_adds_nothing_at_first():
    torch.manual_seed(0)
    net = small(**LOW_RATE | {"attention": True, "low_rate_bottleneck_channels": 20})
    features = torch.randn(1, 30, net.arguments["bottleneck_channels"])
    plain, _ = net.stack._through(net.stack.stages[0], features, None)
    plain, _ = net.stack._through(net.stack.stages[2], plain, None)
    assert torch.equal(net.stack(features), plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repeat_rates": [1, 4]}, r"repeat_rates=\[1, 4\] has 2 entries; use one for each repeat.*num_repeats=3"),
        ({"repeat_rates": [1, 7, 64]}, r"have a least common multiple of 448, expected at most 256"),
        ({"repeat_rates": [1, 0, 1]}, "each of repeat_rates must be a whole number"),
        ({"skip_channels": 4}, "needs skip_channels=0, got 4"),
        ({"num_blocks": [1, 2]}, r"num_blocks=\[1, 2\] has 2 entries"),
        ({"attention": True, "repeat_rates": None}, "attention=True: attention needs repeats at a lower frame rate"),
        ({"attention": True, "causal": True}, "attention=True: attention uses the whole recording"),
        ({"low_rate_hidden_channels": 0}, "low_rate_hidden_channels must be a whole number"),
    ],
)
def test_impossible_rates_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        small(**LOW_RATE | arguments)


def test_filters_of_one_sample_have_a_stride():
    assert small(filter_length=1, stride=None)(torch.randn(1, 30)).shape == (1, 2, 30)


@pytest.mark.parametrize("shape", [(100,), (1, 1, 100), (1, 0)])
def test_a_mixture_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected a mixture \[batch, time\]"):
        small()(torch.zeros(shape))
