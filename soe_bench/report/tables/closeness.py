"""The table of closeness: how far apart models are, and what lies on the line between them, by kind of pair."""

import math

import pandas as pd

from soe_bench.report.format import Table, fixed
from soe_bench.report.load import FAMILIES
from soe_bench.report.stats import mean

MEASURES = ("distance", "cosine", "cosine_of_updates", "barrier", "merge_gap")


def closeness_table(distances: pd.DataFrame) -> Table:
    """Mean and standard deviation of each measure over the pairs of each family and method."""
    groups = distances.groupby(["family", "method"])
    keys = sorted(groups.groups, key=lambda key: (FAMILIES.index(key[0]), key[1]))
    notes = [
        "common_parent: domain experts that branch from one parent; separate: from separate initialisations; aligned: "
        "the same, permuted to match the first; soup: the soup's own specialists",
        "distance: L2 norm of the difference of the two parameter vectors over the mean of their norms; cosine: of the "
        "parameters; cosine of updates: of their differences to the common parent",
        "barrier (nats/token): highest excess over the straight line between the two models' losses; merge gap "
        "(nats/token): loss of their midpoint minus the mean loss of the two, each on its own text; both for `pairs "
        "with losses` alone: every model and its nearest, and some others",
        "sd: standard deviation over the pairs and seeds; pairs share models: they are not independent",
        f"runs: {', '.join(sorted(set(distances.run_id)))}",
    ]
    rows = [_row(*key, groups.get_group(key)) for key in keys]
    title = "How close models are, and what merging two of them costs"
    return Table("closeness", title, pd.DataFrame(rows), notes, turned=True)


def _row(family: str, method: str, group: pd.DataFrame) -> dict[str, str]:
    cells = {
        "family": family,
        "method": method,
        "seeds": str(group.seed.nunique()),
        "pairs": str(len(group)),
        "pairs with losses": str(group.merge_gap.count()),
    }
    for measure in MEASURES:
        values, name = group[measure].dropna(), measure.replace("_", " ")
        cells[name] = fixed(mean(values)) if len(values) else ""
        cells[f"{name} sd"] = fixed(_deviation(values))
    return cells


def _deviation(values: pd.Series) -> float | None:
    """Standard deviation; None for fewer than two values."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))
