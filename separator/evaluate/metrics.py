"""How good estimates of one mixture are: SI-SNR, SDR, PESQ and STOI, for each source that sounds."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from separator import objectives
from separator.data import Mixture
from separator.errors import ConfigError, choose

# (estimate [time], reference [time], Hz) -> value
Measure = Callable[[Tensor, Tensor, int], float]

# BSS-eval's filter.
SDR_TAPS = 512
# Rates for which PESQ is defined, with its mode.
PESQ_MODES = {8000: "nb", 16000: "wb"}


@dataclass(frozen=True)
class Scores:
    """Values of estimates, for the sources that are not silent, in their order.

    Attributes:
        sources: numbers of those sources.
        values: measure -> a value for each; "si_snr" and "sdr" in dB, "pesq" as MOS-LQO, "stoi" from 0 to 1.
        silent_db: how loud the estimates of silent sources are beside the mixture, in dB; nan if no source is silent.
        missing: numbers of the sources that sound, but whose estimates are silent. SI-SNR and SDR are not defined
            there, and count as `objectives.SILENT_ESTIMATE_DB`.
    """

    sources: list[int]
    values: dict[str, list[float]]
    silent_db: float
    missing: Sequence[int] = ()

    def mean(self, measure: str) -> float:
        """Over the sources; nan where there are none, or one has no value."""
        values = self.values[measure]
        return float(np.mean(values)) if values else float("nan")


def score(estimate: Tensor, item: Mixture, extra: Sequence[str] = ()) -> Scores:
    """Scores of `estimate` `[source, ..., time]` in the order of the mixture's sources.

    Several channels count as one signal after the other for SI-SNR and SDR, and as their mean for the other measures.

    Args:
        estimate: of the shape of `item.sources`.
        item: the mixture and its sources.
        extra: of "pesq" and "stoi".
    """
    reference = item.sources.flatten(1)
    estimates = estimate.to(reference.dtype).flatten(1)
    silent = objectives.is_silent(reference)
    sounding = torch.nonzero(~silent).flatten().tolist()
    missing = [number for number in sounding if objectives.is_constant(estimates[number])]
    ratios = sdr(estimates[sounding], reference[sounding])
    values = {
        "si_snr": objectives.si_snr_of_sounding(estimates[sounding].double(), reference[sounding].double()).tolist(),
        "sdr": [
            objectives.SILENT_ESTIMATE_DB if number in missing else value
            for number, value in zip(sounding, ratios, strict=True)
        ],
    }
    mono = [signals.reshape(len(reference), -1, signals.shape[-1]).mean(1) for signals in (estimate, item.sources)]
    for name in extra:
        values[name] = [MEASURES[name](mono[0][number], mono[1][number], item.sample_rate) for number in sounding]
    leak = estimates[silent].square().sum(-1).mean() / item.mixture.square().sum().clamp_min(1e-12)
    silent_db = 10 * float(torch.log10(leak.clamp_min(1e-12))) if silent.any() else float("nan")
    return Scores(sounding, values, silent_db, missing)


def sdr(estimate: Tensor, reference: Tensor) -> list[float]:
    """BSS-eval's signal-to-distortion ratio, `[source, time]` twice -> dB, with its filter of 512 taps.

    Vincent, Gribonval & Fevotte 2006.
    """
    from torchmetrics.functional.audio import signal_distortion_ratio

    if not len(reference):
        return []
    return signal_distortion_ratio(estimate.double(), reference.double(), filter_length=SDR_TAPS).tolist()


def pesq(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    """PESQ (ITU-T P.862, wide band P.862.2 at 16 kHz) by the package pesq; nan where it finds no speech."""
    from pesq import PesqError, pesq

    if sample_rate not in PESQ_MODES:
        return float("nan")
    value = pesq(sample_rate, reference.numpy(), estimate.numpy(), PESQ_MODES[sample_rate], PesqError.RETURN_VALUES)
    return float(value) if value > 0 else float("nan")


def stoi(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al. 2011) by the package pystoi; nan where it finds no speech."""
    from pystoi import stoi

    with warnings.catch_warnings():
        # Of too short recordings it gives a value that means nothing, and says so.
        warnings.simplefilter("error")
        try:
            return float(stoi(reference.numpy(), estimate.numpy(), sample_rate))
        except (RuntimeWarning, ValueError):
            return float("nan")


MEASURES: dict[str, Measure] = {"pesq": pesq, "stoi": stoi}
PACKAGES = {"pesq": "pesq", "stoi": "pystoi"}


def available(wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of the wanted measures can be taken, and what to say of the others.

    Raises:
        ConfigError: for one that does not exist.
    """
    if isinstance(wanted, str):
        raise ConfigError(f"measures must be a list, such as [pesq,stoi], got {wanted!r}")
    found, missing = [], []
    for name in wanted:
        choose("measure", name, MEASURES)
        if importlib.util.find_spec(PACKAGES[name]):
            found.append(name)
        else:
            missing.append(
                f"{name.upper()} is not measured: it needs the package {PACKAGES[name]} (pip install {PACKAGES[name]})"
            )
    return found, missing


def in_best_order(estimate: Tensor, item: Mixture, num_interchangeable: int | None = None) -> Tensor:
    """`estimate` `[source, ..., time]` in the order of the sources in which its SI-SNR is best, as `pit` finds it."""
    pair = estimate.to(item.sources.dtype).flatten(1)[None], item.sources.flatten(1)[None]
    _, permutation = objectives.pit(objectives.si_snr_of_sounding, *pair, num_interchangeable)
    return estimate[permutation[0]]
