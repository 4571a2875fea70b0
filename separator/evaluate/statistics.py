"""What many mixtures' scores come to: means and their confidence, parts of a list, one model against another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

Row = dict[str, Any]

# Level of the confidence intervals.
CONFIDENCE = 0.95
# Columns by which a list is taken apart, and where.
GROUPS = {
    "sources": (1, 2, 3, 4, 5, 6),
    "level_difference_db": (0.0, 1.0, 2.5, 5.0, 10.0),
    "seconds": (0.0, 3.0, 5.0, 10.0, 20.0),
}
GROUP_SCORES = ("si_snr", "si_snri", "sdr", "sdri", "silent_db")


def summarize(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Column -> mean, median, half the width of the mean's 95% confidence interval, and how many rows have a value."""
    summary: dict[str, dict[str, float]] = {}
    for column in dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, float)):
        values = _finite(row.get(column, math.nan) for row in rows)
        if len(values):
            summary[column] = {
                "mean": float(values.mean()),
                "confidence": confidence(values),
                "median": float(np.median(values)),
                "count": len(values),
            }
    return summary


def confidence(values: np.ndarray) -> float:
    """Half the width of the 95% confidence interval of a mean, by Student's t; nan for a single value."""
    if len(values) < 2:
        return math.nan
    # The normal distribution's 1.96 would make the interval of three values half as wide as it is.
    point = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return point * float(values.std(ddof=1)) / math.sqrt(len(values))


def grouped(rows: Sequence[Row], column: str, edges: Sequence[float]) -> list[dict[str, Any]]:
    """The rows by a column, from each edge to the next and on from the last: those groups that are not empty."""
    groups = []
    for low, high in zip(edges, [*edges[1:], math.inf], strict=True):
        part = [row for row in rows if low <= row[column] < high]
        if part:
            summary = summarize(part)
            scores: dict[str, Any] = {name: summary[name] for name in GROUP_SCORES if name in summary}
            groups.append({"from": low, "to": None if high == math.inf else high, "mixtures": len(part), **scores})
    return groups


def compare(rows: Sequence[Row], others: Sequence[Row], column: str = "si_snri") -> dict[str, float]:
    """Scores against those of another model on the same mixtures, pair by pair.

    Returns:
        mean_difference (first minus second) with its 95% confidence, median_difference, the share of mixtures on which
        the first is better, and the two-sided p-values of the paired t-test and of Wilcoxon's signed-rank test; nan
        where there are too few pairs.

    Raises:
        ValueError: if the rows are not of the same mixtures.
    """
    if [row["id"] for row in rows] != [row["id"] for row in others]:
        raise ValueError("the rows are not of the same mixtures in the same order")
    pairs = [(row.get(column, math.nan), other.get(column, math.nan)) for row, other in zip(rows, others, strict=True)]
    differences = _finite(first - second for first, second in pairs)
    can_test = len(differences) > 1 and bool(differences.any())
    return {
        "pairs": len(differences),
        "mean_difference": float(differences.mean()) if len(differences) else math.nan,
        "confidence": confidence(differences),
        "median_difference": float(np.median(differences)) if len(differences) else math.nan,
        "better": float((differences > 0).mean()) if len(differences) else math.nan,
        "t_test_p": float(stats.ttest_1samp(differences, 0).pvalue) if can_test else math.nan,
        "wilcoxon_p": float(stats.wilcoxon(differences).pvalue) if can_test else math.nan,
    }


def _finite(values: Any) -> np.ndarray:
    array = np.array(list(values), dtype=np.float64)
    return array[np.isfinite(array)]
