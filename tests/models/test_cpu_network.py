import subprocess
import sys

import pytest
import torch

import separator
from separator.errors import ConfigError
from separator.models import conv_tasnet
from separator.models.runtime import cpu_kernels, cpu_network, products

SMALL = dict(
    num_filters=48, filter_length=16, bottleneck_channels=24, skip_channels=20, hidden_channels=40, num_blocks=5
)
VARIANTS = [
    {},
    {"mask": "relu", "skip_channels": 0, "mixture_consistency": True},
    {"mask": "softmax", "magnitude_input": True, "encoder_init": "fourier", "num_filters": 64},
    {"kernel_size": 5, "num_sources": 3, "num_repeats": 1},
    {"num_blocks": 1, "num_repeats": 1},
    {"skip_channels": 0, "num_repeats": 4, "num_blocks": [2, 3, 1, 2], "repeat_rates": [1, 4, 4, 1]},
    {
        **{"skip_channels": 0, "num_repeats": 3, "num_blocks": 2, "repeat_rates": [3, 1, 2], "attention": True},
        **{"low_rate_bottleneck_channels": 96, "low_rate_hidden_channels": 50, "mixture_consistency": True},
    },
]
each_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(params=["native", "torch", "plain"])
def passes(request, monkeypatch):
    """Run with the compiled functions, without them, and also without oneDNN's fused operations."""
    if request.param == "native":
        if cpu_kernels.library() is None:
            pytest.skip("no compiler here")
        return
    monkeypatch.setattr(cpu_kernels, "library", lambda: None)
    if request.param == "plain":
        monkeypatch.setattr(products, "has_fused", lambda dtype: False)
        monkeypatch.setattr(cpu_network, "has_fused", lambda dtype: False)


def network(**arguments):
    torch.manual_seed(0)
    net = separator.ConvTasNet(**(SMALL | arguments)).eval().requires_grad_(False)
    for parameter in net.parameters():  # the initial values are the same for all norms
        parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def agreement(estimate, reference):
    return float(10 * torch.log10(reference.square().sum() / (estimate - reference).square().sum()))


@each_variant
@pytest.mark.parametrize("num_samples", [1, 7, 333, 50_000])
def test_the_fast_form_equals_the_network(passes, variant, num_samples):
    net, mixture = network(**variant), 0.1 * torch.randn(2, num_samples)
    estimate = net.fast()(mixture)
    assert estimate.shape == net(mixture).shape and agreement(estimate, net(mixture)) > 100


@each_variant
def test_bfloat16_is_close_to_float32(passes, variant):
    net, mixture = network(**variant), 0.1 * torch.randn(1, 20_000)
    assert agreement(net.fast(torch.bfloat16)(mixture), net(mixture)) > 35


@each_variant
def test_several_channels_share_their_masks(variant):
    net, mixture = network(**variant), 0.1 * torch.randn(2, 3, 5000)
    weights = torch.tensor([[0.5, -0.25, 0.25], [0.2, 0.3, 0.5]])
    expected = net.separate_channels(mixture, weights)
    assert expected.shape == (2, 3, net.num_sources, 5000)
    for item, own, alone in zip(mixture, weights, expected, strict=True):
        assert agreement(net.separate_channels(item[None], own[None])[0], alone) > 100
    assert agreement(net.fast().separate_channels(mixture, weights), expected) > 100


def test_tiles_make_no_difference(passes, monkeypatch):
    net, mixture = network(), 0.1 * torch.randn(1, 20_000)
    monkeypatch.setattr(cpu_network, "TILE_FRAMES", 100)  # shorter than some reach
    monkeypatch.setattr(cpu_network, "MASK_FRAMES", 7)
    assert agreement(net.fast()(mixture), net(mixture)) > 100


def test_norm_weights_of_zero_are_handled(passes):
    net, mixture = network(), 0.1 * torch.randn(1, 3000)
    for block in net.stack.blocks:
        block.norm1.weight[:10] = 0
        block.norm2.weight[:10] = 0
    assert agreement(net.fast()(mixture), net(mixture)) > 80
    assert agreement(net.fast(torch.bfloat16)(mixture), net(mixture)) > 30


def test_silence_stays_silent(passes):
    net = network()
    assert (net.fast()(torch.zeros(1, 3000)) == 0).all()


def test_results_are_equal_for_equal_thread_counts_and_close_otherwise(tmp_path):
    """Our own sums have a fixed order. On CPUs with only AVX2, oneDNN's order depends on the number of threads."""
    net = network()
    separator.save(net, tmp_path / "net.safetensors")
    code = f"""
import sys, torch, separator
torch.set_num_threads(int(sys.argv[1]))
net = separator.load({str(tmp_path / "net.safetensors")!r}).requires_grad_(False)
mixture = torch.sin(torch.arange(60_000.0) ** 1.5)[None]
torch.save([net.fast()(mixture), net.fast(torch.bfloat16)(mixture)], sys.argv[2])
"""

    # In separate processes, because MKL keeps a state after running with more threads than cores.
    def run(threads, name):
        subprocess.run([sys.executable, "-c", code, threads, str(tmp_path / name)], check=True, timeout=60)
        return torch.load(tmp_path / name)

    found = {threads: [run(threads, "first"), run(threads, "again")] for threads in ("1", "2")}
    for first, again in found.values():
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    (one, _), (two, _) = found.values()
    assert agreement(one[0], two[0]) > 100 and agreement(one[1], two[1]) > 30


@pytest.mark.parametrize(
    "arguments",
    [
        {"norm": "channel"},
        {"norm": "cumulative", "causal": True},
        {"temporal": "gated"},
        {"temporal": "light"},
        {"num_channels": 2},
    ],
)
def test_other_networks_are_refused(arguments):
    with pytest.raises(ConfigError, match="use the network itself"):
        network(**arguments).fast()


def test_a_network_with_a_new_mask_has_no_fast_form(monkeypatch):
    """A newly added mask is not among the activations that a product supports."""
    monkeypatch.setitem(conv_tasnet.MASKS, "tanh", torch.tanh)
    net = network(mask="tanh")
    assert not cpu_network.is_supported(net)
    with pytest.raises(ConfigError, match=r"has no fast form.*use the network itself"):
        net.fast()


def test_a_failing_compiler_is_tolerated(tmp_path):
    (tmp_path / "cc").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    code = "from separator.models.runtime import cpu_kernels; assert cpu_kernels.library() is None"
    subprocess.run([sys.executable, "-c", code], env={"PATH": str(tmp_path)}, check=True, timeout=60)


def test_a_library_with_wrong_results_is_not_used(tmp_path):
    source = tmp_path / "wrong.c"
    source.write_text(cpu_kernels.SOURCE.read_text().replace("2 * step", "1 * step"))
    cpu_kernels.library.cache_clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu_kernels, "SOURCE", source)
            assert cpu_kernels.library() is None
    finally:
        cpu_kernels.library.cache_clear()


def test_the_library_keeps_denormal_numbers():
    """A library linked with -ffast-math would set denormal numbers to 0 in the whole process from then on."""
    cpu_kernels.library()
    assert float(torch.tensor(1e-40) + torch.tensor(1e-40)) > 0
