"""Statistics of the scores of many mixtures: means with confidence intervals, groups, and comparison of two models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

Row = dict[str, Any]

# Level of the confidence intervals.
CONFIDENCE = 0.95
# Columns by which the mixtures are grouped -> lower edges of the groups.
GROUPS = {
    "sources": (1, 2, 3, 4, 5, 6),
    "level_difference_db": (0.0, 1.0, 2.5, 5.0, 10.0),
    "seconds": (0.0, 3.0, 5.0, 10.0, 20.0),
}
GROUP_SCORES = ("si_snr", "si_snri", "sdr", "sdri", "silent_db")


def summarize(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Summarize each numeric column.

    Returns:
        Column -> mean, confidence (half the width of the mean's 95% confidence interval), median, and count (number of
        rows with a value).
    """
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
    """Half the width of the 95% confidence interval of a mean, by Student's t distribution. nan for a single value."""
    if len(values) < 2:
        return math.nan
    # With 1.96 of the normal distribution, the interval of three values would be half as wide as it should be.
    point = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return point * float(values.std(ddof=1)) / math.sqrt(len(values))


def grouped(rows: Sequence[Row], column: str, edges: Sequence[float]) -> list[dict[str, Any]]:
    """Group the rows by a column and summarize each group. Empty groups are left out.

    A group goes from one edge up to the next. The last group has no upper edge.
    """
    groups = []
    for low, high in zip(edges, [*edges[1:], math.inf], strict=True):
        part = [row for row in rows if low <= row[column] < high]
        if part:
            summary = summarize(part)
            scores: dict[str, Any] = {name: summary[name] for name in GROUP_SCORES if name in summary}
            groups.append({"from": low, "to": None if high == math.inf else high, "mixtures": len(part), **scores})
    return groups


def compare(rows: Sequence[Row], others: Sequence[Row], column: str = "si_snri") -> dict[str, float]:
    """Compare the scores of two models on the same mixtures, pair by pair.

    Returns:
        pairs: number of pairs.
        mean_difference: first minus second. `confidence` is half the width of its 95% confidence interval.
        median_difference: first minus second.
        better: share of the mixtures on which the first is better.
        t_test_p, wilcoxon_p: two-sided p-values of the paired t-test and of Wilcoxon's signed-rank test.
        Values are nan if there are too few pairs.

    Raises:
        ValueError: if the rows do not have the same mixtures in the same order.
    """
    if [row["id"] for row in rows] != [row["id"] for row in others]:
        raise ValueError("the rows do not have the same mixtures in the same order")
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
