"""Temporal convolutional networks: the separator's body, and the generic TCN of Bai, Kolter & Koltun.

The body is a stack of repeats of dilated depthwise-separable blocks, `[batch, frame, channel]`.

Channels are innermost, so that a 1x1 convolution is a matrix product (`nn.Linear`) and nothing has to be transposed
in memory. Compiled for a CPU, this is twice as fast as `[batch, channel, frame]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from separator.errors import ConfigError, check_whole
from separator.models.low_rate import Attention, LowRate, check_rates
from separator.models.norms import make_norm
from separator.models.state import State
from separator.models.temporal import make_temporal


@dataclass(frozen=True)
class StackConfig:
    """Sizes and options of a `SeparableStack`. The names are those of `ConvTasNet`'s arguments."""

    bottleneck_channels: int
    hidden_channels: int
    skip_channels: int = 0
    kernel_size: int = 3
    num_blocks: int | Sequence[int] = 8
    num_repeats: int = 3
    norm: str = "global"
    temporal: str = "depthwise"
    causal: bool = False
    temporal_options: Mapping[str, Any] | None = None
    repeat_rates: Sequence[int] | None = None
    low_rate_bottleneck_channels: int | None = None
    low_rate_hidden_channels: int | None = None
    attention: bool = False

    @property
    def rates(self) -> list[int]:
        """Frames that are grouped into one, for each repeat."""
        return [1] * self.num_repeats if self.repeat_rates is None else list(self.repeat_rates)

    @property
    def depths(self) -> list[int]:
        """Number of blocks in each repeat."""
        return list(self.num_blocks) if isinstance(self.num_blocks, Sequence) else [self.num_blocks] * self.num_repeats

    @property
    def at_low_rate(self) -> StackConfig:
        """The same configuration with the channels of repeats at a lower frame rate."""
        return replace(
            self,
            bottleneck_channels=self.low_rate_bottleneck_channels or self.bottleneck_channels,
            hidden_channels=self.low_rate_hidden_channels or self.hidden_channels,
        )

    def check(self) -> None:
        """Raise `ConfigError` if no stack can be built from this configuration."""
        check_whole("num_repeats", self.num_repeats)
        for depth in self.depths:
            check_whole("num_blocks", depth)
        if len(self.depths) != self.num_repeats:
            raise ConfigError(
                f"num_blocks={self.depths} has {len(self.depths)} entries; use one number, or one for each repeat "
                f"(num_repeats={self.num_repeats})"
            )
        for name in ("low_rate_bottleneck_channels", "low_rate_hidden_channels"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        check_rates(self.rates, self.num_repeats, self.skip_channels, self.causal, self.attention)


class SeparableBlock(nn.Module):
    """1x1 convolution, PReLU, norm, temporal convolution, PReLU, norm, then 1x1 residual and skip outputs.

    Luo & Mesgarani 2019, figure 1C. `forward` returns `(features + residual, skip)`. An unused output is not computed
    and has no weights: skip is None if `skip_channels` is 0, and the residual is left out if `residual` is False.
    """

    def __init__(self, config: StackConfig, dilation: int, residual: bool = True) -> None:
        super().__init__()
        hidden = config.hidden_channels
        self.expand = nn.Linear(config.bottleneck_channels, hidden)
        self.prelu1 = nn.PReLU()
        self.norm1 = make_norm(config.norm, hidden)
        self.temporal = make_temporal(
            config.temporal, hidden, config.kernel_size, dilation, config.causal, config.temporal_options
        )
        self.prelu2 = nn.PReLU()
        self.norm2 = make_norm(config.norm, hidden)
        self.residual = nn.Linear(hidden, config.bottleneck_channels) if residual else None
        self.skip = nn.Linear(hidden, config.skip_channels) if config.skip_channels else None

    def forward(self, features: Tensor, state: State | None = None) -> tuple[Tensor, Tensor | None]:
        """Transform `[batch, frame, channel]` -> the same shape, and `[batch, frame, skip channel]` or None."""
        hidden = self.norm1(self.prelu1(self.expand(features)), state)
        hidden = self.norm2(self.prelu2(self.temporal(hidden.mT, state).mT), state)
        if self.residual is not None:
            features = features + self.residual(hidden)
        return features, self.skip(hidden) if self.skip is not None else None


class Stage(NamedTuple):
    """Consecutive repeats at one frame rate.

    Attributes:
        number: index among the stages at a lower rate.
        rate: frames that are grouped into one.
        repeats: for each repeat, index of its first block and of the block after its last.
        first_attention: index of the attention after the first repeat.
    """

    number: int
    rate: int
    repeats: list[tuple[int, int]]
    first_attention: int


class SeparableStack(nn.Module):
    """Repeats of blocks with dilations 1, 2, 4, ... (Luo & Mesgarani 2019, figure 1B).

    The output is the sum of all skip outputs, or the last block's features if `skip_channels` is 0. Repeats at a lower
    frame rate have their own number of channels, and their result is added to the features. See
    `separator.models.low_rate`.

    Attributes:
        recompute: gradient checkpointing. Training keeps only the features between the blocks, and computes the rest
            again for the gradient. This needs less memory and more time. Default: False.
    """

    recompute = False

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.stages = _stages(config)
        last = sum(config.depths) - 1
        blocks: list[SeparableBlock] = []
        for rate, depth in zip(config.rates, config.depths, strict=True):
            own = config if rate == 1 else config.at_low_rate
            for level in range(depth):
                # With skip outputs, the last block's features are not used.
                residual = len(blocks) < last or not config.skip_channels
                blocks.append(SeparableBlock(own, 2**level, residual))
        self.blocks = nn.ModuleList(blocks)
        low = [stage for stage in self.stages if stage.rate > 1]
        width = config.at_low_rate.bottleneck_channels
        self.low_rates = nn.ModuleList(
            LowRate(config.bottleneck_channels, width, stage.rate, config.causal) for stage in low
        )
        self.attentions = nn.ModuleList(
            Attention(width, config.norm) for stage in low for _ in stage.repeats if config.attention
        )

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Frames of the input that frames `first` to `last` of the output depend on through the convolutions."""
        for stage in reversed(self.stages):
            if stage.rate > 1:
                low: Any = self.low_rates[stage.number]
                low_first, low_last = (first - low.delay) // stage.rate, (last - low.delay) // stage.rate
                seen = self._seen(stage, low_first, low_last)
                # The features also bypass the low-rate stage.
                first = min(first, seen[0] * stage.rate)
                last = max(last, (seen[1] + 1) * stage.rate - 1)
            else:
                first, last = self._seen(stage, first, last)
        return first, last

    def _seen(self, stage: Stage, first: int, last: int) -> tuple[int, int]:
        for start, end in stage.repeats:
            for block in self.blocks[start:end]:
                temporal: Any = block.temporal
                first, last = first - temporal.left, last + temporal.right
        return first, last

    def reach(self, frames: int = 1) -> int:
        """Count the input frames that `frames` consecutive output frames depend on through the convolutions, at most.

        Norms and attention may add all other frames. For `talk`, whose reach is predicted, this is the maximum.
        """
        spans = [self.span(first, first + frames - 1) for first in range(math.lcm(*self.config.rates))]
        return max(last - first + 1 for first, last in spans)

    @property
    def receptive_field(self) -> int:
        """Input frames that one output frame depends on. See `reach`."""
        return self.reach()

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Run all repeats: `[batch, frame, channel]` -> `[batch, frame, skip channel]`.

        Without skip outputs, the output has the shape of the input.
        """
        total = None
        for stage in self.stages:
            if stage.rate > 1:
                low: Any = self.low_rates[stage.number]
                groups = low.down(features, state)
                # In a stream, a group may not be complete yet. At the first block every layer still creates its memory.
                if groups.shape[1] or (state is not None and state.recall(low.spread) is None):
                    groups, _ = self._through(stage, groups, state)
                features = features + low.up(groups, features, state)
            else:
                features, skips = self._through(stage, features, state)
                for skip in skips:
                    total = skip if total is None else total + skip
        return features if total is None else total

    def _through(self, stage: Stage, features: Tensor, state: State | None) -> tuple[Tensor, list[Tensor]]:
        """Run the repeats of a stage. Return the features and the skip outputs."""
        skips = []
        for number, (start, end) in enumerate(stage.repeats):
            for block in self.blocks[start:end]:
                if self.recompute and self.training and state is None:
                    features, skip = checkpoint(block, features, use_reentrant=False)
                else:
                    features, skip = block(features, state)
                if skip is not None:
                    skips.append(skip)
            if self.config.attention and stage.rate > 1:
                features = self.attentions[stage.first_attention + number](features, state)
        return features, skips


def _stages(config: StackConfig) -> list[Stage]:
    """Group consecutive repeats at the same rate."""
    stages: list[Stage] = []
    start = number = attentions = 0
    for rate, depth in zip(config.rates, config.depths, strict=True):
        repeat = (start, start + depth)
        start += depth
        if stages and stages[-1].rate == rate:
            stages[-1].repeats.append(repeat)
        else:
            stages.append(Stage(number, rate, [repeat], attentions))
            number += rate > 1
        attentions += rate > 1
    return stages


class CausalConv(nn.Module):
    """Dilated convolution over this and earlier frames, with weight norm, `[batch, channel, frame]`."""

    def __init__(self, num_inputs: int, num_outputs: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.left = (kernel_size - 1) * dilation
        conv = nn.Conv1d(num_inputs, num_outputs, kernel_size, dilation=dilation)
        nn.init.normal_(conv.weight, 0, 0.01)
        self.conv = weight_norm(conv)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Convolve `[batch, channel, frame]` -> `[batch, output channel, frame]`."""
        if state is None:
            return self.conv(F.pad(features, (self.left, 0)))
        return self.conv(state.with_past(self, features.mT, self.left).mT)


class TCNBlock(nn.Module):
    """Two causal convolutions, each with weight norm, ReLU and dropout, and a residual connection around them."""

    def __init__(self, num_inputs: int, num_outputs: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = CausalConv(num_inputs, num_outputs, kernel_size, dilation)
        self.conv2 = CausalConv(num_outputs, num_outputs, kernel_size, dilation)
        self.dropout = nn.Dropout(dropout)
        self.residual = nn.Conv1d(num_inputs, num_outputs, 1) if num_inputs != num_outputs else nn.Identity()

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Transform `[batch, channel, frame]` -> `[batch, output channel, frame]`."""
        hidden = self.dropout(F.relu(self.conv1(features, state)))
        hidden = self.dropout(F.relu(self.conv2(hidden, state)))
        return F.relu(hidden + self.residual(features))


class TCN(nn.Module):
    """The generic temporal convolutional network: causal blocks with dilations 1, 2, 4, ...

    S. Bai, J. Z. Kolter and V. Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent
    Networks for Sequence Modeling", 2018, arXiv:1803.01271, figure 1.

    Args:
        num_inputs: channels of the input.
        channels: output channels of each block. The length is the number of blocks.
        kernel_size: taps of each convolution.
        dropout: probability of dropping a value after each convolution in training. Single values are dropped, as in
            the authors' code. The paper describes dropping whole channels.

    Raises:
        ConfigError: if there is no block or a size is below 1.

    Example:
        >>> import torch
        >>> from separator.models import TCN
        >>> net = TCN(num_inputs=1, channels=[8, 8, 4], kernel_size=3)
        >>> net(torch.zeros(2, 1, 100)).shape
        torch.Size([2, 4, 100])
        >>> net.receptive_field
        29
    """

    def __init__(self, num_inputs: int, channels: Sequence[int], kernel_size: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        check_whole("the number of a TCN's blocks", len(channels))
        for size in (num_inputs, kernel_size, *channels):
            check_whole("each size of a TCN", size)
        self.num_outputs = channels[-1]
        self.blocks = nn.ModuleList(
            TCNBlock(before, after, kernel_size, 2**level, dropout)
            for level, (before, after) in enumerate(zip([num_inputs, *channels[:-1]], channels, strict=True))
        )

    @property
    def receptive_field(self) -> int:
        """Input frames that one output frame depends on."""
        blocks: list[Any] = list(self.blocks)
        return 1 + sum(block.conv1.left + block.conv2.left for block in blocks)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Transform `[batch, channel, frame]` -> `[batch, output channel, frame]`."""
        if not features.shape[-1]:  # an empty block of a stream: a convolution would refuse it
            return features.new_zeros(features.shape[0], self.num_outputs, 0)
        for block in self.blocks:
            features = block(features, state)
        return features
