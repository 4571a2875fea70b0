"""The network as it is run on a piece of a recording: device, precision, levels, channels."""

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
# Peak at which the network is given a piece, and the peak below which a piece counts as silent.
WORKING_PEAK = 0.5
SILENT_PEAK = 1e-6
# If averaging the channels leaves less than this of their energy, they are of opposite polarity.
MIN_DOWNMIX_ENERGY = 0.05
# Pieces that are given to a GPU at once.
GPU_BATCH = 16


class Estimator:
    """Runs a network, in its fastest form, on pieces of recordings.

    Args:
        net: the network; it is moved to `device`.
        device: "auto", or one of torch's.
        precision: "float32", "bfloat16", or "auto".
        shifts: how often each piece goes through the network.

    Raises:
        ConfigError: for an unknown device or precision, or a number of shifts that cannot be.
    """

    def __init__(self, net: ConvTasNet, device: str = "auto", precision: str = "auto", shifts: int = 1) -> None:
        self.device = find_device(device)
        self.net = net.to(self.device).requires_grad_(False)
        self.precision = choose("precision", precision, PRECISIONS) or _fastest_precision(net, self.device)
        self.shifts = shifts
        self.batch = GPU_BATCH if self.device.type == "cuda" else 1
        self._whole = self._fastest_form()
        survive_forks()

    def _fastest_form(self) -> ConvTasNet | FastConvTasNet:
        return self.net.fast(self.precision) if cpu_network.suits(self.net) else self.net

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the fast form is the processor's own, and is made again."""
        return {name: value for name, value in vars(self).items() if name != "_whole"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._whole = self._fastest_form()

    @property
    def shifts(self) -> int:
        """How often each piece goes through the network."""
        return self._shifts

    @shifts.setter
    def shifts(self, shifts: int) -> None:
        check_shifts(self.net, shifts)
        self._shifts = shifts

    def __call__(self, chunks: Sequence[Tensor]) -> list[Tensor]:
        """Separates chunks.

        Args:
            chunks: `[channel, time]`, all of one shape.

        Returns:
            For each its sources `[source, channel, time]`, at the level at which they are in it.
        """
        mixture = torch.stack(list(chunks))
        if mixture.shape[-1] == 0:
            return [chunk.new_zeros(len(self.net.sources), *chunk.shape) for chunk in chunks]
        if not self.net.num_interchangeable:
            return self._separated(mixture)
        # Only of voices it is known what they do not have.
        low = rumble(mixture, self.net.sample_rate)
        separated = self._separated(mixture - low)
        if not self.net.mixture_consistency:
            return separated
        return [put_back(stems, rest, self.net.num_interchangeable) for stems, rest in zip(separated, low, strict=True)]

    def _separated(self, mixture: Tensor) -> list[Tensor]:
        """Sources of each chunk of `[batch, channel, time]`.

        The network hears every chunk at the level of its training: its logarithms end at a floor, which a quiet
        recording would come too near.
        """
        gains = WORKING_PEAK / mixture.abs().amax((1, 2), keepdim=True).clamp_min(SILENT_PEAK)
        heard = gains * mixture
        weights = torch.stack([downmix_weights(chunk) for chunk in heard])
        estimates = self._mean_of_shifts(heard, weights)
        return [
            fit_levels(stems, chunk, may_be_inverted=not self.net.mixture_consistency) / gain
            for stems, chunk, gain in zip(estimates, heard, gains[..., None], strict=True)
        ]

    def _mean_of_shifts(self, mixture: Tensor, weights: Tensor) -> Tensor:
        """`estimate`, several times: frames begin elsewhere in each, and every second one hears it upside down.

        `[batch, channel, time]` -> `[batch, source, channel, time]`.

        What the network has learned, it has learned of all of them, so that the estimates have the voices in common
        and their errors less so. (The shift trick of Defossez et al. 2019, arXiv:1911.13254, at even distances.)
        """
        total = self.estimate(mixture, weights).transpose(1, 2)
        for number in range(1, self.shifts):
            later, sign = round(number * self.net.encoder.stride / self.shifts), (-1) ** number
            estimate = sign * self.estimate(sign * F.pad(mixture, (later, 0)), weights).transpose(1, 2)[..., later:]
            total = total + _in_order_of(total, estimate, self.net.num_interchangeable)
        return total / self.shifts

    @torch.inference_mode()
    def estimate(self, mixture: Tensor, weights: Tensor, state: State | None = None) -> Tensor:
        """`[batch, channel, time]` -> `[batch, channel, source, time]`; masks come from the channels times `weights`.

        With a state it is the next block of a stream, which goes through the network itself.
        """
        network = self._whole if state is None else self.net
        rounded = self.precision is torch.bfloat16 and network is self.net
        with torch.autocast(self.device.type, torch.bfloat16, enabled=rounded):
            stems = network.separate_channels(mixture.to(self.device), weights.to(self.device), state)
        # `fit_levels` finds the signs of a whole recording. A stream cannot wait for its end.
        if state is not None and not self.net.mixture_consistency:
            stems = stems * self._polarity[:, None]
        return stems.cpu()

    @functools.cached_property
    def _polarity(self) -> Tensor:
        return polarity(self.net)

    def check_channels(self, count: int, model: str) -> None:
        """Raises `AudioError` unless the model takes so many: one of one channel any number, another its own or 1."""
        wanted = self.net.num_channels
        if wanted not in (1, count) and count != 1:
            raise AudioError(
                f"the recording has {count} channels, the model {model} separates {wanted} or 1; mix them down first"
            )


def check_shifts(net: ConvTasNet, shifts: int) -> None:
    """Raises `ConfigError` for a number of shifts that a network cannot have."""
    check_whole("shifts", shifts)
    if shifts > 1 and net.can_stream:
        raise ConfigError(f"shifts={shifts}: a model that can stream hears a recording once; leave shifts at 1")


def fit_levels(stems: Tensor, mixture: Tensor, may_be_inverted: bool = False) -> Tensor:
    """Stems `[source, channel, time]`, each with the gain with which their sum is nearest to the mixture.

    A network trained with a scale-invariant objective leaves their level open. Least squares; where the stems
    do not determine a gain, it is the one nearest to 1. A stem that still points against the mixture is silenced.

    Args:
        stems: `[source, channel, time]`.
        mixture: `[channel, time]`.
        may_be_inverted: whether the objective left the sign open as well; it is then found first, see
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


def _in_order_of(reference: Tensor, estimate: Tensor, num_interchangeable: int) -> Tensor:
    """`estimate`, `[batch, source, channel, time]`, with each source where `reference` has the one most like it.

    Only the first `num_interchangeable` sources change places.
    """
    if num_interchangeable < 2:
        return estimate
    alike, fixed = estimate.flatten(2).tensor_split([num_interchangeable], dim=1)
    permutation = best_permutation(reference.flatten(2)[:, :num_interchangeable] @ alike.mT)
    return torch.cat([reorder(alike, permutation), fixed], dim=1).view_as(estimate)


def downmix_weights(mixture: Tensor) -> Tensor:
    """`[channel]`: how much of each channel of `[channel, time]` goes into the signal that the masks come from.

    The mean, unless the channels cancel each other; then those against the loudest one are turned round.
    """
    weights = mixture.new_full((mixture.shape[0],), 1 / mixture.shape[0])
    energy = mixture.square().mean()
    if len(weights) > 1 and mixture.mean(0).square().mean() < MIN_DOWNMIX_ENERGY * energy:
        loudest = mixture[mixture.square().sum(-1).argmax()]
        weights = torch.where(mixture @ loudest < 0, -weights, weights)
    return weights


def _fastest_precision(net: ConvTasNet, device: torch.device) -> torch.dtype:
    """What the processor computes products in fastest, without an emulation; float32 for what streams."""
    is_faster = computes_bfloat16(device) and (device.type != "cpu" or cpu_network.suits(net))
    return torch.bfloat16 if is_faster and not net.causal else torch.float32
