"""Normalization over feature maps `[batch, frame, channel]`, named as in the Conv-TasNet paper.

Statistics are computed in float32 (running sums in float64), whatever the dtype of the features. In half precision,
a sum over a whole recording loses the quiet frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separator.errors import ConfigError, choose
from separator.models.state import State


def at_least_float32(features: Tensor) -> Tensor:
    """Convert half precision to float32. Leave float32 and float64 unchanged."""
    return features.float() if features.dtype in (torch.bfloat16, torch.float16) else features


def sum_dtype(values: Tensor) -> torch.dtype:
    """Choose the dtype of running sums: float64, so that hours do not drift. MPS has no float64, so float32 there."""
    return torch.float32 if values.device.type == "mps" else torch.float64


class GlobalNorm(nn.Module):
    """gLN: one mean and variance for each example, over all channels and frames. Not causal.

    Luo & Mesgarani 2019, eq. 6 to 8. The same function as `GroupNorm(1, num_channels, eps)`. It is written out
    because a compiler fuses these lines with their neighbours, but does not fuse `GroupNorm`.
    """

    def __init__(self, num_channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Normalize `[batch, frame, channel]` -> the same shape."""
        if state is not None:
            raise ConfigError("norm='global' needs the whole recording; only 'cumulative' and 'channel' can stream")
        # Mean of the frames' means: ONNX Runtime adds in float32 and in order, so that a sum over the features
        # of one minute would lose three digits.
        centred = at_least_float32(features)
        centred = centred - centred.mean(2, keepdim=True).mean(1, keepdim=True)
        variance = centred.square().mean(2, keepdim=True).mean(1, keepdim=True)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (centred * scale + self.bias).to(features.dtype)


class CumulativeNorm(GlobalNorm):
    """cLN: at each frame, the mean and variance over all channels of this frame and all earlier frames.

    Luo & Mesgarani 2019, eq. 9 to 11. Causal. At the last frame it equals `GlobalNorm`.
    """

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Normalize `[batch, frame, channel]` -> the same shape."""
        values = at_least_float32(features)
        frames = values.shape[1]
        if not frames:
            if state is not None and state.recall(self) is None:  # the first block fixes the memory's shapes
                zeros = values.new_zeros(len(values), 1, 2, dtype=sum_dtype(values))
                state.keep(self, zeros, torch.zeros(1, 1, dtype=torch.int64, device=values.device))
            return features
        # First each frame's own mean and variance: if values hardly vary, squares lose the variance in float32.
        own_mean = values.mean(2, keepdim=True)
        own_variance = (values - own_mean).square().mean(2).to(sum_dtype(values))
        own_mean = own_mean.squeeze(2).to(sum_dtype(values))
        # Sums of the means and of the mean squares up to each frame, [batch, frame, 2], and their number of frames.
        sums = torch.stack([own_mean, own_variance + own_mean.square()], dim=-1).cumsum(1)
        count = torch.arange(1, frames + 1, device=values.device)[:, None]
        if state is not None:
            before = state.recall(self)
            if before is not None:
                sums, count = sums + before[0], count + before[1]
            state.keep(self, sums[:, -1:], count[-1:])
        mean, power = (sums / count).unsqueeze(2).unbind(-1)
        variance = (power - mean.square()).clamp_min(0).to(values.dtype)
        centred = (values - mean.to(values.dtype)) * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias, centred, self.weight).to(features.dtype)


class ChannelNorm(GlobalNorm):
    """Layer normalization of each frame by itself, over its channels. Causal and without memory.

    Ba, Kiros & Hinton 2016. Some toolboxes call this norm "cLN". The paper's cLN is `CumulativeNorm`.
    """

    def forward(self, features: Tensor, state: State | None = None) -> Tensor:
        """Normalize `[batch, frame, channel]` -> the same shape."""
        values = at_least_float32(features)
        return F.layer_norm(values, self.weight.shape, self.weight, self.bias, self.eps).to(features.dtype)


NORMS = {"global": GlobalNorm, "cumulative": CumulativeNorm, "channel": ChannelNorm}


def make_norm(name: str, num_channels: int) -> nn.Module:
    """Make the norm called `name` ("global", "cumulative" or "channel"). Raises `ConfigError` for other names."""
    return choose("norm", name, NORMS)(num_channels)
