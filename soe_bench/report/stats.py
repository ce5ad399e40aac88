"""Paired differences between methods, their intervals (over seeds, specialists, and both) and the verdict."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

LEVEL = 0.95
RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
CHANCE = ("seeds", "specialists", "both")  # what the intervals of a difference are over
# Seeds get a t-interval: a bootstrap over three of them would cover about 74 %.


@dataclass(frozen=True)
class Interval:
    """An interval at LEVEL and the number of units (seeds or specialists) it rests on. Of fewer than two units there is
    none: its ends are NaN, so that it lies on neither side of anything and is written as nothing."""

    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A paired difference, method minus reference (nats/token; negative = the method is better)."""

    mean: float
    by_cell: pd.DataFrame  # specialists x seeds
    by_specialist: pd.Series  # averaged over seeds, index: specialist
    by_seed: pd.Series  # averaged over specialists, index: seed
    over_seeds: Interval
    over_specialists: Interval
    over_both: Interval
    verdict: str

    @property
    def intervals(self) -> dict[str, Interval]:
        """By what they are over."""
        return dict(zip(CHANCE, (self.over_seeds, self.over_specialists, self.over_both), strict=True))


def mean(values: np.ndarray | pd.Series) -> float:
    """The exactly rounded mean: the same bits on every machine and in every order. NaN of no values."""
    return math.fsum(values) / len(values) if len(values) else math.nan


def variance(values: np.ndarray | pd.Series) -> float:
    """The unbiased variance of two or more independent values."""
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)


def t_interval(values: np.ndarray | pd.Series) -> Interval:
    """Student's t-interval for the mean of independent values."""
    n = len(values)
    if n < 2:
        return Interval(math.nan, math.nan, n)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * math.sqrt(variance(values) / n)
    return Interval(mean(values) - half, mean(values) + half, n)


def interval_over_both(by_seed: np.ndarray | pd.Series, by_specialist: np.ndarray | pd.Series) -> Interval:
    """A t-interval for the mean of a table of specialists x seeds, given the means of its columns and of its rows. It
    counts the chance of both: the variances that the mean has by either are added, and the degrees of freedom are those
    of Satterthwaite (https://doi.org/10.2307/3002019). The noise of single cells is in both variances, so that the
    interval is rather too wide. `n` is the smaller of the two numbers."""
    kinds = (by_seed, by_specialist)
    n = min(map(len, kinds))
    if n < 2:
        return Interval(math.nan, math.nan, n)
    parts = [variance(values) / len(values) for values in kinds]
    total, centre = math.fsum(parts), mean(by_specialist)
    if not total:
        return Interval(centre, centre, n)
    freedom = total**2 / math.fsum(part**2 / (len(values) - 1) for part, values in zip(parts, kinds, strict=True))
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(total)
    return Interval(centre - half, centre + half, n)


def t_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Of each row of a table (its columns: seeds) the `mean`, and `low` and `high` of its t-interval."""
    rows = [(mean(row), t_interval(row).low, t_interval(row).high) for _, row in table.iterrows()]
    return pd.DataFrame(rows, table.index, ["mean", "low", "high"])


def bootstrap_interval(values: np.ndarray | pd.Series, rng: np.random.Generator) -> Interval:
    """Percentile bootstrap interval for the mean (RESAMPLES resamples from `rng`)."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return Interval(math.nan, math.nan, len(values))
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), len(values))


def verdict(over_seeds: Interval, over_specialists: Interval, over_both: Interval) -> str:
    """ "better" or "worse" only if all three intervals lie wholly on that side of 0."""
    for unit, interval in (("seed", over_seeds), ("specialist", over_specialists)):
        if interval.n < 2:
            return f"not separated (n = 1 {unit})"
    return {"below": "better", "above": "worse"}.get(side([over_seeds, over_specialists, over_both]), "not separated")


def side(intervals: Iterable[Interval], threshold: float = 0) -> str:
    """`below` or `above` if all intervals lie wholly on that side of a threshold, `neither` otherwise."""
    where = {"below" if each.high < threshold else "above" if each.low > threshold else "neither" for each in intervals}
    return where.pop() if len(where) == 1 else "neither"


def paired_difference(losses: pd.Series, reference: pd.Series) -> Difference | None:
    """Method minus reference, both indexed (specialist, seed) with one value per cell.

    Uses the seeds that both have, and of the specialists those with all of these seeds in both: a difference is taken
    between values of the same specialist and seed only. None if nothing is left.
    """
    return summarize(losses - reference)


def summarize(values: pd.Series) -> Difference | None:
    """Paired values indexed (specialist, seed), averaged, with intervals; drops cells as paired_difference does."""
    table = values.dropna().unstack("seed")
    table = table.sort_index(axis=0).sort_index(axis=1).dropna(axis=0)
    if table.empty:
        return None
    by_specialist, by_seed = table.apply(mean, axis=1), table.apply(mean, axis=0)
    drawn = bootstrap_interval(by_specialist, np.random.default_rng(BOOTSTRAP_SEED))
    intervals = t_interval(by_seed), drawn, interval_over_both(by_seed, by_specialist)
    return Difference(mean(by_specialist), table, by_specialist, by_seed, *intervals, verdict(*intervals))
