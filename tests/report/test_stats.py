"""Intervals, verdicts and paired differences against values worked out by hand, and coverage by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as t_distribution

from soe_bench.report.stats import (
    RESAMPLES,
    Interval,
    bootstrap_interval,
    interval_over_both,
    mean,
    paired_difference,
    side,
    t_interval,
    t_intervals,
    verdict,
)


def series(values: dict[tuple[str, str], float]) -> pd.Series:
    return pd.Series(values.values(), pd.MultiIndex.from_tuples(values, names=["specialist", "seed"]), dtype=float)


def test_t_interval_by_hand():
    interval = t_interval([1.0, 2.0, 3.0])  # sd 1, t(0.975, 2) = 4.302653
    assert interval.n == 3
    assert interval.low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-6)
    assert interval.high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-6)


def test_one_value_has_no_interval():
    for interval in (t_interval([1.0]), bootstrap_interval([1.0], np.random.default_rng(0))):
        assert interval.n == 1 and np.isnan([interval.low, interval.high]).all()


def test_t_interval_covers_95_percent_with_three_seeds():
    rng = np.random.default_rng(7)
    trials = 2000
    intervals = [t_interval(rng.normal(0.3, 0.1, 3)) for _ in range(trials)]
    covered = sum(interval.low <= 0.3 <= interval.high for interval in intervals) / trials
    assert abs(covered - 0.95) < 4 * (0.95 * 0.05 / trials) ** 0.5


def test_bootstrap_covers_92_percent_with_sixteen_specialists():
    # a percentile bootstrap reaches 1.96 s / sqrt(n) with s over n, not n - 1: P(|t_15| < 1.96 sqrt(15 / 16)) = 0.923
    rng = np.random.default_rng(8)
    trials = 400
    intervals = [bootstrap_interval(rng.normal(-0.2, 0.1, 16), np.random.default_rng(0)) for _ in range(trials)]
    covered = sum(interval.low <= -0.2 <= interval.high for interval in intervals) / trials
    assert abs(covered - 0.923) < 3 * (0.923 * 0.077 / trials) ** 0.5


def test_t_intervals_of_rows_by_hand():
    """1, 2, 3 have the mean 2 and the standard error 1 / sqrt(3); t at 0.975 with 2 degrees of freedom is 4.303."""
    table = t_intervals(pd.DataFrame({0: [1.0, 5.0], 1: [2.0, 5.0], 2: [3.0, 5.0]}, index=["a", "b"]))
    assert table.loc["a"].tolist() == pytest.approx([2, 2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5], abs=1e-3)
    assert table.loc["b"].tolist() == [5, 5, 5] and table.columns.tolist() == ["mean", "low", "high"]


def test_the_bootstrap_has_as_much_below_it_as_above():
    """2.5 % of the means of resamples on either side, for values that are far from symmetric."""
    values = np.arange(16.0) ** 3
    means = values[np.random.default_rng(5).integers(16, size=(RESAMPLES, 16))].mean(1)
    interval = bootstrap_interval(values, np.random.default_rng(5))
    assert (means < interval.low).mean() == pytest.approx(0.025, abs=1e-3)
    assert (means > interval.high).mean() == pytest.approx(0.025, abs=1e-3)


def test_a_side_that_not_all_intervals_are_on_is_neither():
    below, above, across = Interval(-2, -1, 3), Interval(1, 2, 3), Interval(-1, 1, 3)
    assert side([below, below]) == "below" and side([above]) == "above"
    assert side([below, above]) == side([across]) == side([across, below]) == "neither"
    assert side([above], threshold=3) == "below"


def test_bootstrap_depends_on_the_generator_alone():
    values = np.linspace(-1, 1, 16) ** 3
    first, again, other = (bootstrap_interval(values, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_mean_does_not_depend_on_the_order():
    values = np.random.default_rng(0).normal(0, 1, 1000) * 10.0 ** np.arange(-8, 12).repeat(50)
    assert mean(values) == mean(values[::-1]) == mean(np.sort(values))


@pytest.mark.parametrize(
    ("seeds", "specialists", "expected"),
    [
        ((-0.3, -0.1), (-0.4, -0.05), "better"),
        ((0.1, 0.3), (0.05, 0.4), "worse"),
        ((-0.3, -0.1), (-0.4, 0.05), "not separated"),
        ((-0.3, 0.1), (-0.4, -0.05), "not separated"),
        ((-0.3, -0.1), (0.05, 0.4), "not separated"),
        ((-0.3, 0.0), (-0.4, -0.1), "not separated"),
        ((-0.3, -0.1), (-0.4, 0.0), "not separated"),
        ((0.0, 0.3), (0.1, 0.4), "not separated"),
        ((0.1, 0.3), (0.0, 0.4), "not separated"),
        ((np.nan, np.nan, 1), (-0.4, -0.05), "not separated (n = 1 seed)"),
        ((-0.3, -0.1), (np.nan, np.nan, 1), "not separated (n = 1 specialist)"),
    ],
)
def test_verdict_needs_all_intervals_on_one_side(seeds, specialists, expected):
    one, other = Interval(*(*seeds, 3)[:3]), Interval(*(*specialists, 16)[:3])
    for both in (one, other):
        assert verdict(one, other, both) == expected
    assert verdict(one, other, Interval(-0.5, 0.5, 3))[:13] == "not separated"


def test_the_interval_over_both_by_hand():
    """Means -0.2, -0.22, -0.18 by seed and -0.19, -0.21 by specialist: sqrt(0.0004 / 3 + 0.0002 / 2) = 0.015275, with
    0.00023333^2 / (0.00013333^2 / 2 + 0.0001^2 / 1) = 2.882 degrees of freedom."""
    found = interval_over_both([-0.2, -0.22, -0.18], [-0.19, -0.21])
    half = t_distribution.ppf(0.975, 2.8823529) * 0.0152752523
    assert (found.low, found.high) == (pytest.approx(-0.2 - half), pytest.approx(-0.2 + half)) and found.n == 2
    assert interval_over_both([0.5, 0.5], [0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 2)
    assert np.isnan(interval_over_both([0.1], [0.1, 0.2]).low)


def test_the_interval_over_both_covers_the_truth_where_seeds_and_specialists_are_drawn():
    """Three seeds and 14 specialists with chance of either kind, as in the suite. Over seeds alone it would be 58 %."""
    rng, covered, alone = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        table = rng.normal(0, 0.03, (14, 1)) + rng.normal(0, 0.005, (1, 3)) + rng.normal(0, 0.01, (14, 3))
        both = interval_over_both(table.mean(0), table.mean(1))
        over_seeds = t_interval(table.mean(0))
        covered += both.low <= 0 <= both.high
        alone += over_seeds.low <= 0 <= over_seeds.high
    assert covered >= 940 and alone < 900


def test_paired_difference_by_hand():
    losses = series({("a", "0"): 2.0, ("a", "1"): 2.2, ("b", "0"): 3.0, ("b", "1"): 3.0})
    reference = series({("a", "0"): 2.1, ("a", "1"): 2.4, ("b", "0"): 3.4, ("b", "1"): 3.3})
    difference = paired_difference(losses, reference)  # a: -0.1, -0.2; b: -0.4, -0.3
    assert difference.mean == pytest.approx(-0.25)
    assert list(difference.by_specialist) == pytest.approx([-0.15, -0.35])
    assert list(difference.by_seed) == pytest.approx([-0.25, -0.25])
    assert difference.verdict == "not separated"  # two seeds and two specialists
    assert difference.over_both == interval_over_both(difference.by_seed, difference.by_specialist)
    assert difference.by_cell.to_numpy() == pytest.approx(np.array([[-0.1, -0.2], [-0.4, -0.3]]))
    assert difference.over_seeds == t_interval(difference.by_seed)
    assert difference.over_specialists == bootstrap_interval(difference.by_specialist, np.random.default_rng(0))


def test_a_difference_repeats_to_the_last_bit():
    rng = np.random.default_rng(3)
    losses, reference = (
        series({(name, seed): rng.normal(3, 0.1) for name in "abcdefgh" for seed in "01"}) for _ in range(2)
    )
    one, again = (paired_difference(losses, reference) for _ in range(2))
    assert one.over_specialists == again.over_specialists and one.over_seeds == again.over_seeds


def test_paired_difference_drops_what_is_not_in_both():
    losses = series({("a", "0"): 2.0, ("a", "1"): 2.2, ("b", "0"): 3.0, ("a", "2"): 9.0, ("c", "0"): 9.0})
    reference = series({("a", "0"): 2.1, ("a", "1"): 2.4, ("b", "0"): 3.4, ("b", "1"): 3.3})
    difference = paired_difference(losses, reference)
    assert list(difference.by_specialist.index) == ["a"] and list(difference.by_seed.index) == ["0", "1"]
    assert paired_difference(losses, reference.drop("a").drop("b")) is None
