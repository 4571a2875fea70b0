"""A small causal network, and how its streams are driven."""

import torch

import separator

CAUSAL = dict(
    sample_rate=8000,
    num_filters=40,
    filter_length=32,
    decoder_length=16,
    stride=6,
    bottleneck_channels=12,
    skip_channels=0,
    hidden_channels=16,
    num_blocks=4,
    num_repeats=2,
    causal=True,
    norm="cumulative",
    encoder_init="fourier",
    magnitude_input=True,
    mixture_consistency=True,
)


def causal(**arguments):
    torch.manual_seed(0)
    net = separator.ConvTasNet(**(CAUSAL | arguments)).eval()
    with torch.no_grad():  # away from the initial values, in which the sources are nearly alike
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def pushed(stream, mixture, sizes):
    """Everything that a stream gives for `[batch, time]` pushed in blocks of `sizes`, round and round."""
    given, start, number = [], 0, 0
    while start < mixture.shape[-1]:
        size = sizes[number % len(sizes)]
        given.append(stream.push(mixture[:, start : start + size]))
        start, number = start + size, number + 1
    return torch.cat([*given, stream.flush()], dim=-1)
