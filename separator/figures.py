"""Figures: training curves, spectrograms, evaluation scores and study plots."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows that are averaged into one point of the training curve, for readability.
SMOOTHING = 20


def draw_curves(folder: Path) -> Path:
    """Draw training loss, learning rate and validation SI-SNRi from a run's CSV files to `curves.png`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    train, valid = read_columns(folder / "train.csv"), read_columns(folder / "valid.csv")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.plot(train.get("step", []), train.get("loss", []), color="0.8", linewidth=0.8, label="logged")
    left.plot(*_averaged(train.get("step", []), train.get("loss", [])), color="tab:blue", label="averaged")
    left.set(xlabel="step", ylabel="training loss (dB)", title="Training")
    rate = left.twinx()
    rate.plot(train.get("step", []), train.get("learning_rate", []), color="tab:orange", linewidth=1)
    rate.set_ylabel("learning rate", color="tab:orange")
    rate.set_ylim(bottom=0)
    left.legend(loc="upper right")
    right.plot(valid.get("step", []), valid.get("si_snri", []), "o-", color="tab:green", markersize=3)
    right.set(xlabel="step", ylabel="SI-SNRi (dB)", title="Validation")
    right.grid(alpha=0.3)
    path = folder / "curves.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def draw_spectrograms(waveforms: dict[str, np.ndarray], sample_rate: int, path: Path) -> Path:
    """Draw `spectrograms` to a PNG file."""
    from matplotlib import pyplot

    figure = spectrograms(waveforms, sample_rate)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def spectrograms(waveforms: dict[str, np.ndarray], sample_rate: int) -> Figure:
    """Draw mel spectrograms of `[..., time]` waveforms, by name, one below the other, with shared time axis and scale.

    Several channels are averaged first.
    """
    import librosa
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(waveforms), 1, figsize=(10, 2.3 * len(waveforms)), sharex=True, squeeze=False, layout="constrained"
    )
    mono = {name: samples.reshape(-1, samples.shape[-1]).mean(0) for name, samples in waveforms.items()}
    loudest = max(float(np.abs(samples).max()) for samples in mono.values())
    for axis, (name, samples) in zip(axes[:, 0], mono.items(), strict=True):
        power = librosa.feature.melspectrogram(y=samples / max(loudest, 1e-9), sr=sample_rate, n_mels=80)
        seconds = len(samples) / sample_rate
        image = axis.imshow(
            librosa.power_to_db(power, ref=1.0),
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, 80),
            vmin=-50,
            vmax=25,
            cmap="magma",
        )
        ticks = [250, 1000, 4000]
        axis.set_yticks(np.searchsorted(librosa.mel_frequencies(80, fmax=sample_rate / 2), ticks), ["250", "1k", "4k"])
        axis.set(title=name, ylabel="Hz")
    axes[-1, 0].set_xlabel("seconds")
    figure.colorbar(image, ax=axes[:, 0], label="dB", pad=0.01)
    return figure


def score_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw the scores of many mixtures in three plots.

    These are a histogram of SI-SNRi, SI-SNRi of each source over its SI-SNR in the mixture, and SI-SNRi over the level
    difference of the sources.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if np.isfinite(row["si_snri"])]
    gains = [row["si_snri"] for row in rows]
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(14, 4), layout="constrained")
    left.hist(gains, bins=min(30, max(5, len(gains) // 4)), color="tab:blue", edgecolor="white")
    left.axvline(float(np.mean(gains)), color="tab:orange", label=f"mean {np.mean(gains):.2f} dB")
    left.axvline(float(np.median(gains)), color="0.3", linestyle=":", label=f"median {np.median(gains):.2f} dB")
    left.set(xlabel="SI-SNRi (dB)", ylabel="mixtures", title="Improvement")
    left.legend()
    labels = dict.fromkeys(name.removeprefix("si_snri_") for row in rows for name in row if name.startswith("si_snri_"))
    for label in labels:
        points = [
            (row[f"mixture_si_snr_{label}"], row[f"si_snri_{label}"]) for row in rows if f"si_snri_{label}" in row
        ]
        # Speaker numbers carry no meaning, so all speakers share a colour.
        colour = "tab:blue" if label.isdigit() else None
        middle.scatter(*zip(*points, strict=True), s=14, alpha=0.7, color=colour, label=label)
    if not all(label.isdigit() for label in labels):
        middle.legend(title="source")
    middle.set(xlabel="SI-SNR of the source in the mixture (dB)", ylabel="SI-SNRi (dB)", title="Source by source")
    right.scatter([row["level_difference_db"] for row in rows], gains, s=14, alpha=0.7)
    right.set(xlabel="level difference of the sources (dB)", ylabel="SI-SNRi (dB)", title="By level difference")
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
    return figure


Scores = dict[str, dict[float, list[float]]]


def study_scores(rows: list[dict[str, str]], x: str, line: str | None) -> Scores:
    """Group the scores of a study: by the value of the setting `line`, then by that of `x` in ascending order.

    Rows without `x` are left out, because not every network has every setting.
    """
    rows = [row for row in rows if row.get(x)]
    scores: Scores = {row.get(line or "", ""): {} for row in rows}
    for row in sorted(rows, key=lambda row: float(row[x])):
        scores[row.get(line or "", "")].setdefault(float(row[x]), []).append(float(row["score"]))
    return scores


def draw_study(rows: list[dict[str, str]], x: str, line: str | None, score_name: str, path: Path) -> Path:
    """Draw the score over the setting `x`, with a line for each value of the setting `line`. Points are medians.

    A dotted line marks where the output depends on exactly the frames that the task needs, if `x` determines that.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    scores = study_scores(rows, x, line)
    limits, limit_name = _limits(rows, x)
    for number, (value, points) in enumerate(scores.items()):
        # Lines on top of each other stay visible: earlier ones are wider, with larger markers of another shape.
        width = 1.2 + 0.5 * (len(scores) - 1 - number)
        marker, medians = "osD^vPX"[number % 7], [np.median(point) for point in points.values()]
        axis.plot(list(points), medians, marker=marker, markersize=3 * width, linewidth=width, label=value or None)
    for limit in sorted(limits):
        axis.axvline(limit, color="0.6", linestyle=":", zorder=0, label=limit_name if limit == max(limits) else None)
    axis.axhline(float(rows[-1]["chance"]), color="0.8", linewidth=1, zorder=0, label="chance")
    axis.set(xlabel=x, ylabel=score_name, title=rows[-1]["task"])
    if score_name != "accuracy":
        axis.set_yscale("log")
    axis.grid(alpha=0.3)
    axis.legend(title=line)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _limits(rows: list[dict[str, str]], x: str) -> tuple[set[float], str]:
    """Return the values of `x` at which the receptive field is exactly what the task needs, and a label for them."""
    if x == "receptive_field":
        return {float(row["reach"]) for row in rows}, "what the task needs"
    spare = {float(row[x]) + int(row["receptive_field"]) - int(row["reach"]) for row in rows if x == "task.gap"}
    return spare, "end of the receptive field"


def read_columns(path: Path) -> dict[str, list[float]]:
    """Read a CSV file of numbers, by column. Returns an empty dictionary if there is no file yet."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in (rows[0] if rows else {})}


def _averaged(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    groups = range(0, len(values), SMOOTHING)
    middle = [steps[min(start + SMOOTHING // 2, len(steps) - 1)] for start in groups]
    # The loss of a skipped step is not finite.
    finite = [[value for value in values[start : start + SMOOTHING] if np.isfinite(value)] for start in groups]
    return middle, [float(np.mean(group)) if group else np.nan for group in finite]
