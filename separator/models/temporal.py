"""The convolution along time inside a block: `[batch, channel, frame]` -> the same shape.

Each class takes `(num_channels, kernel_size, dilation, causal)`. It uses `left` frames before and `right` frames after
the current one. A centred convolution uses equally many on both sides, a causal one only earlier frames. A causal
convolution can also process a recording block by block, with a `State`.

Channels are innermost in memory, as in the blocks. No class builds anything larger than its input times its kernel
size. Each one sums over taps, and each tap is a shifted view of the input. For the short kernels of a TCN this costs
no more than a convolution routine, and a compiler fuses it with the activations around it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separator.errors import ConfigError, check_whole, choose, suggestion
from separator.models.norms import at_least_float32, sum_dtype
from separator.models.state import State


class Temporal(nn.Module):
    """Base class of the temporal convolutions: their reach, and the frames around a block.

    Raises:
        ConfigError: for a centred convolution with an even kernel, or for sizes below 1.
    """

    def __init__(self, num_channels: int, kernel_size: int, dilation: int, causal: bool) -> None:
        super().__init__()
        for name, value in (("num_channels", num_channels), ("kernel_size", kernel_size), ("dilation", dilation)):
            check_whole(f"a temporal convolution's {name}", value)
        if not causal and kernel_size % 2 == 0:
            raise ConfigError(
                f"a centred convolution needs an odd kernel_size, got {kernel_size}; use an odd one or causal=True"
            )
        self.num_channels, self.kernel_size, self.dilation, self.causal = num_channels, kernel_size, dilation, causal
        reach = (kernel_size - 1) * dilation
        self.left, self.right = (reach, 0) if causal else (reach // 2, reach // 2)

    def with_context(self, features: Tensor, state: State | None) -> Tensor:
        """Add the frames around a block: `[batch, channel, frame]` -> `[batch, left + frame + right, channel]`.

        Beyond the ends of the recording, the frames are zero.
        """
        if features.ndim != 3 or features.shape[1] != self.num_channels:
            raise ValueError(f"expected features [batch, {self.num_channels}, frame], got {list(features.shape)}")
        if state is None:
            return self.padded(features)
        if self.right:
            raise ConfigError("a centred convolution needs later frames; only a causal one can stream")
        return state.with_past(self, features.mT, self.left)

    def padded(self, features: Tensor) -> Tensor:
        """Pad a whole recording: `[batch, channel, frame]` -> `[batch, left + frame + right, channel]`."""
        return F.pad(features.mT, (0, 0, self.left, self.right))

    def taps(self, context: Tensor) -> list[Tensor]:
        """Return the `kernel_size` shifted views `[batch, frame, channel]`, the earliest frames first."""
        frames = context.shape[1] - self.left - self.right
        return [context.narrow(1, tap * self.dilation, frames) for tap in range(self.kernel_size)]


class DepthwiseConv(Temporal):
    """One kernel for each channel: the dilated depthwise convolution of Luo & Mesgarani 2019, section II-C.

    Frames beyond the ends of the recording are zero. With `padding="reflect"` (SpeechBrain's) they are mirrored, unless
    the recording has too few frames.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int = 3,
        dilation: int = 1,
        causal: bool = False,
        padding: str = "zeros",
    ) -> None:
        super().__init__(num_channels, kernel_size, dilation, causal)
        self.padding = choose("padding", padding, {"zeros": "zeros", "reflect": "reflect"})
        if causal and padding == "reflect":
            raise ConfigError("padding='reflect' mirrors later frames; with causal=True use padding='zeros'")
        self.weight = nn.Parameter(torch.empty(kernel_size, num_channels))
        self.bias = nn.Parameter(torch.empty(num_channels))
        # torch's own initialization for a convolution with kernel_size inputs per output.
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -1 / math.sqrt(kernel_size), 1 / math.sqrt(kernel_size))

    def padded(self, features: Tensor) -> Tensor:
        """Pad a whole recording: `[batch, channel, frame]` -> `[batch, left + frame + right, channel]`."""
        if self.padding == "reflect" and self.left < features.shape[-1]:
            return F.pad(features, (self.left, self.right), mode="reflect").mT
        return super().padded(features)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Convolve `[batch, channel, frame]` -> the same shape."""
        kernel = self.weight.to(features.dtype)
        output = self.bias.to(features.dtype)
        for weight, tap in zip(kernel, self.taps(self.with_context(features, state)), strict=True):
            output = torch.addcmul(output, weight, tap)
        return output.mT


class GatedConv(nn.Module):
    """Two depthwise convolutions, of which one is the gate of the other.

    `gate="linear"` is A * sigmoid(B) (Dauphin et al. 2017, arXiv:1612.08083). `gate="tanh"` is
    tanh(A) * sigmoid(B) (van den Oord et al. 2016, arXiv:1609.03499).
    """

    def __init__(
        self, num_channels: int, kernel_size: int = 3, dilation: int = 1, causal: bool = False, gate: str = "linear"
    ) -> None:
        super().__init__()
        self.content = DepthwiseConv(num_channels, kernel_size, dilation, causal)
        self.gate = DepthwiseConv(num_channels, kernel_size, dilation, causal)
        self.activate = choose("gate", gate, {"linear": nn.Identity, "tanh": nn.Tanh})()
        self.left, self.right = self.content.left, self.content.right

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Convolve `[batch, channel, frame]` -> the same shape."""
        return self.activate(self.content(features, state)) * torch.sigmoid(self.gate(features, state))


