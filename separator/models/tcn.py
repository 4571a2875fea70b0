"""The separator's body: repeated stacks of dilated depthwise-separable blocks, `[batch, frame, channel]`.

Channels are innermost, so that a 1x1 convolution is a matrix product (`nn.Linear`) and nothing is ever
transposed in memory. Compiled for a CPU that is twice as fast as `[batch, channel, frame]`.
"""

from __future__ import annotations

from torch import Tensor, nn

from separator.models.norms import make_norm
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
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.expand = nn.Linear(bottleneck_channels, hidden_channels)
        self.prelu1 = nn.PReLU()
        self.norm1 = make_norm(norm, hidden_channels)
        self.temporal = make_temporal(temporal, hidden_channels, kernel_size, dilation, causal)
        self.prelu2 = nn.PReLU()
        self.norm2 = make_norm(norm, hidden_channels)
        self.residual = nn.Linear(hidden_channels, bottleneck_channels) if residual else None
        self.skip = nn.Linear(hidden_channels, skip_channels) if skip_channels else None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """`[batch, frame, channel]` -> the same shape, and `[batch, frame, skip channel]` or None."""
        hidden = self.norm1(self.prelu1(self.expand(features)))
        hidden = self.norm2(self.prelu2(self.temporal(hidden.mT).mT))
        if self.residual is not None:
            features = features + self.residual(hidden)
        return features, self.skip(hidden) if self.skip is not None else None


class SeparableStack(nn.Module):
    """`num_repeats` times `num_blocks` blocks with dilations 1, 2, 4, ...; Luo & Mesgarani 2019, figure 1B.

    The output is the sum of all skip outputs, or the last block's features where `skip_channels` is 0.
    """

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
    ) -> None:
        super().__init__()
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
                # With skip outputs nobody reads the last block's features.
                residual=index < last or not skip_channels,
            )
            for index in range(num_repeats * num_blocks)
        )

    def forward(self, features: Tensor) -> Tensor:
        """`[batch, frame, channel]` -> `[batch, frame, skip channel]`, or the same shape without skip outputs."""
        total = None
        for block in self.blocks:
            features, skip = block(features)
            if skip is not None:
                total = skip if total is None else total + skip
        return features if total is None else total
