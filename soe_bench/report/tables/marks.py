"""What a table of losses marks in a column: the best value, and those that are not separated from it."""

import pandas as pd

from soe_bench.report.stats import Difference, paired_difference

DAGGER = (
    "Bold marks the lowest value among the methods. A dagger (†) marks a value that is not separated from it: a 95 % "
    "interval of their paired difference contains 0. There is one interval over seeds, and for a mean one over its "
    "specialists too. They are not corrected for the number of methods."
)
Losses = dict[str, pd.Series]  # method -> what its value in a column is the mean of, indexed (specialist, seed)


def mark(frame: pd.DataFrame, losses: dict[str, Losses]) -> dict[str, frozenset[tuple[int, int]]]:
    """The (row, column) positions that a table prints bold and those that it prints with a dagger, as its fields
    `bold` and `daggers`.

    frame: one row per method, in its column `method`; losses: by column of the frame. Nothing is separated from the
    best with which it shares fewer than two seeds: such a value has no mark.
    """
    bold, daggers = set(), set()
    for column, by_method in losses.items():
        values, differences = _to_lowest(frame, column, by_method)
        for i, difference in differences.items():
            marked = bold if values[i] == values.min() else daggers if _holds_0(difference) else set()
            marked.add((i, frame.columns.get_loc(column)))
    return {"bold": frozenset(bold), "daggers": frozenset(daggers)}


def untested(frame: pd.DataFrame, column: str, losses: Losses) -> list[str]:
    """A note, where needed, that names the methods that share fewer than two seeds with the best of a column."""
    _, differences = _to_lowest(frame, column, losses)
    single = [frame.method[i] for i, each in differences.items() if each is None or each.over_seeds.n < 2]
    if single and len(single) == len(differences):
        return [f"No method shares two seeds with the one that is best in `{column}`, so nothing there has a dagger."]
    shares = f"These methods share fewer than two seeds with the one that is best in `{column}`, so they have no dagger"
    return [f"{shares}: {', '.join(single)}."] if single else []


def _to_lowest(frame: pd.DataFrame, column: str, losses: Losses) -> tuple[pd.Series, dict[int, Difference | None]]:
    """The numbers of a column by row, and the paired difference of each to the lowest: none for fewer than two."""
    values = pd.to_numeric(frame[column], errors="coerce").dropna()
    if len(values) < 2:
        return values, {}
    lowest = losses[frame.method[values.idxmin()]]
    return values, {i: paired_difference(losses[frame.method[i]], lowest) for i in values.index}


def _holds_0(difference: Difference | None) -> bool:
    """Whether one of the intervals, of which there must be one over seeds, holds 0."""
    if difference is None or difference.over_seeds.n < 2:
        return False
    return any(interval.low <= 0 <= interval.high for interval in (difference.over_seeds, difference.over_specialists))
