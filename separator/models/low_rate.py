"""Repeats at a lower frame rate: frames put together, blocks that reach far for little, and back.

The idea is the context codec of Luo, Han & Mesgarani 2021 (GC3, arXiv:2012.07291) and of the U-shaped separators
(SuDoRM-RF, arXiv:2103.02644): what a voice is like changes slowly, so that most of the depth can do with few frames.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separator.errors import ConfigError, check_whole
from separator.models.norms import make_norm
from separator.models.state import State

# Channels of a head of attention.
HEAD_CHANNELS = 48
# Frames after which all repeats begin a new group together.
MAX_COMMON_RATE = 256


class LowRate(nn.Module):
    """Puts `rate` frames together into one, and spreads what became of it over frames again.

    A causal one gives each frame what is known when it ends: the last complete group of frames.

    Args:
        channels: of the frames.
        low_channels: of a group of frames.
        rate: frames in a group.
        causal: whether no frame may learn of later ones.
    """

    def __init__(self, channels: int, low_channels: int, rate: int, causal: bool) -> None:
        super().__init__()
        self.rate, self.causal = rate, causal
        self.gather = nn.Linear(rate * channels, low_channels)
        self.spread = nn.Linear(low_channels, rate * channels)
        # At first the blocks in between add nothing.
        nn.init.zeros_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)

    def down(self, features: Tensor, state: State | None = None) -> Tensor:
        """`[batch, frame, channel]` -> `[batch, group, low channel]`; with a state, of the groups complete by now."""
        if state is None:
            return self.gather(self._grouped(F.pad(features, (0, 0, 0, -features.shape[1] % self.rate))))
        memory = state.recall(self.gather)
        if (memory is None or memory[0].shape[1] == 0) and features.shape[1] % self.rate == 0:  # as in an exported step
            state.keep(self.gather, features[:, :0])
            return self.gather(self._grouped(features))
        waiting = features if memory is None else torch.cat([memory[0], features], dim=1)
        complete = waiting.shape[1] // self.rate * self.rate
        state.keep(self.gather, waiting[:, complete:])
        return self.gather(self._grouped(waiting[:, :complete]))

    def up(self, groups: Tensor, features: Tensor, state: State | None = None) -> Tensor:
        """`[batch, group, low channel]` -> what to add to each of the `features` `[batch, frame, channel]`."""
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
        """Frames by which what a group says comes late in a causal network: until its last frame."""
        return self.rate - 1 if self.causal else 0

    def _grouped(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (-1, self.rate)).flatten(2)


class Attention(nn.Module):
    """Self-attention over all frames: where in the recording the same voice was heard before.

    Multi-head attention (Vaswani et al. 2017, arXiv:1706.03762) on normalized features, added to them; the
    convolutions around it know where a frame lies. At first it adds nothing.

    Args:
        channels: of a frame.
        norm: as in `separator.models.norms`.
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
        """`[batch, frame, channel]` -> the same shape."""
        return features + self.heard(features, state)

    def heard(self, features: Tensor, state: State | None = None) -> Tensor:
        """What is added to the features `[batch, frame, channel]`."""
        projected = self.project(self.norm(features, state)).unflatten(2, (3, self.num_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()  # [batch, head, frame, channel of head]
        heard = F.scaled_dot_product_attention(query, key, value)
        return self.out(heard.transpose(1, 2).flatten(2))


def check_rates(rates: list[int], num_repeats: int, skip_channels: int, causal: bool, attention: bool) -> None:
    """Raises `ConfigError` for repeats at frame rates that cannot be."""
    for rate in rates:
        check_whole("each of repeat_rates", rate)
    if len(rates) != num_repeats:
        raise ConfigError(
            f"repeat_rates={rates} has {len(rates)} entries, one for each repeat is wanted: num_repeats={num_repeats}"
        )
    if math.lcm(*rates) > MAX_COMMON_RATE:
        raise ConfigError(
            f"repeat_rates={rates} come together every {str(math.lcm(*rates))[:20]} frames only; wanted at most "
            f"{MAX_COMMON_RATE}: use rates that divide each other, such as [1, 4, 8, 4, 1]"
        )
    low = max(rates) > 1
    if low and skip_channels:
        raise ConfigError(
            f"repeat_rates={rates} goes with skip_channels=0, got {skip_channels}: skip outputs of repeats at "
            "different frame rates have no common frames"
        )
    if attention and (causal or not low):
        why = "it looks at the whole recording" if causal else "it belongs to repeats at a lower frame rate"
        raise ConfigError(
            f"attention=True: {why}; use causal=False and an entry above 1 in repeat_rates, or attention=False"
        )
