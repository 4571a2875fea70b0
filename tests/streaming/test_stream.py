"""A stream gives the same samples as the whole recording at once."""

import numpy as np
import pytest
import torch
from causal import causal, pushed

import separator
from separator.errors import AudioError, ConfigError, StreamError
from separator.models import State
from separator.models.temporal import TEMPORAL


def test_a_state_needs_whole_strides():
    with pytest.raises(ValueError, match=r"stride of 6 samples, got 7 samples; net.stream\(\) takes any"):
        causal()(torch.zeros(1, 7), State())


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("norm", ["cumulative", "channel"])
@pytest.mark.parametrize("skip_channels", [0, 8])
def test_streamed_equals_offline(temporal, norm, skip_channels):
    net = causal(temporal=temporal, norm=norm, skip_channels=skip_channels)
    mixture = 0.3 * torch.randn(2, 4001)
    sizes = torch.randint(1, 400, (50,)).tolist()
    with torch.no_grad():
        torch.testing.assert_close(pushed(net.stream(), mixture, sizes), net(mixture), atol=1e-5, rtol=0)


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_streamed_equals_offline_on_minutes(temporal):
    net = causal(temporal=temporal, num_repeats=1)
    torch.manual_seed(1)
    # Three minutes that start quiet and end loud.
    mixture = torch.randn(1, 8000 * 180) * torch.linspace(0.001, 0.5, 8000 * 180)
    sizes = torch.randint(1, 60000, (50,)).tolist()
    with torch.no_grad():
        torch.testing.assert_close(pushed(net.stream(), mixture, sizes), net(mixture), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "shape",
    [
        dict(filter_length=16, stride=8, decoder_length=16),
        dict(filter_length=16, stride=16, decoder_length=16),
        dict(filter_length=15, stride=4, decoder_length=15),
        dict(filter_length=32, stride=8, decoder_length=8),
        dict(mixture_consistency=False),
    ],
)
@pytest.mark.parametrize("sizes", [[1], [5, 1, 0, 33], [100_000]])
@pytest.mark.parametrize("time", [1, 7, 16, 300])
def test_any_block_and_filter_sizes(shape, sizes, time):
    net = causal(**shape)
    mixture = torch.randn(1, time)
    with torch.no_grad():
        torch.testing.assert_close(pushed(net.stream(), mixture, sizes), net(mixture), atol=1e-5, rtol=0)


@pytest.mark.parametrize("temporal", TEMPORAL)
@pytest.mark.parametrize("norm", ["cumulative", "channel"])
def test_no_sample_depends_on_one_after_its_window(temporal, norm):
    """Checked with gradients and by changing future samples, in float64."""
    net = causal(temporal=temporal, norm=norm).double()
    mixture = torch.randn(1, 600, dtype=torch.float64, requires_grad=True)
    estimate = net(mixture)
    latency = net.stream().latency_samples
    for sample in range(300, 306):
        (gradient,) = torch.autograd.grad(estimate[0, :, sample].square().sum(), mixture, retain_graph=True)
        assert int((gradient[0].abs() > 1e-12).nonzero().max()) < sample + latency
    changed = mixture.detach().clone()
    changed[:, 400:] += 1
    after = net(changed)
    torch.testing.assert_close(after[..., : 401 - latency], estimate[..., : 401 - latency], atol=1e-12, rtol=0)
    assert (after[..., 400:] - estimate[..., 400:]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [{}, dict(decoder_length=32, stride=16), dict(decoder_length=8, stride=8)])
def test_latency_is_the_longest_delay_of_a_sample(shape):
    net = causal(**shape)
    stream, given, longest = net.stream(), 0, 0
    for time in range(1, 301):
        given += stream.push(torch.randn(1, 1)).shape[-1]
        # `time` samples were pushed, but output sample number `given`, counted from 0, is not returned yet.
        longest = max(longest, time - given)
    assert longest + 1 == stream.latency_samples


def test_streams_of_one_network_are_independent():
    net = causal()
    mixtures = torch.randn(2, 1, 2000)
    first, second = net.stream(), net.stream()
    parts = [[], []]
    for start in range(0, 2000, 170):
        for index, stream in enumerate((first, second)):
            parts[index].append(stream.push(mixtures[index][:, start : start + 170]))
    with torch.no_grad():
        for index, stream in enumerate((first, second)):
            together = torch.cat([*parts[index], stream.flush()], dim=-1)
            torch.testing.assert_close(together, net(mixtures[index]), atol=1e-5, rtol=0)
    assert not any(isinstance(value, torch.Tensor) for value in vars(net).values())


