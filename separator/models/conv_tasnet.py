"""Conv-TasNet: encode, estimate one mask for each source, decode.

Y. Luo and N. Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech
Separation", IEEE/ACM TASLP 2019, arXiv:1809.07454. The argument descriptions give the paper's letters.
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


# Named functions, because a network with lambdas cannot be pickled.
def _softmax_over_sources(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=1)


def _identity(coefficients: Tensor) -> Tensor:
    return coefficients


MASKS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "softmax": _softmax_over_sources}
ENCODER_ACTIVATIONS = {"linear": _identity, "relu": torch.relu}
ENCODER_INITS = {"random": "learned from noise", "fourier": "windowed cosine and sine pairs"}


class ConvTasNet(nn.Module):
    """Separate a mixture `[batch, time]` of any length into `[batch, source, time]`.

    With several channels, `[batch, channel, time]` becomes `[batch, source, channel, time]`. All channels share the
    filters. The masks are computed from all channels, and each channel has its own masks.

    Args:
        num_sources: number of sources to estimate (C).
        sample_rate: rate of the waveforms in Hz, in training and in use.
        num_filters: filters of the encoder (N).
        filter_length: length of a filter in samples (L).
        stride: hop from frame to frame in samples. Half of `decoder_length` if None.
        decoder_length: length of the decoder's filters in samples, `filter_length` if None. Shorter filters lower the
            latency of a stream, while the encoder keeps its long window (arXiv:2106.11794).
        bottleneck_channels: features between blocks (B).
        skip_channels: features of the skip outputs (Sc). With 0, the masks come from the last block's features.
        hidden_channels: features inside a block (H).
        kernel_size: taps of the temporal convolution (P).
        num_blocks: blocks in a repeat, with dilations 1, 2, 4, ... (X). A list has one number for each repeat.
        num_repeats: repeats (R).
        norm: "global" (gLN), "cumulative" (the paper's cLN) or "channel" (each frame by itself).
        mask: "relu", "sigmoid" or "softmax" (over sources).
        temporal: the convolution inside a block: "depthwise" (the paper's), "gated", "light", "dynamic",
            "talk" or "span_dynamic". See `separator.models.temporal`.
        temporal_options: further arguments of the convolution's class, such as `{"gate": "tanh"}`.
        causal: use only past samples. Needs a causal norm.
        encoder_init: "random", or "fourier" for windowed cosine and sine pairs that reconstruct exactly.
        magnitude_input: also give the separator the log-magnitude of each filter pair (k, k + N/2).
        mixture_consistency: give each estimate an equal share of the difference between the mixture and the sum of the
            estimates, so that they sum to the mixture.
        sources: names of the outputs, by default speaker1, speaker2, ... Sources with such names are interchangeable:
            training uses their best order. Any other source (vocals, background) has a fixed place after the speakers.
        num_channels: channels of the mixture and of every source, such as 2 for stereo.
        encoder_activation: "linear", or "relu" for coefficients that are not negative.
        input_norm: norm of the coefficients. Same as `norm` if None.
        repeat_rates: for each repeat, how many frames are grouped into one. For example, [1, 4, 4, 1] runs the two
            middle repeats at a quarter of the frame rate. All 1 if None. Needs skip_channels=0.
        low_rate_bottleneck_channels: B in repeats at a lower rate. Same as in the others if None.
        low_rate_hidden_channels: H in repeats at a lower rate. Same as in the others if None.
        attention: add self-attention over the whole recording after each repeat at a lower rate. Not causal.
        framing: how frames lie on the recording: "full", "inside" or "mirrored" (see `separator.models.filterbank`).
            The last two are for networks of other projects. They cannot stream.

    Raises:
        ConfigError: if values contradict each other or are out of range.

    Example:
        >>> from separator import ConvTasNet
        >>> net = ConvTasNet(num_filters=16, bottleneck_channels=8, skip_channels=8, hidden_channels=16, num_blocks=2)
        >>> net(torch.zeros(1, 1000)).shape
        torch.Size([1, 2, 1000])
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
        # A checkpoint stores these to build the same network again.
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
        for name in ("num_blocks", "repeat_rates"):  # lists, as in a file
            if isinstance(self.arguments[name], Sequence):
                self.arguments[name] = list(self.arguments[name])
        _check(self.arguments)
        self.sources, self.sample_rate = tuple(sources), sample_rate
        # How many of the first sources are interchangeable: only the best order of the estimates tells them apart.
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
            if not self.encoder.weight.is_meta:  # a network without weights has no values to set
                analysis, synthesis = fourier_pair(num_filters, filter_length, stride, decoder_length)
                self.encoder.weight.data.copy_(analysis)
                self.decoder.weight.data.copy_(synthesis)

    def forward(self, mixture: Tensor, state: State | None = None) -> Tensor:
        """Separate `[batch, time]` into `[batch, source, time]`. Several channels: see the class.

        With a state, the mixture is the next block of a stream, a multiple of the stride long. The output then belongs
        to the samples `decoder.delay` earlier. For blocks of any length, use `stream`.
        """
        _check_waveform(mixture, self.num_channels)
        rows = mixture.flatten(0, -2)  # the filters treat channels as batch: [batch x channel, time]
        coefficients = self.rectify(self.encoder(rows, state))
        masks = self.estimate_masks(coefficients, state)
        estimates = self.decode(masks, coefficients, rows, state)
        return estimates if mixture.ndim == 2 else estimates.unflatten(0, mixture.shape[:2]).transpose(1, 2)

    def estimate_masks(self, coefficients: Tensor, state: State | None = None) -> Tensor:
        """Estimate masks: `[batch x channel, frame, filter]` -> `[batch x channel, source, frame, filter]`."""
        features = self.norm(self._side_by_side(coefficients), state)
        if self.magnitude_norm is not None:
            # Detached: the gradient through the logarithm of a quiet coefficient is huge and only noise. So the
            # filters learn from the coefficients alone.
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
        """Decode masked coefficients of `mixture` `[batch, time]` -> `[batch, source, time]`."""
        time = mixture.shape[-1]
        estimates = self.decoder(masks.to(coefficients.dtype) * coefficients.unsqueeze(1), time, state)
        return self.consistent(estimates, mixture, state)

    def consistent(self, estimates: Tensor, mixture: Tensor, state: State | None = None) -> Tensor:
        """Make estimates `[batch, source, time]` sum to `mixture` `[batch, time]`, if `mixture_consistency` is on."""
        if not self.mixture_consistency:
            return estimates
        if state is not None:
            mixture = state.with_past(self, mixture, self.decoder.delay)[:, : mixture.shape[-1]]
        return objectives.mixture_consistency(estimates, mixture)

    def separate_channels(self, mixture: Tensor, weights: Tensor, state: State | None = None) -> Tensor:
        """Separate every channel with the same masks: `[batch, channel, time]` -> `[batch, channel, source, time]`.

        The masks come from a downmix: the sum of the channels, each times its weight in `[batch, channel]`. A network
        with several channels must be given that number of channels, and computes separate masks for each.
        """
        rows = mixture.flatten(0, 1)
        encoded = self.encoder(rows, state)
        coefficients = heard = self.rectify(encoded)
        if self.num_channels == 1:
            # The encoder is linear, so the downmix can be computed from its output.
            heard = self.rectify((encoded.unflatten(0, weights.shape) * weights[..., None, None]).sum(1))
        masks = self.estimate_masks(heard, state)
        if self.num_channels == 1 and len(masks) > 1:
            masks = masks.repeat_interleave(mixture.shape[1], dim=0)
        return self.decode(masks, coefficients, rows, state).unflatten(0, weights.shape)

    def stream(self, step: Step | None = None) -> NetworkStream:
        """Open a stream through this network, with its own memory. `step`, if given, replaces `forward`.

        Short blocks run about twice as fast after `net.eval().requires_grad_(False)`.

        Raises `StreamError` if the network is not causal or its framing is not "full".

        Example:
            >>> from separator import ConvTasNet
            >>> net = ConvTasNet(num_filters=16, num_blocks=2, num_repeats=1, causal=True, norm="channel").eval()
            >>> stream = net.stream()
            >>> blocks = [stream.push(torch.zeros(1, 300)), stream.push(torch.zeros(1, 500)), stream.flush()]
            >>> torch.cat(blocks, dim=-1).shape  # as long as the input
            torch.Size([1, 2, 800])
        """
        return NetworkStream(self, step)

    def fast(self, dtype: torch.dtype = torch.float32) -> FastConvTasNet:
        """Build an equivalent for whole recordings on a CPU. It takes at most half the time, with bfloat16 even less.

        Raises `ConfigError` if this kind of network has no such form, see `models.runtime.cpu_network`.
        """
        return FastConvTasNet(self, dtype)

    @property
    def interchangeable(self) -> bool:
        """Whether some sources are interchangeable. `num_interchangeable` says how many of the first."""
        return self.num_interchangeable > 0

    @property
    def can_stream(self) -> bool:
        """Whether `stream` works: the network is causal, and its frames do not depend on the end of the recording."""
        return self.causal and self.encoder.framing == "full"

    @property
    def receptive_field(self) -> ReceptiveField:
        """How much of the mixture one output sample depends on through filters and convolutions, exactly.

        Norms are not counted. With a global norm every sample depends on the whole recording, with a cumulative norm
        on everything before it. For temporal="talk", whose reach is predicted, this is the maximum.
        """
        stride, length = self.encoder.stride, self.encoder.filter_length
        # An output sample lies in at most this many frames. Each of them depends on the frames around it.
        frames = self.stack.reach(-(-self.decoder.filter_length // stride))
        samples = (frames - 1) * stride + length
        return ReceptiveField(self.stack.receptive_field, samples, samples / self.sample_rate)


class ReceptiveField(NamedTuple):
    """Context of the network: frames for the masks of one frame, samples and seconds for one output sample."""

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
            f"sources={list(sources)}: speakers are interchangeable and must come first, as {', '.join(wanted)}; write "
            f"[{', '.join([*wanted, *(name for name in sources if name not in speakers)])}], or use other names"
        )
    return list(sources)


def _check(arguments: dict) -> None:
    """Raise `ConfigError` for arguments that contradict each other. Unknown names are refused where they are used."""
    if not arguments["stride"] <= arguments["decoder_length"] <= arguments["filter_length"]:
        raise ConfigError(
            f"stride={arguments['stride']}, decoder_length={arguments['decoder_length']}, filter_length="
            f"{arguments['filter_length']}: samples would be lost; use stride <= decoder_length <= filter_length"
        )
    if arguments["framing"] != "full" and arguments["decoder_length"] != arguments["filter_length"]:
        raise ConfigError(
            f"framing={arguments['framing']!r} needs decoder_length equal to filter_length="
            f"{arguments['filter_length']}, got {arguments['decoder_length']}"
        )
    if arguments["causal"] and "global" in (arguments["norm"], arguments["input_norm"]):
        raise ConfigError(
            "causal=True cannot use norm='global', whose statistics need the whole recording: "
            "use norm='cumulative' or norm='channel'"
        )
    if arguments["causal"] and arguments["num_channels"] > 1:
        raise ConfigError(
            f"causal=True needs num_channels=1, got {arguments['num_channels']}: a stream uses the same masks for all "
            "channels"
        )
    if arguments["magnitude_input"] and arguments["num_filters"] % 2:
        raise ConfigError(
            f"magnitude_input pairs the filters: num_filters must be even, got {arguments['num_filters']}"
        )
    if arguments["num_sources"] == 1 and (arguments["mixture_consistency"] or arguments["mask"] == "softmax"):
        raise ConfigError(
            "mixture_consistency=True and mask='softmax' split the mixture between sources: with num_sources=1 "
            "the only source would be the whole mixture"
        )
