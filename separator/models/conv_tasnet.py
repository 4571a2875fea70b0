"""Conv-TasNet: encode, estimate one mask for each source, decode.

Y. Luo and N. Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech
Separation", IEEE/ACM TASLP 2019, arXiv:1809.07454. Argument names carry the paper's letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from separator import objectives
from separator.errors import ConfigError, check_whole, choose
from separator.models.filterbank import Decoder, Encoder, check_fourier, fourier_pair, log_magnitude
from separator.models.norms import make_norm
from separator.models.runtime.cpu_network import FastConvTasNet
from separator.models.runtime.network_stream import NetworkStream
from separator.models.runtime.traced_step import Step
from separator.models.state import State
from separator.models.tcn import SeparableStack, StackConfig


# Functions with a name, since a network with lambdas cannot be pickled.
def _over_sources(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=1)


def _as_they_are(coefficients: Tensor) -> Tensor:
    return coefficients


MASKS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "softmax": _over_sources}
ENCODER_ACTIVATIONS = {"linear": _as_they_are, "relu": torch.relu}
ENCODER_INITS = {"random": "learned from noise", "fourier": "windowed cosine and sine pairs"}


class ConvTasNet(nn.Module):
    """Separates `[batch, time]` into `[batch, source, time]`, for any number of samples.

    With several channels it is `[batch, channel, time]` into `[batch, source, channel, time]`: the filters are the
    same for all, the masks come from all and are each channel's own.

    Args:
        num_sources: sources to estimate (C).
        sample_rate: Hz; the rate of the waveforms it is trained on and must be given.
        num_filters: filters of the encoder (N).
        filter_length: length of a filter in samples (L).
        stride: samples from frame to frame; half of `decoder_length` if None.
        decoder_length: length of the decoder's filters in samples, `filter_length` if None. Shorter ones make
            a stream's latency shorter and leave the encoder its long look back (arXiv:2106.11794).
        bottleneck_channels: features between blocks (B).
        skip_channels: features of the skip outputs (Sc); 0 for none, the masks then come from the
            last block's features.
        hidden_channels: features inside a block (H).
        kernel_size: taps of the temporal convolution (P).
        num_blocks: blocks in a repeat, with dilations 1, 2, 4, ... (X); a list has a number for each repeat.
        num_repeats: repeats (R).
        norm: "global" (gLN), "cumulative" (the paper's cLN) or "channel" (each frame by itself).
        mask: "relu", "sigmoid" or "softmax" (over sources).
        temporal: the convolution inside a block: "depthwise" (the paper's), "gated", "light", "dynamic",
            "talk" or "span_dynamic"; see `separator.models.temporal`.
        temporal_options: further arguments of its class, such as `{"gate": "tanh"}`.
        causal: look only at the past. Needs a causal norm.
        encoder_init: "random", or "fourier" for windowed cosine and sine pairs that reconstruct exactly.
        magnitude_input: give the separator the log-magnitude of each filter pair (k, k + N/2) beside
            the coefficients.
        mixture_consistency: add to every estimate an equal share of what they lack of the mixture,
            so that they sum to it.
        sources: names of the outputs. Those called speaker1, speaker2, ... are interchangeable: training takes them in
            their best order. Every other name is a kind of its own (vocals, background) with a fixed place behind
            the speakers. speaker1, speaker2, ... if None.
        num_channels: channels of the mixture and of every source: 2 for stereo.
        encoder_activation: "linear", or "relu" for coefficients that are not negative.
        input_norm: norm of the coefficients; as `norm` if None.
        repeat_rates: for each repeat how many frames one of its frames stands for, such as [1, 4, 4, 1] for two
            repeats at a quarter of the frame rate between two at the full one; all 1 if None. Needs skip_channels=0.
        low_rate_bottleneck_channels: B in repeats at a lower rate; as in the others if None.
        low_rate_hidden_channels: H in repeats at a lower rate; as in the others if None.
        attention: after every repeat at a lower rate, self-attention over the whole recording. Not causal.
        framing: how frames lie on the recording, "full", "inside" or "mirrored": see `separator.models.filterbank`.
            Others than "full" are there for networks of other projects, and cannot stream.

    Raises:
        ConfigError: for values that contradict each other or are out of range.
    """

    def __init__(
        self,
        num_sources: int = 2,
        sample_rate: int = 16000,
        num_filters: int = 512,
        filter_length: int = 16,
        stride: int | None = None,
        decoder_length: int | None = None,
        bottleneck_channels: int = 128,
        skip_channels: int = 128,
        hidden_channels: int = 512,
        kernel_size: int = 3,
        num_blocks: int | Sequence[int] = 8,
        num_repeats: int = 3,
        norm: str = "global",
        mask: str = "sigmoid",
        temporal: str = "depthwise",
        temporal_options: Mapping[str, Any] | None = None,
        causal: bool = False,
        encoder_init: str = "random",
        magnitude_input: bool = False,
        mixture_consistency: bool = False,
        sources: Sequence[str] | None = None,
        num_channels: int = 1,
        encoder_activation: str = "linear",
        input_norm: str | None = None,
        framing: str = "full",
        repeat_rates: Sequence[int] | None = None,
        low_rate_bottleneck_channels: int | None = None,
        low_rate_hidden_channels: int | None = None,
        attention: bool = False,
    ) -> None:
        # What a checkpoint stores to build the same network again.
        self.arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        _check_sizes(self.arguments)
        decoder_length = filter_length if decoder_length is None else decoder_length
        stride = max(1, decoder_length // 2) if stride is None else stride
        speakers = [f"speaker{number + 1}" for number in range(num_sources)]
        sources = speakers if sources is None else _checked_sources(sources, num_sources)
        num_speakers = sum(name in speakers for name in sources)
        self.arguments |= {"stride": stride, "decoder_length": decoder_length, "sources": sources}
        self.arguments["temporal_options"] = dict(temporal_options or {})
        for name in ("num_blocks", "repeat_rates"):  # as they are in a file
            if isinstance(self.arguments[name], Sequence):
                self.arguments[name] = list(self.arguments[name])
        _check(self.arguments)
        self.sources, self.sample_rate = tuple(sources), sample_rate
        # How many of the first sources are alike, so that only the estimates' best order says which is which.
        self.num_interchangeable = num_speakers if num_speakers > 1 else 0
        self.num_sources, self.num_channels, self.causal = num_sources, num_channels, causal
        self.magnitude_input, self.mixture_consistency = magnitude_input, mixture_consistency

        self.encoder = Encoder(num_filters, filter_length, stride, decoder_length, framing)
        self.rectify = choose("encoder_activation", encoder_activation, ENCODER_ACTIVATIONS)
        self.norm = make_norm(input_norm or norm, num_channels * num_filters)
        self.magnitude_norm = make_norm(norm, num_channels * num_filters // 2) if magnitude_input else None
        num_features = num_channels * (num_filters + num_filters // 2 * magnitude_input)
        self.bottleneck = nn.Linear(num_features, bottleneck_channels)
        names = [item.name for item in fields(StackConfig)]
        self.stack = SeparableStack(StackConfig(**{name: self.arguments[name] for name in names}))
        self.prelu = nn.PReLU()
        self.to_masks = nn.Linear(skip_channels or bottleneck_channels, num_channels * num_sources * num_filters)
        self.activate = choose("mask", mask, MASKS)
        self.decoder = Decoder(num_filters, decoder_length, stride, framing)
        choose("encoder_init", encoder_init, ENCODER_INITS)
        if encoder_init == "fourier":
            check_fourier(num_filters, filter_length)
            if not self.encoder.weight.is_meta:  # where nothing has a value
                analysis, synthesis = fourier_pair(num_filters, filter_length, stride, decoder_length)
                self.encoder.weight.data.copy_(analysis)
                self.decoder.weight.data.copy_(synthesis)

    def forward(self, mixture: Tensor, state: State | None = None) -> Tensor:
        """`[batch, time]` -> `[batch, source, time]`; with several channels, `[batch, channel, time]` likewise.

        With a state the mixture is the next block of a stream, some strides long, and the output that of the
        `decoder.delay` samples before; `stream` takes blocks of any length.
        """
        _check_waveform(mixture, self.num_channels)
        rows = mixture.flatten(0, -2)  # filters know of no channels: [batch x channel, time]
        coefficients = self.rectify(self.encoder(rows, state))
        masks = self.estimate_masks(coefficients, state)
        estimates = self.decode(masks, coefficients, rows, state)
        return estimates if mixture.ndim == 2 else estimates.unflatten(0, mixture.shape[:2]).transpose(1, 2)

    def estimate_masks(self, coefficients: Tensor, state: State | None = None) -> Tensor:
        """`[batch x channel, frame, filter]` -> `[batch x channel, source, frame, filter]`."""
        features = self.norm(self._side_by_side(coefficients), state)
        if self.magnitude_norm is not None:
            # The filters learn from the coefficients alone: the gradient through the logarithm of a quiet one is
            # huge, and all noise.
            magnitudes = self._side_by_side(log_magnitude(coefficients.detach()))
            features = torch.cat([features, self.magnitude_norm(magnitudes, state)], dim=-1)
        features = self.stack(self.bottleneck(features), state)
        scores = self.to_masks(self.prelu(features)).unflatten(-1, (self.num_channels, self.num_sources, -1))
        return self.activate(scores.permute(0, 2, 3, 1, 4).flatten(0, 1))

    def _side_by_side(self, coefficients: Tensor) -> Tensor:
        """`[batch x channel, frame, filter]` -> `[batch, frame, channel x filter]`."""
        if self.num_channels == 1:
            return coefficients
        return coefficients.unflatten(0, (-1, self.num_channels)).transpose(1, 2).flatten(2)

    def decode(self, masks: Tensor, coefficients: Tensor, mixture: Tensor, state: State | None = None) -> Tensor:
        """Masked coefficients of `mixture` `[batch, time]` -> `[batch, source, time]`."""
        time = mixture.shape[-1]
        estimates = self.decoder(masks.to(coefficients.dtype) * coefficients.unsqueeze(1), time, state)
        return self.consistent(estimates, mixture, state)

    def consistent(self, estimates: Tensor, mixture: Tensor, state: State | None = None) -> Tensor:
        """Estimates `[batch, source, time]` that sum to `mixture` `[batch, time]`, if the network promises that."""
        if not self.mixture_consistency:
            return estimates
        if state is not None:
            mixture = state.with_past(self, mixture, self.decoder.delay)[:, : mixture.shape[-1]]
        return objectives.mixture_consistency(estimates, mixture)

    def separate_channels(self, mixture: Tensor, weights: Tensor, state: State | None = None) -> Tensor:
        """`[batch, channel, time]` -> `[batch, channel, source, time]`, with masks that are the same for all channels.

        They come from the sum of the channels, each times its weight in `[batch, channel]`. A network of several
        channels takes as many, and has its own masks for each.
        """
        rows = mixture.flatten(0, 1)
        encoded = self.encoder(rows, state)
        coefficients = heard = self.rectify(encoded)
        if self.num_channels == 1:
            # The encoder is linear: the downmix can as well be made of its output.
            heard = self.rectify((encoded.unflatten(0, weights.shape) * weights[..., None, None]).sum(1))
        masks = self.estimate_masks(heard, state)
        if self.num_channels == 1 and len(masks) > 1:
            masks = masks.repeat_interleave(mixture.shape[1], dim=0)
        return self.decode(masks, coefficients, rows, state).unflatten(0, weights.shape)

    def stream(self, step: Step | None = None) -> NetworkStream:
        """A stream through this network, with a memory of its own; `step` in the place of `forward` if given.

        Short blocks go about twice as fast after `net.eval().requires_grad_(False)`.

        Raises `StreamError` if the network is not causal, or its framing is not "full".
        """
        return NetworkStream(self, step)

    def fast(self, dtype: torch.dtype = torch.float32) -> FastConvTasNet:
        """The same function for whole recordings on a processor, in half of the time and less; bfloat16 is faster yet.

        Raises `ConfigError` if the network is of a kind that has no such form, see `models.runtime.cpu_network`.
        """
        return FastConvTasNet(self, dtype)

    @property
    def interchangeable(self) -> bool:
        """Whether some of the sources are alike; `num_interchangeable` says how many of the first."""
        return self.num_interchangeable > 0

    @property
    def can_stream(self) -> bool:
        """Whether `stream` takes it: causal, and with frames that do not depend on where the recording ends."""
        return self.causal and self.encoder.framing == "full"

    @property
    def receptive_field(self) -> ReceptiveField:
        """What one sample of the output sees of the mixture through filters and convolutions, exactly.

        Norms are left out: a global one lets every sample see the whole recording, a cumulative one all before.
        For temporal="talk", whose reach is predicted, the most that it can see.
        """
        stride, length = self.encoder.stride, self.encoder.filter_length
        # A sample lies in the windows of so many frames at most, each of which sees frames around it.
        frames = self.stack.reach(-(-self.decoder.filter_length // stride))
        samples = (frames - 1) * stride + length
        return ReceptiveField(self.stack.receptive_field, samples, samples / self.sample_rate)


class ReceptiveField(NamedTuple):
    """Frames that a frame's masks depend on; samples, and their seconds, that a sample of the output depends on."""

    frames: int
    samples: int
    seconds: float


def _check_waveform(mixture: Tensor, num_channels: int) -> None:
    channels = [] if num_channels == 1 else [num_channels]
    if mixture.ndim != 2 + len(channels) or list(mixture.shape[1:-1]) != channels or mixture.shape[-1] == 0:
        expected = ", ".join(map(str, ["batch", *channels, "time"]))
        raise ValueError(f"expected a mixture [{expected}] with at least one sample, got {list(mixture.shape)}")


def _check_sizes(arguments: dict) -> None:
    sizes = ["num_sources", "sample_rate", "num_filters", "filter_length", "stride", "decoder_length"]
    sizes += ["bottleneck_channels", "hidden_channels", "kernel_size", "num_repeats", "num_channels"]
    for name in sizes:
        if arguments[name] is not None or name not in ("stride", "decoder_length"):
            check_whole(name, arguments[name])
    check_whole("skip_channels", arguments["skip_channels"], least=0)


def _checked_sources(sources: Sequence[str], num_sources: int) -> list[str]:
    if isinstance(sources, str) or len(sources) != num_sources or len(set(sources)) != len(sources):
        raise ConfigError(f"expected {num_sources} different source names, got {sources!r}")
    for name in sources:
        if not isinstance(name, str) or not name.isprintable() or name[:1] in ("", ".") or set(name) & set("/\\"):
            raise ConfigError(f"source name {name!r} cannot be part of a file name")
    speakers = [name for name in sources if re.fullmatch(r"speaker\d+", name, re.IGNORECASE)]
    wanted = [f"speaker{number + 1}" for number in range(len(speakers))]
    if list(sources[: len(speakers)]) != wanted:
        raise ConfigError(
            f"sources={list(sources)}: speakers are interchangeable, and come first as {', '.join(wanted)}; write "
            f"[{', '.join([*wanted, *(name for name in sources if name not in speakers)])}], or give them other names"
        )
    return list(sources)


def _check(arguments: dict) -> None:
    """Raises `ConfigError` for what no network can be built from; unknown names are refused where they are used."""
    if not arguments["stride"] <= arguments["decoder_length"] <= arguments["filter_length"]:
        raise ConfigError(
            f"stride={arguments['stride']} must not be longer than decoder_length={arguments['decoder_length']}, nor "
            f"that longer than filter_length={arguments['filter_length']}: samples would be lost"
        )
    if arguments["framing"] != "full" and arguments["decoder_length"] != arguments["filter_length"]:
        raise ConfigError(
            f"framing={arguments['framing']!r} goes with a decoder_length that is filter_length="
            f"{arguments['filter_length']}, got {arguments['decoder_length']}"
        )
    if arguments["causal"] and "global" in (arguments["norm"], arguments["input_norm"]):
        raise ConfigError(
            "causal=True cannot use norm='global', whose statistics need the whole recording: "
            "use norm='cumulative' or norm='channel'"
        )
    if arguments["causal"] and arguments["num_channels"] > 1:
        raise ConfigError(
            f"causal=True goes with num_channels=1, got {arguments['num_channels']}: a stream's masks are for all "
            "channels alike"
        )
    if arguments["magnitude_input"] and arguments["num_filters"] % 2:
        raise ConfigError(
            f"magnitude_input pairs the filters: num_filters must be even, got {arguments['num_filters']}"
        )
    if arguments["num_sources"] == 1 and (arguments["mixture_consistency"] or arguments["mask"] == "softmax"):
        raise ConfigError(
            "mixture_consistency=True and mask='softmax' share the mixture out between sources: with num_sources=1 "
            "the only one would be all of it"
        )