class HeadedConv(Temporal):
    """Base class of convolutions whose kernels are shared by the channels of a head and sum to one.

    `num_heads` must divide `num_channels`. None means the greatest common divisor of `num_channels` and 8. In training,
    each weight is dropped with probability `drop_connect` after the softmax (DropConnect, Wan et al. 2013).
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int,
        dilation: int,
        causal: bool,
        num_heads: int | None,
        drop_connect: float,
    ) -> None:
        super().__init__(num_channels, kernel_size, dilation, causal)
        self.num_heads = _heads(num_channels, num_heads)
        if not isinstance(drop_connect, (int, float)) or not 0 <= drop_connect < 1:
            raise ConfigError(f"drop_connect must be a probability of at least 0 and below 1, got {drop_connect!r}")
        self.drop_connect = drop_connect

    def convolve(self, scores: Tensor, context: Tensor) -> Tensor:
        """Apply kernels from `scores` `[..., head * tap]`, either one for each frame or the same for all frames."""
        scores = at_least_float32(scores).unflatten(-1, (self.num_heads, self.kernel_size))
        kernels = F.dropout(torch.softmax(scores, dim=-1), self.drop_connect, self.training).to(context.dtype)
        by_head = [tap.unflatten(-1, (self.num_heads, -1)) for tap in self.taps(context)]
        weights = kernels.unsqueeze(-2).unbind(-1)
        output = weights[0] * by_head[0]
        for weight, tap in zip(weights[1:], by_head[1:], strict=True):
            output = output + weight * tap
        return output.flatten(-2).mT


class LightConv(HeadedConv):
    """LightConv: one softmax-normalized kernel for each head (Wu et al. 2019, arXiv:1901.10430, section 3.1)."""

    def __init__(
        self,
        num_channels: int,
        kernel_size: int = 3,
        dilation: int = 1,
        causal: bool = False,
        num_heads: int | None = None,
        drop_connect: float = 0.1,
    ) -> None:
        super().__init__(num_channels, kernel_size, dilation, causal, num_heads, drop_connect)
        self.weight = nn.Parameter(torch.empty(self.num_heads, kernel_size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Convolve `[batch, channel, frame]` -> the same shape."""
        return self.convolve(self.weight.flatten(), self.with_context(features, state))


