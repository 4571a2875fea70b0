"""Compare every temporal convolution with a naive loop written from its formula, in float64."""

import pytest
import torch

import separator
from separator.errors import ConfigError
from separator.models.state import State
from separator.models.temporal import TEMPORAL, make_temporal

CHANNELS, FRAMES = 12, 17


def build(name, kernel_size=3, dilation=1, causal=False, channels=CHANNELS, **options):
    torch.manual_seed(0)
    layer = make_temporal(name, channels, kernel_size, dilation, causal, options).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer


def tap_frame(layer, frame, tap):
    """Frame that tap number `tap` of the kernel reads for the output at `frame`."""
    offset = tap - (layer.kernel_size - 1 if layer.causal else (layer.kernel_size - 1) // 2)
    return frame + offset * layer.dilation


def at(features, frame):
    """`[channel]` at a frame, zero outside the recording."""
    return features[:, frame] if 0 <= frame < features.shape[1] else torch.zeros_like(features[:, 0])


def naive_depthwise(layer, features):
    output = torch.zeros_like(features)
    for frame in range(features.shape[1]):
        for channel in range(features.shape[0]):
            total = layer.bias[channel]
            for tap in range(layer.kernel_size):
                total = total + layer.weight[tap, channel] * at(features, tap_frame(layer, frame, tap))[channel]
            output[channel, frame] = total
    return output


def naive_gated(layer, features):
    content = naive_depthwise(layer.content, features)
    content = content.tanh() if isinstance(layer.activate, torch.nn.Tanh) else content
    return content / (1 + (-naive_depthwise(layer.gate, features)).exp())


def weighted(layer, features, kernel_of):
    """Apply to every channel the kernel of its head. `kernel_of(frame)` returns scores `[head, tap]`."""
    output = torch.zeros_like(features)
    channels = features.shape[0]
    for frame in range(features.shape[1]):
        scores = kernel_of(frame).exp()
        for channel in range(channels):
            head = channel * layer.num_heads // channels
            for tap in range(layer.kernel_size):
                weight = scores[head, tap] / scores[head].sum()
                output[channel, frame] += weight * at(features, tap_frame(layer, frame, tap))[channel]
    return output


def naive_light(layer, features):
    return weighted(layer, features, lambda frame: layer.weight)


def naive_dynamic(layer, features):
    return weighted(
        layer, features, lambda frame: (layer.to_kernel.weight @ features[:, frame]).view(layer.num_heads, -1)
    )


def naive_span_dynamic(layer, features):
    span = naive_depthwise(layer.span, features)

    def kernel_of(frame):
        query, key = layer.to_query(features[:, frame]), layer.to_key(span[:, frame])
        return layer.to_kernel(query * key).view(layer.num_heads, -1)

    return weighted(layer, features, kernel_of)


def naive_talk(layer, features):
    """A frame counts with the part of it that lies within the reach: all, none or a fraction."""
    output = torch.zeros_like(features)
    channels, frames = features.shape
    for frame in range(frames):
        share = torch.sigmoid(layer.to_reach(features[:, frame])).view(-1, layer.num_heads)
        for channel in range(channels):
            head = channel * layer.num_heads // channels
            back = share[0, head] * layer.left
            ahead = 0 * back if layer.causal else share[1, head] * layer.right
            total = features[channel, frame]
            for distance in range(1, layer.left + 1):
                total = total + (back - distance + 1).clamp(0, 1) * at(features, frame - distance)[channel]
            for distance in range(1, layer.right + 1):
                total = total + (ahead - distance + 1).clamp(0, 1) * at(features, frame + distance)[channel]
            output[channel, frame] = total / (1 + back + ahead)
    return output


NAIVE = {
    "depthwise": naive_depthwise,
    "gated": naive_gated,
    "light": naive_light,
    "dynamic": naive_dynamic,
    "talk": naive_talk,
    "span_dynamic": naive_span_dynamic,
}


def test_every_convolution_has_a_naive_loop():
    assert NAIVE.keys() == TEMPORAL.keys()


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("kernel_size", "dilation", "frames"), [(3, 1, 17), (3, 2, 17), (5, 3, 17), (3, 8, 17), (5, 1, 1), (3, 16, 17)]
)
def test_equals_the_naive_loop(name, causal, kernel_size, dilation, frames):
    layer = build(name, kernel_size, dilation, causal)
    features = torch.randn(2, CHANNELS, frames, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([NAIVE[name](layer, example) for example in features])
        torch.testing.assert_close(layer(features), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", NAIVE)
def test_a_causal_kernel_may_be_even(name):
    layer = build(name, kernel_size=4, dilation=2, causal=True)
    features = torch.randn(1, CHANNELS, FRAMES, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(features)[0], NAIVE[name](layer, features[0]), atol=1e-12, rtol=1e-12)
    with pytest.raises(ConfigError, match="odd kernel_size, got 4"):
        build(name, kernel_size=4)


@pytest.mark.parametrize("name", ["light", "dynamic", "talk", "span_dynamic"])
@pytest.mark.parametrize("num_heads", [1, 3, 12])
def test_heads(name, num_heads):
    layer = build(name, 3, 2, num_heads=num_heads)
    features = torch.randn(1, CHANNELS, FRAMES, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(features)[0], NAIVE[name](layer, features[0]), atol=1e-12, rtol=1e-12)


def test_tanh_gate():
    layer = build("gated", gate="tanh")
    features = torch.randn(1, CHANNELS, FRAMES, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(features)[0], naive_gated(layer, features[0]), atol=1e-12, rtol=1e-12)
    assert (layer(features) - build("gated")(features)).abs().max() > 0.1


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("dilation", [1, 4])
def test_blocks_of_a_stream_equal_the_whole(name, dilation):
    layer = build(name, 3, dilation, causal=True)
    features = torch.randn(2, CHANNELS, 40, dtype=torch.float64)
    state = State()
    with torch.no_grad():
        blocks = [layer(block, state) for block in features.split([1, 2, 20, 1, 16], dim=-1)]
        torch.testing.assert_close(torch.cat(blocks, dim=-1), layer(features), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("causal", [False, True])
def test_reach_matches_the_gradient(name, causal):
    layer = build(name, 5, 2, causal)
    features = torch.randn(1, CHANNELS, 41, dtype=torch.float64, requires_grad=True)
    layer(features)[0, :, 20].square().sum().backward()
    seen = (features.grad[0].abs().sum(0) > 1e-12).nonzero().flatten().tolist()
    # A TaLK window has its full reach only where the sigmoid is 1.
    exact = name != "talk"
    assert (min(seen) == 20 - layer.left) if exact else (min(seen) >= 20 - layer.left)
    assert (max(seen) == 20 + layer.right) if exact else (max(seen) <= 20 + layer.right)
    assert not causal or max(seen) == 20


def test_talk_reaches_its_furthest_when_the_sigmoid_is_one():
    layer = build("talk", 5, 3)
    layer.to_reach.weight.data.zero_()
    layer.to_reach.bias.data.fill_(100)
    features = torch.zeros(1, CHANNELS, 41, dtype=torch.float64)
    features[..., 20] = 1
    heard = layer(features)[0, 0].nonzero().flatten().tolist()
    assert heard == list(range(20 - layer.left, 20 + layer.right + 1))
    torch.testing.assert_close(layer(features)[0, 0, 20], torch.tensor(1 / 13, dtype=torch.float64))


def test_talk_learns_its_reach():
    layer = build("talk", 9, 2)
    features = torch.randn(1, CHANNELS, FRAMES, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda weight: torch.func.functional_call(layer, {"to_reach.weight": weight}, (features,)),
        (0.01 * torch.randn_like(layer.to_reach.weight)).requires_grad_(),
    )


def test_talk_does_not_drift_over_an_hour():
    layer = make_temporal("talk", 1, 3, 4, causal=True)
    features = 100 + torch.randn(1, 1, 900_000)
    with torch.no_grad():
        whole = layer(features)[..., -100:]
        torch.testing.assert_close(whole, layer(features[..., -1000:])[..., -100:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["light", "dynamic", "span_dynamic"])
def test_drop_connect_drops_weights_in_training_only(name):
    layer = build(name, drop_connect=0.5)
    features = torch.ones(1, CHANNELS, FRAMES, dtype=torch.float64)
    inside = slice(layer.left, -layer.right)
    # The weights of a softmax sum to 1, so a constant stays unchanged.
    torch.testing.assert_close(layer(features)[..., inside], features[..., inside])
    dropped = layer.train()(features)[..., inside]
    assert (dropped - 1).abs().max() > 0.1
    many = torch.stack([layer(features)[..., inside] for _ in range(400)]).mean()
    assert (many - 1).abs() < 0.1


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Records the number of elements of the largest tensor created in its context."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("name", NAIVE)
def test_no_tensor_grows_with_the_square_of_the_frames(name):
    layer = make_temporal(name, 8, 3, 2, causal=False)
    largest = []
    for frames in (500, 1000):
        features = torch.randn(1, 8, frames, requires_grad=True)
        with LargestTensor() as watch:
            layer(features).sum().backward()
        largest.append(watch.elements)
    assert largest[1] < 2.1 * largest[0]
    assert largest[1] < 10 * 8 * 1000


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("causal", [False, True])
def test_a_few_gradient_steps_lower_the_loss(name, causal, two_voices):
    torch.manual_seed(0)
    net = separator.ConvTasNet(
        num_filters=32,
        filter_length=32,
        bottleneck_channels=16,
        skip_channels=0,
        hidden_channels=24,
        num_blocks=3,
        num_repeats=1,
        temporal=name,
        causal=causal,
        norm="channel" if causal else "global",
    )
    sources = torch.from_numpy(two_voices)[None, :, 8000:24000]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        loss = -separator.pit(separator.si_snr, net(sources.sum(1)), sources)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in net.stack.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    ("name", "sizes", "options", "message"),
    [
        ("lite", {}, {}, "unknown temporal 'lite'.*did you mean 'light'"),
        ("talk", dict(kernel_size=1), {}, "reaches 0"),
        ("light", {}, dict(num_heads=5), "num_heads=5 does not divide the 12 channels"),
        ("light", {}, dict(num_heads=0), "does not divide"),
        ("dynamic", {}, dict(drop_connect=1.0), "probability of at least 0"),
        ("gated", {}, dict(gate="relu"), "unknown gate 'relu'"),
        ("gated", {}, dict(gat="tanh"), "temporal 'gated' has no option 'gat'.*did you mean 'gate'"),
        ("depthwise", {}, dict(gate="tanh"), "no option 'gate'; its options: padding"),
        ("span_dynamic", {}, dict(key_channels=0), "key_channels must be a whole number of at least 1"),
        ("depthwise", dict(kernel_size=3.0), {}, "kernel_size must be a whole number of at least 1, got 3.0"),
        ("light", {}, dict(drop_connect=None), "got None"),
        ("depthwise", dict(dilation=0), {}, "dilation must be a whole number of at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(name, sizes, options, message):
    with pytest.raises(ConfigError, match=message):
        make_temporal(name, **dict(num_channels=12, kernel_size=3, dilation=1, causal=False) | sizes, options=options)


@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 24, 5), (12, 5), (1, 12, 5, 1)])
def test_features_of_a_wrong_shape_are_refused(shape):
    for name in NAIVE:
        with pytest.raises(ValueError, match=r"expected features \[batch, 12, frame\]"):
            make_temporal(name, 12, 3, 1, causal=False)(torch.randn(shape))


def test_a_centred_convolution_cannot_stream():
    for name in NAIVE:
        with pytest.raises(ConfigError, match="only a causal one can stream"):
            build(name)(torch.randn(1, CHANNELS, 4, dtype=torch.float64), State())


def test_half_precision_features_stay_half_precision():
    for name in NAIVE:
        layer = make_temporal(name, 8, 3, 2, causal=False).eval()
        features = torch.randn(1, 8, 50)
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(features.bfloat16())
        assert output.dtype == torch.bfloat16, name
        assert (output - layer(features)).abs().max() < 0.1, name
        assert output.isfinite().all()
