"""What is optimized and measured: functions of `(estimate, reference)`, in dB, higher is better.

All accept any leading dimensions, `[..., time]` -> `[...]`, and stay finite with finite gradients for
silence, for identical signals and for a zero estimate.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# (estimate, reference), and for `silence_safe` the bound in dB
Metric = Callable[..., Tensor]

# Added to energies (sums of squares); far below that of any audible signal.
ENERGY_FLOOR = 1e-8
# What a silent estimate of a source that sounds scores, in dB: nothing of the source is in it. As asteroid's metrics.
SILENT_ESTIMATE_DB = -80.0
# A mixture that is nearer to one of its sources than this holds nothing else.
MIXED_DB = 60.0
# With more sources than this the Hungarian algorithm is faster than trying all permutations.
MAX_EXHAUSTIVE = 4


def si_snr(estimate: Tensor, reference: Tensor, max_db: float | None = None) -> Tensor:
    """Scale-invariant signal-to-noise ratio, `[..., time]` -> `[...]` in dB.

    Both signals are made zero-mean, the estimate is projected on the reference, and the energy of the
    projection is compared with that of the rest (Luo & Mesgarani 2019, eq. 15; Le Roux et al. 2019). `max_db` bounds
    the score from above, as in `snr`.

    Raises:
        ValueError: if the shapes do not broadcast or there are no samples.
    """
    _check(estimate, reference)
    estimate = estimate - estimate.mean(-1, keepdim=True)
    reference = reference - reference.mean(-1, keepdim=True)
    dot = (estimate * reference).sum(-1, keepdim=True)
    target = dot / (reference.square().sum(-1, keepdim=True) + ENERGY_FLOOR) * reference
    signal = target.square().sum(-1)
    return _ratio_db(signal, _bounded((estimate - target).square().sum(-1), signal, max_db))


def snr(estimate: Tensor, reference: Tensor, max_db: float | None = None) -> Tensor:
    """Signal-to-noise ratio of `estimate`, `[..., time]` -> `[...]` in dB, defined for silent references.

    A silent reference scores 0 dB for a silent estimate and falls with the energy of what is there.
    `max_db` bounds the score from above, so that a source already clean does not outweigh the others
    (Wisdom et al. 2020, arXiv:2006.12701, eq. 2).

    Raises:
        ValueError: if the shapes do not broadcast or there are no samples.
    """
    _check(estimate, reference)
    signal = reference.square().sum(-1)
    return _ratio_db(signal, _bounded((estimate - reference).square().sum(-1), signal, max_db))


def mean_snr(estimate: Tensor, reference: Tensor, max_db: float | None = None) -> Tensor:
    """The mean of `snr` and `si_snr`, `[..., time]` -> `[...]` in dB.

    Of estimates that are wrong at first, the one is best where they are nothing, the other says where to go; of good
    ones, the one says how loud, which to the other is all the same.
    """
    return 0.5 * (snr(estimate, reference, max_db) + si_snr(estimate, reference, max_db))


def silence_safe(metric: Metric, mixture: Tensor, max_db: float = 30.0, silence_weight: float = 0.2) -> Metric:
    """A metric such as `snr` for sources of `mixture` `[..., time]` of which some may be silent.

    Of a source that is there, the metric bounded by `max_db`. Of a silent one, by how many dB its estimate is quieter
    than the mixture, likewise bounded, and weighed: 0 for the mixture itself, `silence_weight * max_db` for silence.

    After Wisdom et al. 2021, arXiv:2011.00803, with the sign turned, the mixture's energy as the unit, and the weight:
    it is easy to be silent, and where that counts as much as separating does, a network learns to give everything to
    one source and leaves it at that.
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
    """A metric such as `si_snr` in which errors far below the mixture `[..., time]` stop counting.

    `silence_safe` bounds the score of a source by its own energy. This bounds it by the mixture's as well: an error of
    `threshold_db` below the mixture counts as half removed. So a background 20 dB below the voices cannot score more
    than about 10 dB, and a batch is not ruled by what nobody hears. Silent sources score as in `silence_safe`.

    Wisdom et al. 2021, arXiv:2011.00803, eq. 4 and 5, written as a soft minimum of the score and its bound.

    Args:
        metric: `(estimate, reference)` `[..., time]` -> `[...]` in dB.
        mixture: `[batch, time]`.
        threshold_db: how far below the mixture an error must lie to count as half.
        silence_weight: of the score of silent sources.
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
    """`[..., time]` -> `[...]`: whether there is nothing in it."""
    return reference.square().sum(-1) <= ENERGY_FLOOR


def is_constant(signal: Tensor) -> Tensor:
    """`[..., time]` -> `[...]`: whether there is nothing in it but an offset, which SI-SNR does not count."""
    return is_silent(signal - signal.mean(-1, keepdim=True))


def is_mixed(reference: Tensor, mixture: Tensor) -> Tensor:
    """Whether a mixture `[batch, time]` is more than one of its sources `[batch, source, time]` alone: `[batch]`."""
    return (snr(mixture.unsqueeze(1), reference) < MIXED_DB).all(1)


def pit(
    metric: Metric, estimate: Tensor, reference: Tensor, num_interchangeable: int | None = None
) -> tuple[Tensor, Tensor]:
    """Permutation-invariant value of `metric`: the best mean over one-to-one assignments.

    Every estimate is compared with every reference once; the assignment is then found exhaustively for
    up to 4 sources and by the Hungarian algorithm beyond. (Yu et al. 2017, arXiv:1607.00325.)

    Args:
        metric: `(estimate, reference)` `[..., time]` -> `[...]`, higher is better.
        estimate: `[batch, source, time]`.
        reference: `[batch, source, time]`.
        num_interchangeable: how many of the first sources may be in any order; the others, such as a background, are
            compared as they stand. All of them if None.

    Returns:
        The mean over sources `[batch]`, differentiable, and the permutation `[batch, source]`: entry i is
        the number of the estimate that belongs to reference i. `reorder` applies it.

    Raises:
        ValueError: if the shapes are not equal or not three-dimensional.
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
    # [batch, reference, estimate], a reference at a time: the full product need not fit in memory.
    pairs = torch.stack([metric(estimate[:, :count], reference[:, i : i + 1]) for i in range(count)], dim=1)
    permutation = best_permutation(pairs)
    values = pairs.gather(2, permutation.unsqueeze(-1)).squeeze(-1)
    if count < num_sources:
        values = torch.cat([values, metric(estimate[:, count:], reference[:, count:])], dim=1)
        permutation = torch.cat([permutation, places[:, count:]], dim=1)
    return values.mean(-1), permutation


