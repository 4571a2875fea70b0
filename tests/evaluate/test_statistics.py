import math

import numpy as np
import pytest
from scipy import stats

from separator.evaluate import statistics


def rows(*values, **columns):
    return [{"id": str(number), "si_snri": value} for number, value in enumerate(values)]


def test_the_summary_has_mean_median_and_confidence():
    found = statistics.summarize(rows(1.0, 2.0, 6.0, 7.0))["si_snri"]
    assert found["mean"] == 4 and found["median"] == 4 and found["count"] == 4
    low, high = stats.t.interval(0.95, 3, 4, stats.sem([1, 2, 6, 7]))
    assert found["confidence"] == pytest.approx((high - low) / 2)
    assert math.isnan(statistics.summarize(rows(1.0))["si_snri"]["confidence"])


def test_the_confidence_interval_uses_the_t_distribution():
    # Two-sided 95% points from tables: 4.303 for 2 degrees of freedom, 1.984 for 99.
    assert statistics.confidence(np.array([0.0, 1.0, 2.0])) == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    many = np.tile([-1.0, 1.0], 50)
    assert statistics.confidence(many) == pytest.approx(1.984 * many.std(ddof=1) / 10, abs=1e-3)


def test_missing_values_do_not_count():
    found = statistics.summarize([*rows(1.0, math.nan, 3.0), {"id": "other"}])
    assert found["si_snri"]["mean"] == 2 and found["si_snri"]["count"] == 2
    assert statistics.summarize(rows(math.nan)) == {}


def test_groups_have_their_own_means_and_empty_groups_are_left_out():
    items = [{"si_snri": float(number), "seconds": seconds} for number, seconds in enumerate((1.0, 4.9, 5.0, 100.0))]
    groups = statistics.grouped(items, "seconds", (0.0, 5.0, 10.0, 20.0))
    assert [(group["from"], group["to"], group["mixtures"], group["si_snri"]["mean"]) for group in groups] == [
        (0.0, 5.0, 2, 0.5),
        (5.0, 10.0, 1, 2.0),
        (20.0, None, 1, 3.0),
    ]


def test_a_group_of_single_sources_has_si_snr_but_no_improvement():
    items = [{"sources": 1, "si_snr": 30.0, "si_snri": math.nan}, {"sources": 3, "si_snr": 4.0, "si_snri": 7.0}]
    one, three = statistics.grouped(items, "sources", statistics.GROUPS["sources"])
    assert one["si_snr"]["mean"] == 30 and "si_snri" not in one and three["si_snri"]["mean"] == 7


def test_two_models_are_compared_pair_by_pair():
    generator = np.random.default_rng(0)
    hard = generator.normal(5, 5, 40)
    gain = generator.normal(0.5, 1, 40)
    found = statistics.compare(rows(*(hard + gain)), rows(*hard))
    assert found["mean_difference"] == pytest.approx(gain.mean()) and found["better"] == (gain > 0).mean()
    assert found["t_test_p"] == pytest.approx(stats.ttest_rel(hard + gain, hard).pvalue)
    assert found["wilcoxon_p"] == pytest.approx(stats.wilcoxon(gain).pvalue)
    # The pairs show a difference that the means alone do not show.
    assert found["t_test_p"] < 0.01 < stats.ttest_ind(hard + gain, hard).pvalue


def test_pairs_without_a_value_or_a_difference_are_no_error():
    found = statistics.compare(rows(1.0, math.nan, 2.0), rows(1.0, 5.0, 2.0))
    assert found["pairs"] == 2 and found["mean_difference"] == 0 and math.isnan(found["t_test_p"])
    assert math.isnan(statistics.compare(rows(math.nan), rows(1.0))["mean_difference"])


def test_different_mixtures_cannot_be_compared():
    with pytest.raises(ValueError, match="do not have the same mixtures"):
        statistics.compare(rows(1.0, 2.0), rows(1.0))
