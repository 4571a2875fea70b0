"""Temporal convolutional networks: the separator's body, and the generic one of Bai, Kolter & Koltun.

The body is repeated stacks of dilated depthwise-separable blocks, `[batch, frame, channel]`.

Channels are innermost, so that a 1x1 convolution is a matrix product (`nn.Linear`) and nothing is ever
transposed in memory. Compiled for a CPU that is twice as fast as `[batch, channel, frame]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from separator.errors import check_whole
from separator.models.norms import make_norm
from separator.models.state import State
from separator.models.temporal import make_temporal


class SeparableBlock(nn.Module):
    """1x1 convolution, PReLU, norm, temporal convolution, PReLU, norm, then 1x1 residual and skip outputs.

    Luo & Mesgarani 2019, figure 1C. `forward` returns `(features + residual, skip)`; an output that
    nobody reads is not computed and has no weights: skip is None where `skip_channels` is 0, and the
    residual is left out where `residual` is False.
    """

    def __init__(
        self,
        bottleneck_channels: int,
        hidden_channels: int,
        skip_channels: int,
        kernel_size: int,
        dilation: int,
        norm: str,
        temporal: str,
        causal: bool,
        temporal_options: Mapping[str, Any] | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.expand = nn.Linear(bottleneck_channels, hidden_channels)
        self.prelu1 = nn.PReLU()
        self.norm1 = make_norm(norm, hidden_channels)
        self.temporal = make_temporal(temporal, hidden_channels, kernel_size, dilation, causal, temporal_options)
        self.prelu2 = nn.PReLU()
        self.norm2 = make_norm(norm, hidden_channels)
        self.residual = nn.Linear(hidden_channels, bottleneck_channels) if residual else None
        self.skip = nn.Linear(hidden_channels, skip_channels) if skip_channels else None

    def forward(self, features: Tensor, state: State | None = None) -> tuple[Tensor, Tensor | None]:
        """`[batch, frame, channel]` -> the same shape, and `[batch, frame, skip channel]` or None."""
        hidden = self.norm1(self.prelu1(self.expand(features)), state)
        hidden = self.norm2(self.prelu2(self.temporal(hidden.mT, state).mT), state)
        if self.residual is not None:
            features = features + self.residual(hidden)
        return features, self.skip(hidden) if self.skip is not None else None


class SeparableStack(nn.Module):
    """`num_repeats` times `num_blocks` blocks with dilations 1, 2, 4, ...; Luo & Mesgarani 2019, figure 1B.

    The output is the sum of all skip outputs, or the last block's features where `skip_channels` is 0.

    Attributes:
        recompute: whether training keeps only what is between the blocks and computes the rest again for the
            gradient: less memory, more time.
    """

    recompute = False

    def __init__(
        self,
        bottleneck_channels: int,
        hidden_channels: int,
        skip_channels: int,
        kernel_size: int,
        num_blocks: int,
        num_repeats: int,
        norm: str,
        temporal: str,
        causal: bool,
        temporal_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_whole("num_blocks", num_blocks)
        check_whole("num_repeats", num_repeats)
        last = num_repeats * num_blocks - 1
        self.blocks = nn.ModuleList(
            SeparableBlock(
                bottleneck_channels,
                hidden_channels,
                skip_channels,
                kernel_size,
                dilation=2 ** (index % num_blocks),
                norm=norm,
                temporal=temporal,
                causal=causal,
                temporal_options=temporal_options,
                # With skip outputs nobody reads the last block's features.
                residual=index < last or not skip_channels,
            )
            for index in range(num_repeats * num_blocks)
        )

    @property
    def reach(self) -> tuple[int, int]:
        """How many frames before and after a frame its output sees, through the convolutions."""
        temporals: list[Any] = [block.temporal for block in self.blocks]
        return sum(temporal.left for temporal in temporals), sum(temporal.right for temporal in temporals)

    @property
    def receptive_field(self) -> int:
        """Frames of input that one frame of output sees through the convolutions; norms may add all others.

        For `talk`, whose reach is predicted, the most that it can see.
        """
        return sum(self.reach) + 1

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """`[batch, frame, channel]` -> `[batch, frame, skip channel]`, or the same shape without skip outputs."""
        total = None
        for block in self.blocks:
            if self.recompute and self.training and state is None:
                features, skip = checkpoint(block, features, use_reentrant=False)
            else:
                features, skip = block(features, state)
            if skip is not None:
                total = skip if total is None else total + skip
        return features if total is None else total


class CausalConv(nn.Module):
    """A dilated convolution over this and earlier frames, with weight norm, `[batch, channel, frame]`."""

    def __init__(self, num_inputs: int, num_outputs: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.left = (kernel_size - 1) * dilation
        conv = nn.Conv1d(num_inputs, num_outputs, kernel_size, dilation=dilation)
        nn.init.normal_(conv.weight, 0, 0.01)
        self.conv = weight_norm(conv)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """`[batch, channel, frame]` -> `[batch, output channel, frame]`."""
        if state is None:
            return self.conv(F.pad(features, (self.left, 0)))
        return self.conv(state.with_past(self, features.mT, self.left).mT)


class TCNBlock(nn.Module):
    """Two causal convolutions, each with weight norm, ReLU and dropout, beside a residual connection."""

    def __init__(self, num_inputs: int, num_outputs: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = CausalConv(num_inputs, num_outputs, kernel_size, dilation)
        self.conv2 = CausalConv(num_outputs, num_outputs, kernel_size, dilation)
        self.dropout = nn.Dropout(dropout)
        self.residual = nn.Conv1d(num_inputs, num_outputs, 1) if num_inputs != num_outputs else nn.Identity()

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """`[batch, channel, frame]` -> `[batch, output channel, frame]`."""
        hidden = self.dropout(F.relu(self.conv1(features, state)))
        hidden = self.dropout(F.relu(self.conv2(hidden, state)))
        return F.relu(hidden + self.residual(features))


class TCN(nn.Module):
    """The generic temporal convolutional network: blocks with dilations 1, 2, 4, ..., each output causal.

    S. Bai, J. Z. Kolter and V. Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent
    Networks for Sequence Modeling", 2018, arXiv:1803.01271, figure 1.

    Args:
        num_inputs: channels of the input.
        channels: channels of each block's output; as many blocks as there are entries.
        kernel_size: taps of each convolution.
        dropout: probability with which a value is dropped in training, after each convolution (single values, as
            in the authors' code; the paper speaks of whole channels).

    Raises:
        ConfigError: if there is no block or a size is below 1.
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
        """Frames of input that one frame of output sees."""
        blocks: list[Any] = list(self.blocks)
        return 1 + sum(block.conv1.left + block.conv2.left for block in blocks)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """`[batch, channel, frame]` -> `[batch, output channel, frame]`."""
        if not features.shape[-1]:  # an empty block of a stream, which a convolution would refuse
            return features.new_zeros(features.shape[0], self.num_outputs, 0)
        for block in self.blocks:
            features = block(features, state)
        return features
