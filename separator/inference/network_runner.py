"""Run the network on chunks of a recording: device, precision, levels, channels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from separator.devices import computes_bfloat16, find_device, survive_forks
from separator.errors import AudioError, ConfigError, check_whole, choose
from separator.inference.rumble import put_back, rumble
from separator.models import ConvTasNet, FastConvTasNet, State
from separator.models.polarity import polarity, signs
from separator.models.runtime import cpu_network
from separator.objectives import best_permutation, reorder

PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
# The network gets each chunk scaled to this peak.
WORKING_PEAK = 0.5
# A chunk with a peak below this value counts as silent.
SILENT_PEAK = 1e-6
# If averaging the channels leaves less than this fraction of their energy, they are of opposite polarity.
MIN_DOWNMIX_ENERGY = 0.05
# Batch size on a GPU, in chunks.
GPU_BATCH = 16


class Estimator:
    """Run a network, in its fastest form, on chunks of recordings.

    Args:
        net: the network. It is moved to `device`.
        device: "auto" or a torch device.
        precision: "float32", "bfloat16" or "auto".
        shifts: number of passes per chunk with shifted input (test-time augmentation).

    Raises:
        ConfigError: if the device, the precision or the number of shifts is invalid.
    """

    def __init__(self, net: ConvTasNet, device: str = "auto", precision: str = "auto", shifts: int = 1) -> None:
        self.device = find_device(device)
        self.net = net.to(self.device).requires_grad_(False)
        self.precision = choose("precision", precision, PRECISIONS) or _fastest_precision(net, self.device)
        self.shifts = shifts
        self.batch = GPU_BATCH if self.device.type == "cuda" else 1
        self._fast_net = self._fastest_form()
        survive_forks()

    def _fastest_form(self) -> ConvTasNet | FastConvTasNet:
        return self.net.fast(self.precision) if cpu_network.is_supported(self.net) else self.net

    def __getstate__(self) -> dict[str, Any]:
        """Leave the fast form out of copies and pickles. It depends on the processor and is made again."""
        return {name: value for name, value in vars(self).items() if name != "_fast_net"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._fast_net = self._fastest_form()

    @property
    def shifts(self) -> int:
        """Number of passes per chunk with shifted input (test-time augmentation)."""
        return self._shifts

    @shifts.setter
    def shifts(self, shifts: int) -> None:
        check_shifts(self.net, shifts)
        self._shifts = shifts

    def __call__(self, chunks: Sequence[Tensor]) -> list[Tensor]:
        """Separate a batch of chunks.

        Args:
            chunks: `[channel, time]`, all of the same shape.

        Returns:
            For each chunk its sources `[source, channel, time]`, at their levels in the chunk.
        """
        mixture = torch.stack(list(chunks))
        if mixture.shape[-1] == 0:
            return [chunk.new_zeros(len(self.net.sources), *chunk.shape) for chunk in chunks]
        if not self.net.num_interchangeable:
            return self._separate(mixture)
        # Rumble is only known to be foreign to voices, not to other kinds of sources.
        low = rumble(mixture, self.net.sample_rate)
        separated = self._separate(mixture - low)
        if not self.net.mixture_consistency:
            return separated
        return [put_back(stems, rest, self.net.num_interchangeable) for stems, rest in zip(separated, low, strict=True)]

    def _separate(self, mixture: Tensor) -> list[Tensor]:
        """Return the sources of each chunk of a batch `[batch, channel, time]`.

        Every chunk is scaled to the level of the training data. The network takes logarithms with a floor, and the
        levels of a quiet recording would come too close to it.
        """
        gains = WORKING_PEAK / mixture.abs().amax((1, 2), keepdim=True).clamp_min(SILENT_PEAK)
        scaled = gains * mixture
        weights = torch.stack([downmix_weights(chunk) for chunk in scaled])
        estimates = self._mean_of_shifts(scaled, weights)
        return [
            fit_levels(stems, chunk, may_be_inverted=not self.net.mixture_consistency) / gain
            for stems, chunk, gain in zip(estimates, scaled, gains[..., None], strict=True)
        ]

    def _mean_of_shifts(self, mixture: Tensor, weights: Tensor) -> Tensor:
        """Average `estimate` over shifted inputs (test-time augmentation).

        `[batch, channel, time]` -> `[batch, source, channel, time]`. The frames begin at another sample in each pass,
        and every second pass gets the input with its sign inverted.

        The network was trained with all shifts and both signs. So the estimates agree on the voices more than on
        their errors, and the mean reduces the errors. Source: the shift trick of Defossez et al. 2019,
        arXiv:1911.13254, here with evenly spaced shifts.
        """
        total = self.estimate(mixture, weights).transpose(1, 2)
        for number in range(1, self.shifts):
            shift, sign = round(number * self.net.encoder.stride / self.shifts), (-1) ** number
            estimate = sign * self.estimate(sign * F.pad(mixture, (shift, 0)), weights).transpose(1, 2)[..., shift:]
            total = total + _match_order(total, estimate, self.net.num_interchangeable)
        return total / self.shifts

    @torch.inference_mode()
    def estimate(self, mixture: Tensor, weights: Tensor, state: State | None = None) -> Tensor:
        """Run the network once.

        Args:
            mixture: `[batch, channel, time]`.
            weights: `[batch, channel]`. The masks are computed from the sum of the channels times these weights.
            state: state of a stream. With it, the mixture is the next block of the stream, and the network itself runs
                instead of its fast form.

        Returns:
            `[batch, channel, source, time]`.
        """
        network = self._fast_net if state is None else self.net
        is_autocast = self.precision is torch.bfloat16 and network is self.net
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_autocast):
            stems = network.separate_channels(mixture.to(self.device), weights.to(self.device), state)
        # `fit_levels` finds the signs from a whole recording. A stream cannot wait for the end.
        if state is not None and not self.net.mixture_consistency:
            stems = stems * self._polarity[:, None]
        return stems.cpu()

    @functools.cached_property
    def _polarity(self) -> Tensor:
        return polarity(self.net)

    def check_channels(self, count: int, model: str) -> None:
        """Raise `AudioError` unless the model takes `count` channels.

        A model with one channel takes any number. Another model takes its own number, or 1.
        """
        wanted = self.net.num_channels
        if wanted not in (1, count) and count != 1:
            raise AudioError(
                f"the recording has {count} channels, the model {model} takes {wanted} or 1; downmix it first"
            )


def check_shifts(net: ConvTasNet, shifts: int) -> None:
    """Check the number of shifts. Raise `ConfigError` if it is below 1, or above 1 for a network that can stream."""
    check_whole("shifts", shifts)
    if shifts > 1 and net.can_stream:
        raise ConfigError(f"shifts={shifts}: a model that can stream processes a recording once; leave shifts at 1")


def fit_levels(stems: Tensor, mixture: Tensor, may_be_inverted: bool = False) -> Tensor:
    """Scale each stem so that the sum of the stems is as close as possible to the mixture.

    A network that was trained with a scale-invariant objective gives stems of any level. The gains are the
    least-squares solution. Where the stems do not determine a gain, the solution closest to 1 is used. A stem whose
    gain is negative is silenced.

    Args:
        stems: `[source, channel, time]`.
        mixture: `[channel, time]`.
        may_be_inverted: whether the objective ignores the sign too. The signs are then found first, see
            `separator.models.polarity`.
    """
    if may_be_inverted:
        stems = stems * signs(stems.flatten(1), mixture.flatten())[:, None, None]
    flat = stems.flatten(1).double()
    missing = mixture.flatten().double() - flat.sum(0)
    lengths = flat.norm(dim=1).clamp_min(1e-12)
    unit = flat / lengths[:, None]
    gains = 1 + torch.linalg.pinv(unit @ unit.T, rtol=1e-6, hermitian=True) @ (unit @ missing) / lengths
    return stems * gains.clamp_min(0).to(stems.dtype)[:, None, None]


def _match_order(reference: Tensor, estimate: Tensor, num_interchangeable: int) -> Tensor:
    """Permute the sources of `estimate` to match those of `reference`, both `[batch, source, channel, time]`.

    Only the first `num_interchangeable` sources are permuted.
    """
    if num_interchangeable < 2:
        return estimate
    alike, fixed = estimate.flatten(2).tensor_split([num_interchangeable], dim=1)
    permutation = best_permutation(reference.flatten(2)[:, :num_interchangeable] @ alike.mT)
    return torch.cat([reorder(alike, permutation), fixed], dim=1).view_as(estimate)


def downmix_weights(mixture: Tensor) -> Tensor:
    """Return the weight `[channel]` of each channel of `[channel, time]` in the downmix that the masks come from.

    The downmix is the mean. If the channels cancel each other, the channels of opposite polarity to the loudest
    channel are inverted first.
    """
    weights = mixture.new_full((mixture.shape[0],), 1 / mixture.shape[0])
    energy = mixture.square().mean()
    if len(weights) > 1 and mixture.mean(0).square().mean() < MIN_DOWNMIX_ENERGY * energy:
        loudest = mixture[mixture.square().sum(-1).argmax()]
        weights = torch.where(mixture @ loudest < 0, -weights, weights)
    return weights


def _fastest_precision(net: ConvTasNet, device: torch.device) -> torch.dtype:
    """Return the fastest dtype that the processor supports natively. It is float32 for causal networks."""
    is_faster = computes_bfloat16(device) and (device.type != "cpu" or cpu_network.is_supported(net))
    return torch.bfloat16 if is_faster and not net.causal else torch.float32
