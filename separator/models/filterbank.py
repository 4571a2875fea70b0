"""The learned encoder and decoder: waveform <-> coefficients `[batch, frame, filter]`.

Both are bias-free linear maps, so that silence stays silence and scaling a recording scales its stems.
They compute in the precision of their weights even under autocast: what they lose, no mask brings back.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separator.errors import ConfigError, choose
from separator.models.state import State

# Magnitudes below this (about -90 dB of full scale) all look alike to the network.
MAGNITUDE_FLOOR = 1e-5


# How frames lie on a recording whose length is known. A stream's lie as in "full".
FRAMINGS = {
    "full": "every sample lies in all the frames that it can lie in",
    "inside": "whole frames of the recording; what fills none comes out as silence (asteroid, SpeechBrain's recipes)",
    "mirrored": "as inside, of the recording with half a frame mirrored at both ends, by which the output comes late "
    "(SpeechBrain's own Conv-TasNet)",
}


def num_frames(num_samples: int, filter_length: int, stride: int) -> int:
    """How many frames cover `num_samples` so that every sample lies in all the frames it can lie in."""
    return (num_samples - 1 + filter_length - stride) // stride + 1


class Encoder(nn.Module):
    """Linear analysis: `num_filters` filters of `filter_length` samples, every `stride` samples.

    The signal is padded so that its first frame ends with its first `stride` samples: frame k needs
    no sample from `(k + 1) * stride` on. The last is the last frame that a decoder with filters of
    `decoder_length` samples (as long as these if None) adds to the signal. Luo & Mesgarani 2019, eq. 2.
    Other `framing`s than this one, "full", are those of `FRAMINGS`.
    """

    def __init__(
        self,
        num_filters: int,
        filter_length: int,
        stride: int,
        decoder_length: int | None = None,
        framing: str = "full",
    ) -> None:
        super().__init__()
        choose("framing", framing, FRAMINGS)
        self.filter_length, self.stride, self.framing = filter_length, stride, framing
        self.decoder_length = decoder_length or filter_length
        self.weight = nn.Parameter(torch.empty(num_filters, filter_length))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, waveform: Tensor, state: State | None = None) -> Tensor:
        """`[batch, time]` -> `[batch, frame, filter]`. With a state, time is a multiple of the stride."""
        if state is None:
            padded = self._framed(waveform)
        elif waveform.shape[-1] % self.stride:
            raise ValueError(
                f"expected blocks of whole strides of {self.stride} samples, got {waveform.shape[-1]} samples; "
                "net.stream() takes any"
            )
        else:
            padded = state.with_past(self, waveform, self.filter_length - self.stride)
        windows = padded.unfold(-1, self.filter_length, self.stride)
        with torch.autocast(waveform.device.type, enabled=False):
            return F.linear(windows, self.weight)

    def _framed(self, waveform: Tensor) -> Tensor:
        """A whole recording, with what frames hold beyond its ends."""
        time = waveform.shape[-1]
        if self.framing == "full":
            frames = num_frames(time, self.decoder_length, self.stride)
            return F.pad(waveform, (self.filter_length - self.stride, frames * self.stride - time))
        if self.framing == "mirrored":
            edge = self.filter_length // 2
            waveform = F.pad(waveform, (edge, edge), mode="reflect" if edge < time else "constant")
        return F.pad(waveform, (0, max(0, self.filter_length - waveform.shape[-1])))


class Decoder(nn.Module):
    """Linear synthesis by overlap-add, the transpose of `Encoder` with weights of its own.

    With filters shorter than the encoder's, each frame writes the end of the window that it was taken from.
    """

    def __init__(self, num_filters: int, filter_length: int, stride: int, framing: str = "full") -> None:
        super().__init__()
        self.filter_length, self.stride, self.framing = filter_length, stride, framing
        self.weight = nn.Parameter(torch.empty(num_filters, filter_length))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    @property
    def delay(self) -> int:
        """Samples for which later frames must be awaited: a stream gives its output so much later."""
        return self.filter_length - self.stride

    def forward(self, coefficients: Tensor, time: int, state: State | None = None) -> Tensor:
        """`[..., frame, filter]` -> `[..., time]`: the samples that `Encoder` was given.

        With a state, those `delay` samples before them, and `time` is all that the frames hold.
        """
        with torch.autocast(coefficients.device.type, enabled=False):
            windows = F.linear(coefficients, self.weight.T)
        if state is None:
            return self.place(windows, time)
        samples = overlap_add(windows, self.stride)
        begun = state.recall(self)
        if begun is not None:
            samples = samples + F.pad(begun[0], (0, time))
        state.keep(self, samples[..., time:])
        return samples[..., :time]

    def place(self, windows: Tensor, time: int) -> Tensor:
        """Windows `[..., frame, sample]` of a whole recording -> `[..., time]`."""
        samples = overlap_add(windows, self.stride)
        if self.framing == "full":
            return samples[..., self.delay : self.delay + time]
        return F.pad(samples, (0, time - samples.shape[-1]))  # which cuts off what is too much


def log_magnitude(coefficients: Tensor) -> Tensor:
    """`[batch, frame, filter]` -> `[batch, frame, filter / 2]`: log of the length of each pair (k, k + N/2)."""
    cosine, sine = coefficients.chunk(2, dim=-1)
    return 0.5 * torch.log(cosine.square() + sine.square() + MAGNITUDE_FLOOR**2)


def overlap_add(windows: Tensor, stride: int) -> Tensor:
    """`[..., frame, sample]` -> `[..., time]`: windows placed every `stride` samples and added."""
    overlap = -(-windows.shape[-1] // stride)
    pieces = F.pad(windows, (0, overlap * stride - windows.shape[-1])).unflatten(-1, (overlap, stride))
    # Piece k of a window lies k strides after its start; so shifted, pieces of one place add up.
    shifted = [F.pad(pieces[..., k, :], (0, 0, k, overlap - 1 - k)) for k in range(overlap)]
    return torch.stack(shifted).sum(0).flatten(-2)


def check_fourier(num_filters: int, filter_length: int) -> None:
    """Raises `ConfigError` if there is no `fourier_pair` of such sizes."""
    if num_filters % 2 or num_filters < filter_length:
        raise ConfigError(
            f"encoder_init='fourier' needs an even num_filters of at least filter_length={filter_length}, "
            f"got {num_filters}: raise num_filters or use encoder_init='random'"
        )


def fourier_pair(
    num_filters: int, filter_length: int, stride: int, decoder_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Analysis and synthesis filters `[filter, sample]` that reconstruct exactly, as a start for learning.

    Of sizes that `check_fourier` lets pass.

    Filters 0 to K - 1 (K = `num_filters` / 2) are cosines and K to 2K - 1 the sines of the same K
    frequencies, (k + 1/2) / 2K cycles a sample: a tight frame, since they are orthogonal over 2K samples.
    The analysis window rises and falls like the square root of a Hann window; its fall, and the synthesis
    window, are those of `decoder_length` samples. The product of both windows, overlapped, is 1.
    (Encoders that start so: Pariente et al. 2020, arXiv:1910.10400; windows: Mauler & Martin 2007.)
    """
    half = num_filters // 2
    length = decoder_length or filter_length
    sample = torch.arange(filter_length, dtype=torch.float64)
    frequency = (torch.arange(half, dtype=torch.float64) + 0.5) / num_filters
    phase = 2 * math.pi * frequency[:, None] * (sample - (filter_length - 1) / 2)
    waves = torch.cat([phase.cos(), phase.sin()])
    window = _root_hann(filter_length - length // 2, length // 2)
    product = _root_hann(length - length // 2, length // 2).square()
    overlap = F.pad(product, (0, -length % stride)).view(-1, stride).sum(0).repeat(-(-length // stride))[:length]
    synthesis = waves[:, -length:] * product / (half * overlap * window[-length:])
    return (waves * window).float(), synthesis.float()


def _root_hann(rise: int, fall: int) -> Tensor:
    """A quarter of a sine over `rise` samples, a quarter of a cosine over `fall`."""
    up = torch.sin(0.5 * math.pi * (torch.arange(rise, dtype=torch.float64) + 0.5) / rise)
    down = torch.cos(0.5 * math.pi * (torch.arange(fall, dtype=torch.float64) + 0.5) / max(1, fall))
    return torch.cat([up, down])
