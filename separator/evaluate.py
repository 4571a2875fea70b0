"""`python -m separator.evaluate model=NAME data.list=LIST.csv`: SI-SNRi and SDRi of a model over a list of mixtures."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from separator import config, files, objectives
from separator.data import GeneratedData, Mixture
from separator.errors import ConfigError
from separator.separation import Separator

log = logging.getLogger("separator.evaluate")

SETTINGS = ("model", "device", "precision", "data", "out")
METRICS = ("si_snri", "sdri")
# Two-sided 95% point of the normal distribution.
CONFIDENCE = 1.96


@dataclass(frozen=True)
class EvaluationData:
    """The `data` group of an evaluation: a list of mixtures, or generated ones.

    Attributes:
        list: a CSV file, see `separator.data.layouts.mixture_list`; null for mixtures of generated voices.
        limit: use only the first so many; null for all.
        generated_mixtures: how many to generate where there is no list.
        seed: of the generated ones.
    """

    list: str | None = None
    limit: int | None = None
    generated_mixtures: int = 50
    seed: int = 0

    def mixtures(self, sample_rate: int, sources: Sequence[str]) -> Dataset:
        """The mixtures, with these sources."""
        data = GeneratedData(valid_mixtures=self.generated_mixtures, valid_list=self.list)
        return data.validation(sample_rate, sources, self.seed)


def evaluate(separator: Separator, mixtures: Dataset, limit: int | None = None) -> list[dict[str, Any]]:
    """A row for each mixture: id, seconds, and SI-SNR, SI-SNRi, SDR, SDRi in dB, means over its sources.

    The stems are those that `Separator.separate` gives, under the best permutation by SI-SNR.
    """
    count = len(mixtures)  # type: ignore[arg-type]
    count = count if limit is None else min(count, limit)
    numbers = tqdm(range(count), unit="mixture", dynamic_ncols=True, disable=None)
    return [_row(separator, mixtures[index]) for index in numbers]


def _row(separator: Separator, item: Mixture) -> dict[str, Any]:
    stems = separator.separate(item.mixture, item.sample_rate)
    estimate = torch.stack(list(stems.values()))[None]
    reference = item.sources[None]
    value, permutation = objectives.pit(objectives.si_snr, estimate, reference)
    estimate = objectives.reorder(estimate, permutation)
    mixture = item.mixture.expand_as(reference)
    si_snr = float(value)
    sdr = float(_sdr(estimate, reference).mean())
    return {
        "id": item.name,
        "seconds": item.mixture.shape[-1] / item.sample_rate,
        "si_snr": si_snr,
        "si_snri": si_snr - float(objectives.si_snr(mixture, reference).mean()),
        "sdr": sdr,
        "sdri": sdr - float(_sdr(mixture, reference).mean()),
    }


def _sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """BSS-eval's signal-to-distortion ratio, with its filter of 512 taps (Vincent et al. 2006)."""
    from torchmetrics.functional.audio import signal_distortion_ratio

    return signal_distortion_ratio(estimate.double(), reference.double())


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Metric -> mean, median and half the width of the mean's 95% confidence interval."""
    summary = {}
    for metric in METRICS:
        values = torch.tensor([row[metric] for row in rows], dtype=torch.float64)
        deviation = float(values.std()) if len(rows) > 1 else math.nan
        summary[metric] = {
            "mean": float(values.mean()),
            "confidence": CONFIDENCE * deviation / math.sqrt(len(rows)),
            "median": float(values.median()),
        }
    return summary


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(
        {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
    )
    return text.getvalue()


def run(settings: dict[str, Any]) -> None:
    """Evaluates as configured, prints the summary and writes the rows."""
    config.refuse_unknown(settings, SETTINGS, "")
    data: EvaluationData = config.build(settings["data"], "data")
    if not isinstance(settings["model"], str):
        raise ConfigError(f"model must be a model's name or a checkpoint's path, got {settings['model']!r}")
    separator = Separator(settings["model"], settings["device"], settings["precision"])
    rows = evaluate(separator, data.mixtures(separator.sample_rate, separator.sources), data.limit)
    summary = summarize(rows)
    facts = {"model": settings["model"], "data": data.list or "generated", "mixtures": len(rows), **summary}
    out = Path(settings["out"])
    try:
        files.write_together(
            {
                out / "mixtures.csv": lambda path: path.write_text(as_csv(rows)),
                out / "summary.json": lambda path: path.write_text(json.dumps(facts, indent=2) + "\n"),
            }
        )
    except OSError as error:
        raise ConfigError(f"out={out} cannot be written to ({error.strerror}); choose another place") from error
    print(f"{settings['model']} on {data.list or 'generated voices'}, {len(rows)} mixtures")
    for metric, label in zip(METRICS, ("SI-SNRi", "SDRi"), strict=True):
        values = summary[metric]
        print(
            f"  {label:8} {values['mean']:6.2f} dB +- {values['confidence']:.2f} (95%), median {values['median']:.2f}"
        )
    print(f"a row for each mixture: {out / 'mixtures.csv'}")


def main() -> None:
    """The command line."""
    config.command(run, "evaluate")


if __name__ == "__main__":
    main()
