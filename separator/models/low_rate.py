"""Repeats at a lower frame rate: group frames, run blocks with a long reach at low cost, and go back to all frames.

The idea comes from the context codec of Luo, Han & Mesgarani 2021 (GC3, arXiv:2012.07291) and from U-shaped
separators (SuDoRM-RF, arXiv:2103.02644). The character of a voice changes slowly, so most of the depth needs only
few frames.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separator.errors import ConfigError, check_whole
from separator.models.norms import make_norm
from separator.models.state import State

# Channels of one attention head.
HEAD_CHANNELS = 48
# Upper limit for the number of frames after which all repeats start a new group at the same time.
MAX_COMMON_RATE = 256


class LowRate(nn.Module):
    """Group `rate` frames into one, and spread the result over the frames again.

    A causal instance gives each frame what is known when that frame ends: the last complete group of frames.

    Args:
        channels: channels of a frame.
        low_channels: channels of a group.
        rate: frames in a group.
        causal: whether a frame must not depend on later frames.
    """

    def __init__(self, channels: int, low_channels: int, rate: int, causal: bool) -> None:
        super().__init__()
        self.rate, self.causal = rate, causal
        self.gather = nn.Linear(rate * channels, low_channels)
        self.spread = nn.Linear(low_channels, rate * channels)
        # At first the blocks at the lower rate add nothing.
        nn.init.zeros_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)

    def down(self, features: Tensor, state: State | None = None) -> Tensor:
        """Group `[batch, frame, channel]` -> `[batch, group, low channel]`. With a state, only complete groups."""
        if state is None:
            return self.gather(self._grouped(F.pad(features, (0, 0, 0, -features.shape[1] % self.rate))))
        memory = state.recall(self.gather)
        if (memory is None or memory[0].shape[1] == 0) and features.shape[1] % self.rate == 0:  # as in ONNX export
            state.keep(self.gather, features[:, :0])
            return self.gather(self._grouped(features))
        waiting = features if memory is None else torch.cat([memory[0], features], dim=1)
        complete = waiting.shape[1] // self.rate * self.rate
        state.keep(self.gather, waiting[:, complete:])
        return self.gather(self._grouped(waiting[:, :complete]))

    def up(self, groups: Tensor, features: Tensor, state: State | None = None) -> Tensor:
        """Spread `[batch, group, low channel]` over the frames: what to add to `features` `[batch, frame, channel]`."""
        frames = features.shape[1]
        spread = self.spread(groups).unflatten(2, (self.rate, -1)).flatten(1, 2)
        if not self.causal:
            return spread[:, :frames]
        if state is None:
            return F.pad(spread, (0, 0, self.delay, 0))[:, :frames]
        memory = state.recall(self.spread)
        before = spread.new_zeros(len(spread), self.delay, spread.shape[2]) if memory is None else memory[0]
        due = torch.cat([before, spread], dim=1)
        state.keep(self.spread, due[:, frames:])
        return due[:, :frames]

    @property
    def delay(self) -> int:
        """Frames by which a causal network uses a group late, because the group must be complete."""
        return self.rate - 1 if self.causal else 0

    def _grouped(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (-1, self.rate)).flatten(2)


class Attention(nn.Module):
    """Self-attention over all frames: finds where in the recording the same voice was heard before.

    Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762) on normalized features, added to the features. There is
    no position encoding, because the convolutions around it know the position of a frame. At first it adds nothing.

    Args:
        channels: channels of a frame.
        norm: name of the norm, as in `separator.models.norms`.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.num_heads = math.gcd(channels, max(1, channels // HEAD_CHANNELS))
        self.norm = make_norm(norm, channels)
        self.project = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Add the attention's output: `[batch, frame, channel]` -> the same shape."""
        return features + self.attend(features, state)

    def attend(self, features: Tensor, state: State | None = None) -> Tensor:
        """Compute what is added to the features `[batch, frame, channel]`."""
        projected = self.project(self.norm(features, state)).unflatten(2, (3, self.num_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()  # [batch, head, frame, channel of head]
        heard = F.scaled_dot_product_attention(query, key, value)
        return self.out(heard.transpose(1, 2).flatten(2))


def check_rates(rates: list[int], num_repeats: int, skip_channels: int, causal: bool, attention: bool) -> None:
    """Raise `ConfigError` for impossible `repeat_rates`."""
    for rate in rates:
        check_whole("each of repeat_rates", rate)
    if len(rates) != num_repeats:
        raise ConfigError(
            f"repeat_rates={rates} has {len(rates)} entries; use one for each repeat (num_repeats={num_repeats})"
        )
    if math.lcm(*rates) > MAX_COMMON_RATE:
        raise ConfigError(
            f"repeat_rates={rates} have a least common multiple of {str(math.lcm(*rates))[:20]}, expected at most "
            f"{MAX_COMMON_RATE}; use rates that divide each other, such as [1, 4, 8, 4, 1]"
        )
    low = max(rates) > 1
    if low and skip_channels:
        raise ConfigError(
            f"repeat_rates={rates} needs skip_channels=0, got {skip_channels}: skip outputs of repeats at "
            "different frame rates have no common frames"
        )
    if attention and (causal or not low):
        why = "attention uses the whole recording" if causal else "attention needs repeats at a lower frame rate"
        raise ConfigError(
            f"attention=True: {why}; use causal=False and an entry above 1 in repeat_rates, or attention=False"
        )