class DynamicConv(HeadedConv):
    """DynamicConv: each frame predicts the kernel of each head from itself (Wu et al. 2019, section 3.2)."""

    def __init__(
        self,
        num_channels: int,
        kernel_size: int = 3,
        dilation: int = 1,
        causal: bool = False,
        num_heads: int | None = None,
        drop_connect: float = 0.1,
    ) -> None:
        super().__init__(num_channels, kernel_size, dilation, causal, num_heads, drop_connect)
        self.to_kernel = nn.Linear(num_channels, self.num_heads * kernel_size, bias=False)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Convolve `[batch, channel, frame]` -> the same shape."""
        context = self.with_context(features, state)
        return self.convolve(self.to_kernel(features.mT), context)


class SpanDynamicConv(HeadedConv):
    """Span-based dynamic convolution: the kernel comes from a query times a key that depends on the frame's span.

    Jiang et al. 2020 (ConvBERT), arXiv:2008.02496, section 4.1. The query is a projection of the frame. The key is a
    depthwise-separable convolution of the frames that the kernel reaches. Their product is projected to the kernel.
    Both have `key_channels` channels, a quarter of `num_channels` if None. In the paper the value is also a projection.
    Here it is the features themselves, which in a block come from a 1x1 convolution. DropConnect works as in LightConv.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int = 3,
        dilation: int = 1,
        causal: bool = False,
        num_heads: int | None = None,
        drop_connect: float = 0.1,
        key_channels: int | None = None,
    ) -> None:
        super().__init__(num_channels, kernel_size, dilation, causal, num_heads, drop_connect)
        key_channels = max(1, num_channels // 4) if key_channels is None else key_channels
        check_whole("key_channels", key_channels)
        self.to_query = nn.Linear(num_channels, key_channels)
        self.span = DepthwiseConv(num_channels, kernel_size, dilation, causal)
        self.to_key = nn.Linear(num_channels, key_channels)
        self.to_kernel = nn.Linear(key_channels, self.num_heads * kernel_size)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Convolve `[batch, channel, frame]` -> the same shape."""
        key = self.to_key(self.span(features, state).mT)
        scores = self.to_kernel(self.to_query(features.mT) * key)
        return self.convolve(scores, self.with_context(features, state))


class TalkConv(Temporal):
    """TaLK convolution: the mean of a window whose reach each frame predicts for each head.

    Lioutas & Guo 2020, arXiv:2002.03184. The reach is a sigmoid times the furthest reach, `left` and `right` frames,
    which `kernel_size` and `dilation` set as in the other classes. Fractions of a frame count as fractions. The sum
    over a window is the difference of a running sum at its two ends, so its cost does not depend on the reach. The
    paper divides all sums by the widest window. Here each sum is divided by its own width, and frames beyond the
    recording count as zeros. The paper's dropout of reaches is left out.

    Raises:
        ConfigError: for a kernel with one tap, which reaches no other frame.
    """

    def __init__(
        self,
        num_channels: int,
        kernel_size: int = 3,
        dilation: int = 1,
        causal: bool = False,
        num_heads: int | None = None,
    ) -> None:
        super().__init__(num_channels, kernel_size, dilation, causal)
        if not self.left:
            raise ConfigError(f"a TaLK convolution must reach beyond its frame: kernel_size={kernel_size} reaches 0")
        self.num_heads = _heads(num_channels, num_heads)
        self.to_reach = nn.Linear(num_channels, self.num_heads * (1 if causal else 2))

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Convolve `[batch, channel, frame]` -> the same shape."""
        values = self.with_context(features, state)
        # Entry i is the sum of the first i values. In float64, because a window is a small difference of large sums.
        sums = F.pad(values.to(sum_dtype(values)).cumsum(1), (0, 0, 1, 0))
        share = torch.sigmoid(at_least_float32(self.to_reach(features.mT))).unflatten(-1, (-1, self.num_heads))
        back = self.left * share[:, :, 0]
        ahead = self.right * share[:, :, -1]
        frame = torch.arange(features.shape[-1], device=features.device)[:, None] + self.left
        total = self._running_sum(sums, frame + 1, ahead) - self._running_sum(sums, frame, -back)
        mean = total / (1 + back + ahead).unsqueeze(-1)
        return mean.flatten(-2).to(features.dtype).mT

    def _running_sum(self, sums: Tensor, start: Tensor, offset: Tensor) -> Tensor:
        """Read `sums` at `start + offset`, linearly interpolated: `[batch, frame, head, channel of head]`."""
        whole = offset.detach().floor()
        below = (start + whole.long()).clamp(0, sums.shape[1] - 1)
        above = (below + 1).clamp_max(sums.shape[1] - 1)
        by_head = sums.unflatten(-1, (self.num_heads, -1))
        index = torch.stack([below, above]).unsqueeze(-1).expand(-1, -1, -1, -1, by_head.shape[-1])
        lower, upper = by_head.gather(1, index[0]), by_head.gather(1, index[1])
        return torch.lerp(lower, upper, (offset - whole).to(sums.dtype).unsqueeze(-1))


def _heads(num_channels: int, num_heads: int | None) -> int:
    heads = math.gcd(8, num_channels) if num_heads is None else num_heads
    if not isinstance(heads, int) or heads < 1 or num_channels % heads:
        raise ConfigError(f"num_heads={num_heads!r} does not divide the {num_channels} channels; choose a divisor")
    return heads


TEMPORAL = {
    "depthwise": DepthwiseConv,
    "gated": GatedConv,
    "light": LightConv,
    "dynamic": DynamicConv,
    "talk": TalkConv,
    "span_dynamic": SpanDynamicConv,
}


def make_temporal(
    name: str,
    num_channels: int,
    kernel_size: int,
    dilation: int,
    causal: bool,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Make the temporal convolution called `name`. `options` are the further arguments of its class.

    Raises:
        ConfigError: for an unknown name or option, or an impossible value.

    Example:
        >>> from separator.models.temporal import make_temporal
        >>> conv = make_temporal("gated", num_channels=8, kernel_size=3, dilation=4, causal=True)
        >>> conv.left, conv.right  # frames before and after the current one
        (8, 0)
        >>> conv(torch.zeros(1, 8, 50)).shape
        torch.Size([1, 8, 50])
    """
    kind = choose("temporal", name, TEMPORAL)
    known = list(inspect.signature(kind).parameters)[4:]
    for key in options or {}:
        if key not in known:
            options_text = ", ".join(known) or "none"
            raise ConfigError(
                f"temporal {name!r} has no option {key!r}; its options: {options_text}{suggestion(key, known)}"
            )
    return kind(num_channels, kernel_size, dilation, causal, **(options or {}))
