"""The learned encoder and decoder: waveform <-> coefficients `[batch, frame, filter]`.

Both are bias-free linear maps. So silence stays silence, and scaling a recording scales its stems. They compute in
the dtype of their weights even under autocast, because no mask can restore what they lose.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separator.errors import ConfigError, choose
from separator.models.state import State

# The network cannot tell magnitudes below this (about -90 dB of full scale) apart.
MAGNITUDE_FLOOR = 1e-5


# How frames lie on a recording of known length. A stream always uses "full".
FRAMINGS = {
    "full": "padded at both ends, so that every sample lies in as many frames as possible",
    "inside": "only whole frames; samples after the last whole frame become silence (asteroid, SpeechBrain's recipes)",
    "mirrored": "as inside, after half a frame was mirrored at both ends, which also delays the output by that much "
    "(SpeechBrain's own Conv-TasNet)",
}


def num_frames(num_samples: int, filter_length: int, stride: int) -> int:
    """Count the frames that cover `num_samples`, so that every sample lies in as many frames as possible."""
    return (num_samples - 1 + filter_length - stride) // stride + 1


class Encoder(nn.Module):
    """Linear analysis: `num_filters` filters of `filter_length` samples, every `stride` samples.

    With the default framing "full", the signal is padded so that its first frame ends with its first `stride` samples:
    frame k needs no sample from `(k + 1) * stride` on. The last frame is the last one in which a decoder with filters
    of `decoder_length` samples (`filter_length` if None) adds to the signal. Luo & Mesgarani 2019, eq. 2.
    `FRAMINGS` describes the other values of `framing`.
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
        """Encode `[batch, time]` -> `[batch, frame, filter]`. With a state, time is a multiple of the stride."""
        if state is None:
            padded = self._framed(waveform)
        elif waveform.shape[-1] % self.stride:
            raise ValueError(
                f"expected a block whose length is a multiple of the stride of {self.stride} samples, got "
                f"{waveform.shape[-1]} samples; net.stream() takes any length"
            )
        else:
            padded = state.with_past(self, waveform, self.filter_length - self.stride)
        windows = padded.unfold(-1, self.filter_length, self.stride)
        with torch.autocast(waveform.device.type, enabled=False):
            return F.linear(windows, self.weight)

    def _framed(self, waveform: Tensor) -> Tensor:
        """Pad a whole recording, so that its frames can be cut out."""
        time = waveform.shape[-1]
        if self.framing == "full":
            frames = num_frames(time, self.decoder_length, self.stride)
            return F.pad(waveform, (self.filter_length - self.stride, frames * self.stride - time))
        if self.framing == "mirrored":
            edge = self.filter_length // 2
            waveform = F.pad(waveform, (edge, edge), mode="reflect" if edge < time else "constant")
        return F.pad(waveform, (0, max(0, self.filter_length - waveform.shape[-1])))


class Decoder(nn.Module):
    """Linear synthesis by overlap-add: the transpose of `Encoder`, with its own weights.

    If its filters are shorter than the encoder's, each frame writes the end of the window that it was taken from.
    """

    def __init__(self, num_filters: int, filter_length: int, stride: int, framing: str = "full") -> None:
        super().__init__()
        self.filter_length, self.stride, self.framing = filter_length, stride, framing
        self.weight = nn.Parameter(torch.empty(num_filters, filter_length))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    @property
    def delay(self) -> int:
        """Delay of a stream's output in samples, because each sample needs later frames."""
        return self.filter_length - self.stride

    def forward(self, coefficients: Tensor, time: int, state: State | None = None) -> Tensor:
        """Decode `[..., frame, filter]` -> `[..., time]`, the samples that were given to `Encoder`.

        With a state, the output starts `delay` samples earlier, and `time` is the number of frames times the stride.
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
        """Overlap-add the windows `[..., frame, sample]` of a whole recording -> `[..., time]`."""
        samples = overlap_add(windows, self.stride)
        if self.framing == "full":
            return samples[..., self.delay : self.delay + time]
        return F.pad(samples, (0, time - samples.shape[-1]))  # a negative padding cuts samples off


def log_magnitude(coefficients: Tensor) -> Tensor:
    """Log-magnitude of each filter pair (k, k + N/2): `[batch, frame, filter]` -> `[batch, frame, filter / 2]`."""
    cosine, sine = coefficients.chunk(2, dim=-1)
    return 0.5 * torch.log(cosine.square() + sine.square() + MAGNITUDE_FLOOR**2)


def overlap_add(windows: Tensor, stride: int) -> Tensor:
    """Add windows placed every `stride` samples: `[..., frame, sample]` -> `[..., time]`."""
    overlap = -(-windows.shape[-1] // stride)
    pieces = F.pad(windows, (0, overlap * stride - windows.shape[-1])).unflatten(-1, (overlap, stride))
    # Piece k of a window starts k strides after the window. Shifted by k, the pieces of one place add up.
    shifted = [F.pad(pieces[..., k, :], (0, 0, k, overlap - 1 - k)) for k in range(overlap)]
    return torch.stack(shifted).sum(0).flatten(-2)


def check_fourier(num_filters: int, filter_length: int) -> None:
    """Raise `ConfigError` if there is no `fourier_pair` with these sizes."""
    if num_filters % 2 or num_filters < filter_length:
        raise ConfigError(
            f"encoder_init='fourier' needs an even num_filters of at least filter_length={filter_length}, "
            f"got {num_filters}: raise num_filters or use encoder_init='random'"
        )


def fourier_pair(
    num_filters: int, filter_length: int, stride: int, decoder_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Make analysis and synthesis filters `[filter, sample]` that reconstruct exactly, as initial weights.

    The sizes must pass `check_fourier`.

    Filters 0 to K - 1 (K = `num_filters` / 2) are cosines. Filters K to 2K - 1 are sines at the same K frequencies,
    (k + 1/2) / 2K cycles per sample. They are orthogonal over 2K samples, so they form a tight frame. The analysis
    window rises and falls like the square root of a Hann window. Its fall and the synthesis window have the length that
    goes with `decoder_length`. The product of both windows, overlapped, is 1.
    (Encoders initialized like this: Pariente et al. 2020, arXiv:1910.10400. Windows: Mauler & Martin 2007.)
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
    """A quarter of a sine over `rise` samples, then a quarter of a cosine over `fall` samples."""
    up = torch.sin(0.5 * math.pi * (torch.arange(rise, dtype=torch.float64) + 0.5) / rise)
    down = torch.cos(0.5 * math.pi * (torch.arange(fall, dtype=torch.float64) + 0.5) / max(1, fall))
    return torch.cat([up, down])
