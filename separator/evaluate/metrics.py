"""Metrics of the estimates of one mixture: SI-SNR, SDR, PESQ and STOI, for each source that is not silent."""

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

# Filter length of BSS-eval.
SDR_TAPS = 512
# Sample rates for which PESQ is defined -> its mode.
PESQ_MODES = {8000: "nb", 16000: "wb"}


@dataclass(frozen=True)
class Scores:
    """Scores of the estimates of one mixture, for the sources that are not silent, in their order.

    Attributes:
        sources: numbers of those sources.
        values: metric -> value for each of those sources. "si_snr" and "sdr" are in dB, "pesq" is MOS-LQO, "stoi" is
            from 0 to 1.
        silent_db: level of the estimates of silent sources in dB relative to the mixture. nan if no source is silent.
        missing: numbers of the sources that are not silent but whose estimates are. SI-SNR and SDR are not defined for
            them, and count as `objectives.SILENT_ESTIMATE_DB`.
    """

    sources: list[int]
    values: dict[str, list[float]]
    silent_db: float
    missing: Sequence[int] = ()

    def mean(self, measure: str) -> float:
        """Mean of a metric over the sources. nan if there are no sources, or if a value is nan."""
        values = self.values[measure]
        return float(np.mean(values)) if values else float("nan")


def score(estimate: Tensor, item: Mixture, extra: Sequence[str] = ()) -> Scores:
    """Score the estimates of one mixture.

    SI-SNR and SDR concatenate the channels along time. The other metrics use the mean of the channels.

    Args:
        estimate: estimates in the order of the mixture's sources, `[source, ..., time]`, with the shape of
            `item.sources`.
        item: the mixture and its sources.
        extra: further metrics: "pesq", "stoi" (default: none).
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
        values[name] = [OPTIONAL[name](mono[0][number], mono[1][number], item.sample_rate) for number in sounding]
    leak = estimates[silent].square().sum(-1).mean() / item.mixture.square().sum().clamp_min(1e-12)
    silent_db = 10 * float(torch.log10(leak.clamp_min(1e-12))) if silent.any() else float("nan")
    return Scores(sounding, values, silent_db, missing)


def sdr(estimate: Tensor, reference: Tensor) -> list[float]:
    """Signal-to-distortion ratio of BSS-eval in dB, with a filter of 512 taps (Vincent, Gribonval & Fevotte 2006).

    Args:
        estimate: `[source, time]`.
        reference: `[source, time]`.
    """
    from torchmetrics.functional.audio import signal_distortion_ratio

    if not len(reference):
        return []
    return signal_distortion_ratio(estimate.double(), reference.double(), filter_length=SDR_TAPS).tolist()


def pesq(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    """PESQ (ITU-T P.862, wide band P.862.2 at 16 kHz) by the package pesq. nan if it finds no speech."""
    from pesq import PesqError, pesq

    if sample_rate not in PESQ_MODES:
        return float("nan")
    value = pesq(sample_rate, reference.numpy(), estimate.numpy(), PESQ_MODES[sample_rate], PesqError.RETURN_VALUES)
    return float(value) if value > 0 else float("nan")


def stoi(estimate: Tensor, reference: Tensor, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al. 2011) by the package pystoi. nan if it finds no speech."""
    from pystoi import stoi

    with warnings.catch_warnings():
        # For recordings that are too short, pystoi warns and returns a meaningless value.
        warnings.simplefilter("error")
        try:
            return float(stoi(reference.numpy(), estimate.numpy(), sample_rate))
        except (RuntimeWarning, ValueError):
            return float("nan")


@dataclass(frozen=True)
class Metric:
    """A metric. A new one needs only its function and an entry of `METRICS`.

    Attributes:
        label: its name for readers.
        unit: "dB", or "" if it has none.
        function: computes an optional metric from (estimate `[time]`, reference `[time]`, sample rate in Hz). None for
            SI-SNR and SDR, which are always computed, together with their improvement over the mixture.
        package: the package that the function needs.
    """

    label: str
    unit: str = ""
    function: Callable[[Tensor, Tensor, int], float] | None = None
    package: str = ""


METRICS = {
    "si_snr": Metric("SI-SNR", "dB"),
    "sdr": Metric("SDR", "dB"),
    "pesq": Metric("PESQ", function=pesq, package="pesq"),
    "stoi": Metric("STOI", function=stoi, package="pystoi"),
}
OPTIONAL = {name: metric.function for name, metric in METRICS.items() if metric.function is not None}


def columns() -> dict[str, tuple[str, str]]:
    """Return label and unit of every score: the metrics, and the improvement of those that are always computed."""
    found = {}
    for name, metric in METRICS.items():
        found[name] = (metric.label, metric.unit)
        if name not in OPTIONAL:
            found[f"{name}i"] = (f"{metric.label}i", metric.unit)
    return found


def available(wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Find the metrics whose packages are installed.

    Returns:
        Those metrics, and a message for each of the others.

    Raises:
        ConfigError: if a metric does not exist.
    """
    if isinstance(wanted, str):
        raise ConfigError(f"measures must be a list, such as [pesq,stoi], got {wanted!r}")
    found, missing = [], []
    for name in wanted:
        choose("measure", name, OPTIONAL)
        metric = METRICS[name]
        if importlib.util.find_spec(metric.package):
            found.append(name)
        else:
            missing.append(
                f"{metric.label} is left out: it needs the package {metric.package} (pip install {metric.package})"
            )
    return found, missing


def in_best_order(estimate: Tensor, item: Mixture, num_interchangeable: int | None = None) -> Tensor:
    """Put `estimate` `[source, ..., time]` in the order with the best SI-SNR to the sources, found by `pit`."""
    pair = estimate.to(item.sources.dtype).flatten(1)[None], item.sources.flatten(1)[None]
    _, permutation = objectives.pit(objectives.si_snr_of_sounding, *pair, num_interchangeable)
    return estimate[permutation[0]]