def test_memory_of_a_stream_does_not_grow():
    stream = causal().stream()

    def remembered():
        leaves = torch.utils._pytree.tree_leaves(list(stream._state._memory.values()))
        return sum(leaf.untyped_storage().nbytes() for leaf in leaves if isinstance(leaf, torch.Tensor))

    sizes = []
    for _ in range(30):
        stream.push(torch.randn(1, 240))
        sizes.append(remembered())
    assert len(set(sizes[2:])) == 1


def test_the_caller_may_reuse_the_memory_of_a_block():
    net = causal()
    mixture = 0.3 * torch.randn(1, 400)
    stream, buffer, given = net.stream(), torch.empty(1, 5), []
    for start in range(0, 400, 5):
        buffer.copy_(mixture[:, start : start + 5])
        given.append(stream.push(buffer))
        buffer.fill_(9.0)
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([*given, stream.flush()], -1), net(mixture), atol=1e-5, rtol=0)


@pytest.mark.parametrize("temporal", TEMPORAL)
def test_a_long_block_is_not_kept(temporal):
    net = causal(temporal=temporal, norm="cumulative")
    stream = net.stream()
    stream.push(torch.randn(1, 80_000))
    held = sum(tensor.untyped_storage().nbytes() for tensor in [*stream._state.tensors(), stream._pending])
    assert held < 2**18
    assert all(tensor.untyped_storage().nbytes() <= 2**16 for tensor in stream._state.tensors())


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (torch.zeros(1, 30, dtype=torch.int16), "expected a block of dtype torch.float32"),
        (torch.zeros(1, 30, dtype=torch.float64), "expected a block of dtype torch.float32"),
        (torch.full((1, 30), torch.nan), "expected finite samples"),
        (torch.zeros(30), "expected a block"),
        ([0.0] * 30, "expected a Tensor, got list"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_refused_block_does_not_change_a_network_stream(block, message, first):
    net = causal()
    mixture = 0.3 * torch.randn(1, 100)
    stream = net.stream()
    given = [] if first else [stream.push(mixture[:, :33])]
    with pytest.raises(ValueError, match=message):
        stream.push(block)
    given += [stream.push(mixture[:, 0 if first else 33 :]), stream.flush()]
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(given, -1), net(mixture), atol=1e-5, rtol=0)


def test_the_output_of_a_stream_is_an_ordinary_tensor():
    stream = causal().stream()
    for estimate in (stream.push(torch.randn(1, 50)), stream.flush()):
        assert not estimate.is_inference()


def test_a_network_that_looks_ahead_cannot_be_streamed():
    with pytest.raises(StreamError, match="looks ahead and cannot stream"):
        separator.ConvTasNet(num_blocks=1, num_repeats=1).stream()
    with pytest.raises(ConfigError, match="need the whole recording"):
        causal(norm="global")


def test_use_after_the_end_and_wrong_blocks_are_refused():
    stream = causal().stream()
    with pytest.raises(StreamError, match="no block was pushed"):
        stream.flush()
    with pytest.raises(ValueError, match=r"expected a block \[batch, time\], got \[5\]"):
        stream.push(torch.zeros(5))
    stream.push(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"expected a block \[2, time\], got \[1, 5\]"):
        stream.push(torch.zeros(1, 5))
    assert stream.flush().shape == (2, 2, 5)
    with pytest.raises(StreamError, match="was flushed"):
        stream.push(torch.zeros(2, 5))
    with pytest.raises(StreamError, match="was flushed before"):
        stream.flush()


def test_a_stream_of_nothing_gives_nothing():
    stream = causal().stream()
    assert stream.push(torch.zeros(1, 0)).shape == (1, 2, 0)
    assert stream.flush().shape == (1, 2, 0)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "causal.safetensors"
    separator.save(causal(), path)
    return separator.Separator(path)


def blocks(waveform, seed=0, longest=3000):
    generator = np.random.default_rng(seed)
    start = 0
    while start < waveform.shape[-1]:
        size = int(generator.integers(0, longest))
        yield waveform[..., start : start + size]
        start += size


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 11025, 6000])
@pytest.mark.parametrize("shape", [(30_000,), (1, 30_000), (2, 30_000)])
@pytest.mark.parametrize("kind", [np.float32, torch.float64])
def test_stems_of_a_stream_equal_those_of_the_recording(live, rate, shape, kind):
    waveform = 0.2 * np.random.default_rng(3).standard_normal(shape)
    waveform = torch.tensor(waveform, dtype=kind) if isinstance(kind, torch.dtype) else waveform.astype(kind)
    whole = live.separate(waveform, rate)
    with live.stream(rate) as stream:
        given = [stream.push(block) for block in blocks(waveform)] + [stream.flush()]
    assert all(type(block) is type(waveform) and block.dtype == waveform.dtype for block in given)
    together = np.concatenate([np.asarray(block) for block in given], axis=-1)
    assert together.shape == (2, *shape)
    for stem, expected in zip(together, whole.values(), strict=True):
        np.testing.assert_allclose(stem, np.asarray(expected), atol=1e-5)


