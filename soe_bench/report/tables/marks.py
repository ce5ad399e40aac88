"""What a table of losses marks in a column: the best value, and those that are not separated from it."""

import pandas as pd

from soe_bench.report.format import is_number
from soe_bench.report.stats import Difference, paired_difference

DAGGER = (
    "bold: the lowest of the column; †: not separated from it, that is a 95 % interval of the paired difference to it "
    "holds 0 (over seeds; for a mean also over its specialists; no correction for the number of methods)"
)


def mark(frame: pd.DataFrame, losses: dict[str, dict[str, pd.Series]]) -> dict[str, frozenset[tuple[int, int]]]:
    """The (row, column) positions that a table prints bold and those that it prints with a dagger, as its fields
    `bold` and `daggers`.

    frame: one row per method, in its column `method`; losses: column of the frame -> method -> what its value is the
    mean of, indexed (specialist, seed). Nothing is separated from the best with which it shares fewer than two seeds:
    such a value has no mark.
    """
    bold, daggers = set(), set()
    for column, by_method in losses.items():
        values = {i: float(value) for i, value in enumerate(frame[column]) if is_number(value)}
        if len(values) < 2:
            continue
        place = frame.columns.get_loc(column)
        best = min(values, key=values.__getitem__)
        lowest = {i for i in values if values[i] == values[best]}
        bold |= {(i, place) for i in lowest}
        reference = by_method[frame.method[best]]
        for i in values.keys() - lowest:
            if _holds_0(paired_difference(by_method[frame.method[i]], reference)):
                daggers.add((i, place))
    return {"bold": frozenset(bold), "daggers": frozenset(daggers)}


def untested(frame: pd.DataFrame, column: str, by_method: dict[str, pd.Series]) -> list[str]:
    """A note, where needed, that names the methods that share fewer than two seeds with the best of a column."""
    rows = frame[[is_number(value) for value in frame[column]]]
    if len(rows) < 2:
        return []
    reference = by_method[rows.method[rows[column].astype(float).idxmin()]]
    differences = {name: paired_difference(by_method[name], reference) for name in rows.method}
    single = [name for name, each in differences.items() if each is None or each.over_seeds is None]
    if len(single) == len(rows):
        return [f"fewer than two seeds in common with the best {column}: nothing is separated, and nothing marked †"]
    note = f"fewer than two seeds in common with the best {column}: not separated from it, and not marked †"
    return [f"{note}: {', '.join(single)}"] if single else []


def _holds_0(difference: Difference | None) -> bool:
    """Whether one of the intervals, of which there must be one over seeds, holds 0."""
    if difference is None or difference.over_seeds is None:
        return False
    intervals = filter(None, (difference.over_seeds, difference.over_specialists))
    return any(interval.low <= 0 <= interval.high for interval in intervals)
