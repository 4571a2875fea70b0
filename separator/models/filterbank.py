"""The learned encoder and decoder: waveform <-> coefficients `[batch, frame, filter]`.

Both are bias-free linear maps, so that silence stays silence and scaling a recording scales its stems.
They compute in the precision of their weights even under autocast: what they lose, no mask brings back.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separator.errors import ConfigError


def num_frames(num_samples: int, filter_length: int, stride: int) -> int:
    """How many frames cover `num_samples` so that every sample lies in all the frames it can lie in."""
    return (num_samples - 1 + filter_length - stride) // stride + 1


class Encoder(nn.Module):
    """Linear analysis: `num_filters` filters of `filter_length` samples, every `stride` samples.

    The signal is padded so that its first frame ends with its first `stride` samples: frame k needs
    no sample from `(k + 1) * stride` on. Luo & Mesgarani 2019, eq. 2.
    """

    def __init__(self, num_filters: int, filter_length: int, stride: int) -> None:
        super().__init__()
        self.filter_length, self.stride = filter_length, stride
        self.weight = nn.Parameter(torch.empty(num_filters, filter_length))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, waveform: Tensor) -> Tensor:
        """`[batch, time]` -> `[batch, frame, filter]`."""
        time = waveform.shape[-1]
        frames = num_frames(time, self.filter_length, self.stride)
        left = self.filter_length - self.stride
        right = (frames - 1) * self.stride + self.filter_length - left - time
        windows = F.pad(waveform, (left, right)).unfold(-1, self.filter_length, self.stride)
        with torch.autocast(waveform.device.type, enabled=False):
            return F.linear(windows, self.weight)


class Decoder(nn.Module):
    """Linear synthesis by overlap-add, the transpose of `Encoder` with weights of its own."""

    def __init__(self, num_filters: int, filter_length: int, stride: int) -> None:
        super().__init__()
        self.filter_length, self.stride = filter_length, stride
        self.weight = nn.Parameter(torch.empty(num_filters, filter_length))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, coefficients: Tensor, time: int) -> Tensor:
        """`[..., frame, filter]` -> `[..., time]`: the samples that `Encoder` was given."""
        with torch.autocast(coefficients.device.type, enabled=False):
            windows = F.linear(coefficients, self.weight.T)
        left = self.filter_length - self.stride
        return overlap_add(windows, self.stride)[..., left : left + time]


def overlap_add(windows: Tensor, stride: int) -> Tensor:
    """`[..., frame, sample]` -> `[..., time]`: windows placed every `stride` samples and added."""
    overlap = -(-windows.shape[-1] // stride)
    pieces = F.pad(windows, (0, overlap * stride - windows.shape[-1])).unflatten(-1, (overlap, stride))
    # Piece k of a window lies k strides after its start; so shifted, pieces of one place add up.
    shifted = [F.pad(pieces[..., k, :], (0, 0, k, overlap - 1 - k)) for k in range(overlap)]
    return torch.stack(shifted).sum(0).flatten(-2)


def fourier_pair(num_filters: int, filter_length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Analysis and synthesis filters `[filter, sample]` that reconstruct exactly, as a start for learning.

    Filters 0 to K - 1 (K = `num_filters` / 2) are cosines and K to 2K - 1 the sines of the same K
    frequencies, (k + 1/2) / 2K cycles a sample, under the square root of a Hann window: a tight frame,
    since the frequencies are orthogonal over 2K samples. Synthesis divides by K and by the overlapped
    squares of the window. (Encoders that start so: Pariente et al. 2020, arXiv:1910.10400.)
    """
    half = num_filters // 2
    if num_filters % 2 or num_filters < filter_length:
        raise ConfigError(
            f"encoder_init='fourier' needs an even num_filters of at least filter_length={filter_length}, "
            f"got {num_filters}: raise num_filters or use encoder_init='random'"
        )
    sample = torch.arange(filter_length, dtype=torch.float64)
    frequency = (torch.arange(half, dtype=torch.float64) + 0.5) / num_filters
    phase = 2 * math.pi * frequency[:, None] * (sample - (filter_length - 1) / 2)
    window = torch.sin(math.pi * (sample + 0.5) / filter_length)
    analysis = torch.cat([phase.cos(), phase.sin()]) * window
    overlap = F.pad(window.square(), (0, -filter_length % stride)).view(-1, stride).sum(0)
    synthesis = analysis / (half * overlap.repeat(-(-filter_length // stride))[:filter_length])
    return analysis.float(), synthesis.float()
