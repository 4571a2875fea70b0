"""Training objectives and evaluation metrics: functions of `(estimate, reference)`, in dB, higher is better.

All accept any leading dimensions, `[..., time]` -> `[...]`. Values and gradients stay finite for silence, for
identical signals and for a zero estimate.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# Called with (estimate, reference). For `silence_safe` also with the bound in dB.
Metric = Callable[..., Tensor]

# Added to energies (sums of squares). Far below the energy of any audible signal.
ENERGY_FLOOR = 1e-8
# Score in dB of a silent estimate of a sounding source. asteroid's metrics use the same value.
SILENT_ESTIMATE_DB = -80.0
# If the SNR of a mixture against one source reaches this, in dB, the mixture holds nothing else.
MIXED_DB = 60.0
# With more sources than this the Hungarian algorithm is faster than trying all permutations.
MAX_EXHAUSTIVE = 4


def si_snr(estimate: Tensor, reference: Tensor, max_db: float | None = None) -> Tensor:
    """Compute the scale-invariant signal-to-noise ratio, `[..., time]` -> `[...]` in dB.

    Both signals are made zero-mean. The estimate is projected on the reference, and the energy of the projection is
    compared with the energy of the rest (Luo & Mesgarani 2019, eq. 15; Le Roux et al. 2019).

    Args:
        estimate: `[..., time]`.
        reference: `[..., time]`.
        max_db: upper bound of the score in dB, as in `snr`. No bound if None.

    Raises:
        ValueError: if the shapes do not broadcast or there are no samples.

    Example:
        >>> import torch
        >>> from separator import si_snr
        >>> voice, noise = torch.tensor([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]])
        >>> round(si_snr(0.5 * (voice + 0.1 * noise), voice).item(), 1)  # the level does not matter
        20.0
    """
    _check(estimate, reference)
    estimate = estimate - estimate.mean(-1, keepdim=True)
    reference = reference - reference.mean(-1, keepdim=True)
    dot = (estimate * reference).sum(-1, keepdim=True)
    target = dot / (reference.square().sum(-1, keepdim=True) + ENERGY_FLOOR) * reference
    signal = target.square().sum(-1)
    return _ratio_db(signal, _bounded((estimate - target).square().sum(-1), signal, max_db))


def snr(estimate: Tensor, reference: Tensor, max_db: float | None = None) -> Tensor:
    """Compute the signal-to-noise ratio of `estimate`, `[..., time]` -> `[...]` in dB. Silent references are allowed.

    With a silent reference, a silent estimate scores 0 dB. The score falls as the energy of the estimate grows.

    Args:
        estimate: `[..., time]`.
        reference: `[..., time]`.
        max_db: upper bound of the score in dB, so that a source that is already clean does not outweigh the others
            (Wisdom et al. 2020, arXiv:2006.12701, eq. 2). No bound if None.

    Raises:
        ValueError: if the shapes do not broadcast or there are no samples.

    Example:
        >>> import torch
        >>> from separator import snr
        >>> voice = torch.tensor([1.0, -1.0, 1.0, -1.0])
        >>> round(snr(0.9 * voice, voice).item(), 1)
        20.0
    """
    _check(estimate, reference)
    signal = reference.square().sum(-1)
    return _ratio_db(signal, _bounded((estimate - reference).square().sum(-1), signal, max_db))


def mean_snr(estimate: Tensor, reference: Tensor, max_db: float | None = None) -> Tensor:
    """Compute the mean of `snr` and `si_snr`, `[..., time]` -> `[...]` in dB.

    SNR alone pulls early, wrong estimates to zero, while SI-SNR shows where to go. For good estimates SNR sets the
    level, which SI-SNR ignores.
    """
    return 0.5 * (snr(estimate, reference, max_db) + si_snr(estimate, reference, max_db))


def silence_safe(metric: Metric, mixture: Tensor, max_db: float = 30.0, silence_weight: float = 0.2) -> Metric:
    """Wrap a metric such as `snr` for mixtures in which some sources may be silent.

    A sounding source scores `metric`, bounded by `max_db`. A silent source scores how many dB its estimate is quieter
    than the mixture. This score is bounded by `max_db` and multiplied by `silence_weight`: it is 0 if the estimate is
    the mixture itself, and `silence_weight * max_db` if the estimate is silent.

    After Wisdom et al. 2021, arXiv:2011.00803, with three changes: the sign is reversed, the mixture's energy is the
    unit, and the weight is new. Silence is easy to output. If it counted as much as separation, a network would learn
    to give everything to one source and would stop there.

    Args:
        metric: `(estimate, reference, max_db)`, `[..., time]` -> `[...]` in dB.
        mixture: `[..., time]`.
        max_db: upper bound of each score in dB.
        silence_weight: factor for the score of silent sources.
    """
    floor = 10 ** (-max_db / 10)

    def safe(estimate: Tensor, reference: Tensor) -> Tensor:
        energy = mixture.square().sum(-1)
        while energy.ndim < max(estimate.ndim, reference.ndim) - 1:
            energy = energy.unsqueeze(-1)
        quietness = _ratio_db(energy, estimate.square().sum(-1) + floor * energy)
        return torch.where(is_silent(reference), silence_weight * quietness, metric(estimate, reference, max_db))

    return safe


def thresholded(metric: Metric, mixture: Tensor, threshold_db: float = 30.0, silence_weight: float = 0.2) -> Metric:
    """Wrap a metric such as `si_snr` so that errors far below the mixture stop counting.

    `silence_safe` bounds the score of a source by the source's own energy. This function also bounds it by the
    mixture's energy: an error `threshold_db` below the mixture counts as half removed. So a background 20 dB below the
    voices cannot score more than about 10 dB, and inaudible errors do not dominate a batch. Silent sources score as in
    `silence_safe`.

    Wisdom et al. 2021, arXiv:2011.00803, eq. 4 and 5, written as a soft minimum of the score and its bound.

    Args:
        metric: `(estimate, reference)`, `[..., time]` -> `[...]` in dB.
        mixture: `[..., time]`.
        threshold_db: level below the mixture, in dB, at which an error counts as half removed.
        silence_weight: factor for the score of silent sources.
    """
    energy = mixture.square().sum(-1)

    def safe(estimate: Tensor, reference: Tensor) -> Tensor:
        loudness = energy
        while loudness.ndim < max(estimate.ndim, reference.ndim) - 1:
            loudness = loudness.unsqueeze(-1)
        bound_db = threshold_db + _ratio_db(reference.square().sum(-1), loudness).clamp_max(0)
        quietness = _ratio_db(loudness, estimate.square().sum(-1) + 10 ** (-threshold_db / 10) * loudness)
        score = _soft_minimum_db(metric(estimate, reference), bound_db)
        return torch.where(is_silent(reference), silence_weight * quietness, score)

    return safe


def is_silent(reference: Tensor) -> Tensor:
    """Tell whether each signal is silent, `[..., time]` -> `[...]`."""
    return reference.square().sum(-1) <= ENERGY_FLOOR


def is_constant(signal: Tensor) -> Tensor:
    """Tell whether each signal is only an offset, which SI-SNR ignores: `[..., time]` -> `[...]`."""
    return is_silent(signal - signal.mean(-1, keepdim=True))


def is_mixed(reference: Tensor, mixture: Tensor) -> Tensor:
    """Tell whether a mixture `[batch, time]` is more than one source of `[batch, source, time]` alone: `[batch]`."""
    return (snr(mixture.unsqueeze(1), reference) < MIXED_DB).all(1)


def pit(
    metric: Metric, estimate: Tensor, reference: Tensor, num_interchangeable: int | None = None
) -> tuple[Tensor, Tensor]:
    """Find the permutation of the estimates with the best mean `metric` (permutation-invariant training).

    Every estimate is compared with every reference once. The best assignment is then found exhaustively for up to 4
    sources, and by the Hungarian algorithm for more. (Yu et al. 2017, arXiv:1607.00325.)

    Args:
        metric: `(estimate, reference)`, `[..., time]` -> `[...]`, higher is better.
        estimate: `[batch, source, time]`.
        reference: `[batch, source, time]`.
        num_interchangeable: how many of the first sources may be in any order. The others, such as a background, keep
            their places. All are interchangeable if None.

    Returns:
        The mean over the sources `[batch]`, differentiable, and the permutation `[batch, source]`. Entry i of the
        permutation is the number of the estimate that belongs to reference i. `reorder` applies it.

    Raises:
        ValueError: if the shapes are not equal or not three-dimensional.

    Example:
        >>> import torch
        >>> from separator import pit, snr
        >>> reference = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]])
        >>> value, permutation = pit(snr, 0.9 * reference.flip(1), reference)  # the sources are swapped
        >>> round(value.item(), 1), permutation.tolist()
        (20.0, [[1, 0]])
    """
    if estimate.ndim != 3 or estimate.shape != reference.shape:
        raise ValueError(
            f"expected estimate and reference of one shape [batch, source, time], "
            f"got {list(estimate.shape)} and {list(reference.shape)}"
        )
    num_sources = reference.shape[1]
    count = num_sources if num_interchangeable is None else num_interchangeable
    places = torch.arange(num_sources, device=estimate.device).expand(len(estimate), -1)
    if count < 2:
        return metric(estimate, reference).mean(-1), places
    # [batch, reference, estimate], one reference at a time, because the full product may not fit in memory.
    pairs = torch.stack([metric(estimate[:, :count], reference[:, i : i + 1]) for i in range(count)], dim=1)
    permutation = best_permutation(pairs)
    values = pairs.gather(2, permutation.unsqueeze(-1)).squeeze(-1)
    if count < num_sources:
        values = torch.cat([values, metric(estimate[:, count:], reference[:, count:])], dim=1)
        permutation = torch.cat([permutation, places[:, count:]], dim=1)
    return values.mean(-1), permutation


def best_permutation(pairs: Tensor) -> Tensor:
    """Find the assignment with the largest sum: scores `[batch, reference, estimate]` -> `[batch, reference]`."""
    scores = pairs.detach()
    num_sources = scores.shape[-1]
    if num_sources <= MAX_EXHAUSTIVE:
        candidates = torch.tensor(list(itertools.permutations(range(num_sources))), device=scores.device)
        rows = torch.arange(num_sources, device=scores.device)
        return candidates[scores[:, rows, candidates].sum(-1).argmax(-1)]
    from scipy.optimize import linear_sum_assignment  # slower to import than everything else here

    matrices = scores.double().cpu().numpy()
    columns = [linear_sum_assignment(matrix, maximize=True)[1] for matrix in np.nan_to_num(matrices)]
    return torch.as_tensor(np.stack(columns), device=scores.device)


def reorder(estimate: Tensor, permutation: Tensor) -> Tensor:
    """Put `estimate` `[batch, source, time]` into the order of the references, with the `permutation` from `pit`.

    Example:
        >>> import torch
        >>> from separator import reorder
        >>> estimate = torch.tensor([[[3.0, 4.0], [1.0, 2.0]]])
        >>> reorder(estimate, torch.tensor([[1, 0]])).tolist()
        [[[1.0, 2.0], [3.0, 4.0]]]
    """
    return estimate.gather(1, permutation.unsqueeze(-1).expand_as(estimate))


def si_snr_of_sounding(estimate: Tensor, reference: Tensor) -> Tensor:
    """Compute `si_snr`, but 0 dB where the reference is silent, whatever the estimate is.

    A silent estimate of a sounding source scores `SILENT_ESTIMATE_DB`. With the energy floors of `si_snr` alone it
    would score 0 dB, which may be more than the mixture scores.
    """
    value = torch.where(is_constant(estimate), SILENT_ESTIMATE_DB, si_snr(estimate, reference))
    return torch.where(is_silent(reference), 0.0, value)


def si_snr_improvement(
    estimate: Tensor,
    reference: Tensor,
    mixture: Tensor,
    permute: bool = True,
    num_interchangeable: int | None = None,
) -> Tensor:
    """Compute SI-SNRi: how much the estimates gain over the mixture, mean over the sources, `[batch]` in dB.

    Silent sources do not count, because they have no SI-SNR.

    Args:
        estimate: `[batch, source, time]`.
        reference: `[batch, source, time]`.
        mixture: `[batch, time]`.
        permute: whether the estimates may be in any order. The best order is used.
        num_interchangeable: how many of the first sources may be in any order, as in `pit`. All if None.

    Raises:
        ValueError: as `pit` and `si_snr` do.

    Example:
        >>> import torch
        >>> from separator import si_snr_improvement
        >>> reference = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]])
        >>> mixture = reference.sum(1)  # SI-SNR 0 dB for both sources
        >>> estimate = reference + 0.1 * mixture
        >>> round(si_snr_improvement(estimate, reference, mixture).item(), 1)
        20.8
    """
    metric = si_snr_of_sounding
    value = pit(metric, estimate, reference, num_interchangeable if permute else 0)[0]
    gain = value - metric(mixture.unsqueeze(1), reference).mean(-1)
    share = (~is_silent(reference)).float().mean(-1)
    return gain / share.clamp_min(0.5 / reference.shape[1])


def mixture_consistency(estimate: Tensor, mixture: Tensor) -> Tensor:
    """Add the same signal to every estimate `[batch, source, time]`, so that they sum to the mixture `[batch, time]`.

    This is the orthogonal projection on the set of estimates that sum to the mixture (Wisdom et al. 2019,
    arXiv:1811.08521, eq. 5).

    Example:
        >>> import torch
        >>> from separator import mixture_consistency
        >>> estimate = torch.tensor([[[1.0, 2.0], [0.0, 1.0]]])
        >>> mixture_consistency(estimate, torch.tensor([[2.0, 5.0]])).tolist()
        [[[1.5, 3.0], [0.5, 2.0]]]
    """
    missing = mixture - estimate.sum(1)
    return estimate + missing.unsqueeze(1) / estimate.shape[1]


def _bounded(noise: Tensor, signal: Tensor, max_db: float | None) -> Tensor:
    return noise if max_db is None else noise + 10 ** (-max_db / 10) * signal


def _soft_minimum_db(one: Tensor, other: Tensor) -> Tensor:
    """Soft minimum of two ratios in dB: their noises are added. 3 dB below two equal ratios."""
    per_db = math.log(10) / 10
    return -torch.logaddexp(-per_db * one, -per_db * other) / per_db


def _ratio_db(signal: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10((signal + ENERGY_FLOOR) / (noise + ENERGY_FLOOR))


def _check(estimate: Tensor, reference: Tensor) -> None:
    if estimate.shape[-1] != reference.shape[-1] or estimate.shape[-1] == 0:
        raise ValueError(
            f"expected estimate and reference [..., time] of one length above 0, "
            f"got {list(estimate.shape)} and {list(reference.shape)}"
        )


# Name -> function that makes the metric from the mixture `[batch, time]`.
OBJECTIVES: dict[str, Callable[[Tensor], Metric]] = {
    "si_snr": lambda mixture: si_snr,
    "snr": lambda mixture: snr,
    "silence_safe_si_snr": functools.partial(silence_safe, si_snr),
    "silence_safe_snr": functools.partial(silence_safe, snr),
    "silence_safe_mean": functools.partial(silence_safe, mean_snr),
    "thresholded_si_snr": functools.partial(thresholded, si_snr),
    "thresholded_snr": functools.partial(thresholded, snr),
    "thresholded_mean": functools.partial(thresholded, mean_snr),
}
# Key -> metric for a background, when the speakers are measured with the key.
BACKGROUND_OBJECTIVES = {name: name.replace("si_snr", "snr").replace("mean", "snr") for name in OBJECTIVES}