def best_permutation(pairs: Tensor) -> Tensor:
    """Scores `[batch, reference, estimate]` -> `[batch, reference]`: the assignment with the largest sum."""
    scores = pairs.detach()
    num_sources = scores.shape[-1]
    if num_sources <= MAX_EXHAUSTIVE:
        candidates = torch.tensor(list(itertools.permutations(range(num_sources))), device=scores.device)
        rows = torch.arange(num_sources, device=scores.device)
        return candidates[scores[:, rows, candidates].sum(-1).argmax(-1)]
    from scipy.optimize import linear_sum_assignment  # takes longer to import than all else here

    matrices = scores.double().cpu().numpy()
    columns = [linear_sum_assignment(matrix, maximize=True)[1] for matrix in np.nan_to_num(matrices)]
    return torch.as_tensor(np.stack(columns), device=scores.device)


def reorder(estimate: Tensor, permutation: Tensor) -> Tensor:
    """`estimate` `[batch, source, time]` in the order of the references, by the `permutation` that `pit` found."""
    return estimate.gather(1, permutation.unsqueeze(-1).expand_as(estimate))


def si_snr_of_sounding(estimate: Tensor, reference: Tensor) -> Tensor:
    """`si_snr`, and 0 dB where the reference is silent, whichever estimate it gets.

    A silent estimate of a source that sounds has `SILENT_ESTIMATE_DB`: by the floors of `si_snr` alone it would have
    0 dB, which may be more than the mixture has.
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
    """SI-SNRi: what the estimates gain over the mixture itself, `[batch]` in dB, mean over the sources.

    Silent sources do not count: they have no SI-SNR.

    Args:
        estimate: `[batch, source, time]`.
        reference: `[batch, source, time]`.
        mixture: `[batch, time]`.
        permute: whether the estimates may be in any order; the best one is taken.
        num_interchangeable: how many of the first sources may be, as for `pit`; all if None.

    Raises:
        ValueError: as `pit` and `si_snr` do.
    """
    metric = si_snr_of_sounding
    value = pit(metric, estimate, reference, num_interchangeable if permute else 0)[0]
    gain = value - metric(mixture.unsqueeze(1), reference).mean(-1)
    share = (~is_silent(reference)).float().mean(-1)
    return gain / share.clamp_min(0.5 / reference.shape[1])


def mixture_consistency(estimate: Tensor, mixture: Tensor) -> Tensor:
    """Estimates `[batch, source, time]` moved, each by the same signal, so that they sum to `[batch, time]`.

    The orthogonal projection on the set of estimates that sum to the mixture (Wisdom et al. 2019,
    arXiv:1811.08521, eq. 5).
    """
    missing = mixture - estimate.sum(1)
    return estimate + missing.unsqueeze(1) / estimate.shape[1]


def _bounded(noise: Tensor, signal: Tensor, max_db: float | None) -> Tensor:
    return noise if max_db is None else noise + 10 ** (-max_db / 10) * signal


def _soft_minimum_db(one: Tensor, other: Tensor) -> Tensor:
    """The ratio in dB whose noise is the sum of two ratios' noises: near the smaller, 3 dB below two equal ones."""
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


# Name -> metric for the sources of a mixture `[batch, time]`.
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
# What a background is measured by, beside speakers measured by the key.
BACKGROUND_OBJECTIVES = {name: name.replace("si_snr", "snr").replace("mean", "snr") for name in OBJECTIVES}