def test_a_causal_model_separates_a_long_recording_without_joins(live, two_voices):
    mixture = two_voices.sum(0)[::2]
    short = separator.Separator.__new__(separator.Separator)
    vars(short).update(vars(live) | {"_segment_seconds": 0.1})
    for name, stem in live.separate(mixture, 8000).items():
        np.testing.assert_allclose(stem, short.separate(mixture, 8000)[name], atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 22050])
def test_latency_counts_the_resampling(live, rate):
    stream = live.stream(rate)
    given, longest = 0, 0
    for time in range(0, rate * 2, rate // 100):
        longest = max(longest, time - given)
        given += stream.push(np.zeros(rate // 100, np.float32)).shape[-1]
    block = rate // 100
    # A block is pushed when its last sample is known. This delay is not part of the stream's latency.
    assert stream.latency * rate - block < longest + block <= stream.latency * rate + 2 * block
    assert live.stream(8000).latency == 16 / 8000


def test_a_refused_block_changes_nothing(live):
    waveform = 0.2 * np.random.default_rng(3).standard_normal(4000).astype(np.float32)
    stream = live.stream()
    given = [stream.push(waveform[:1000])]
    for bad, message in [
        (waveform[:10] * np.nan, "block: contains samples that are NaN, infinite or beyond"),
        (waveform[:10].astype(np.int16), "floating-point"),
        (waveform[None, :10], r"expected a block \['time'\] like the earlier blocks, got \[1, 'time'\]"),
        (np.zeros((2, 10), np.float32), "do not change the number of channels"),
        ([0.0], "expected a Tensor or an ndarray"),
    ]:
        with pytest.raises(AudioError, match=message):
            stream.push(bad)
    given += [stream.push(waveform[1000:]), stream.flush()]
    expected = np.stack(list(live.separate(waveform, 8000).values()))
    np.testing.assert_allclose(np.concatenate(given, axis=-1), expected, atol=1e-5)


def test_a_stream_cannot_be_used_after_its_end(live):
    with live.stream() as stream:
        stream.push(np.zeros(10, np.float32))
        assert stream.flush().shape == (2, 10)
        with pytest.raises(StreamError, match="was flushed; start a new stream"):
            stream.push(np.zeros(10, np.float32))
        with pytest.raises(StreamError, match="nothing to flush: the stream was flushed"):
            stream.flush()
    with live.stream() as stream, pytest.raises(StreamError, match="never given a block"):
        stream.flush()
    with pytest.raises(StreamError, match="was closed"):
        stream.push(np.zeros(10, np.float32))
    with pytest.raises(AudioError, match="sample rate in Hz"):
        live.stream(0)


def test_a_model_that_looks_ahead_is_refused(tiny):
    with pytest.raises(StreamError, match="default-causal"):
        tiny.stream()


def test_streams_in_threads(live):
    from concurrent.futures import ThreadPoolExecutor

    waveforms = [0.2 * np.random.default_rng(seed).standard_normal(8000).astype(np.float32) for seed in range(4)]

    def run(waveform):
        stream = live.stream()
        return np.concatenate([*(stream.push(block) for block in blocks(waveform)), stream.flush()], axis=-1)

    with ThreadPoolExecutor(4) as pool:
        for waveform, stems in zip(waveforms, pool.map(run, waveforms), strict=True):
            expected = np.stack(list(live.separate(waveform, 8000).values()))
            np.testing.assert_allclose(stems, expected, atol=1e-5)


def test_a_stream_equals_the_recording_without_mixture_consistency(tmp_path):
    """The stems of such a model keep the network's level, because a stream cannot wait for a gain of the whole."""
    separator.save(causal(mixture_consistency=False), tmp_path / "causal.safetensors")
    model = separator.Separator(tmp_path / "causal.safetensors")
    waveform = 0.2 * np.random.default_rng(3).standard_normal(20_000).astype(np.float32)
    with model.stream() as stream:
        given = [stream.push(block) for block in blocks(waveform)] + [stream.flush()]
    expected = np.stack(list(model.separate(waveform, 8000).values()))
    np.testing.assert_allclose(np.concatenate(given, axis=-1), expected, atol=1e-5)
