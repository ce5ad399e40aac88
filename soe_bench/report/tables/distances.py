"""The table of closeness: how far apart models are, and what lies on the line between them, by kind of pair."""

import math

import pandas as pd

from soe_bench.report.format import Table, fixed
from soe_bench.report.load import FAMILIES
from soe_bench.report.stats import mean, variance

MEASURES = ("distance", "cosine", "cosine_of_updates", "barrier", "merge_gap")


def closeness_table(distances: pd.DataFrame) -> Table:
    """Mean and standard deviation of each measure over the pairs of each family and method."""
    rows = []
    families = distances.assign(family=pd.Categorical(distances.family, FAMILIES))
    for (family, method), group in families.groupby(["family", "method"], observed=True):
        seeds, pairs, known = group.seed.nunique(), len(group), group.merge_gap.count()
        row = {"family": family, "method": method, "seeds": seeds, "pairs": pairs, "pairs with losses": known}
        for measure in MEASURES:
            values, name = group[measure].dropna(), measure.replace("_", " ")
            row[name] = fixed(mean(values))
            row[f"{name} sd"] = fixed(math.sqrt(variance(values)) if len(values) > 1 else None)
        rows.append(row)
    notes = [
        "A family says where two models come from. common_parent: domain experts that start from one parent; separate: "
        "domain experts from separate initialisations; aligned: the same, permuted to match the first; soup: "
        "specialists of one soup.",
        "`distance` is the norm of the difference of the two parameter vectors over the mean of their norms. `cosine` "
        "is between the parameters, `cosine of updates` between their differences to the common parent.",
        "`barrier` (nats/token) is the highest excess of the loss over the straight line between the two models' "
        "losses. `merge gap` (nats/token) is the loss of their midpoint minus the mean loss of the two, each on its "
        "own text. Both are measured on the `pairs with losses` alone: every model and its nearest, and some others.",
        "A column `sd` is the standard deviation over pairs and seeds. Pairs share models, so they are not "
        "independent.",
        f"Runs: {', '.join(sorted(set(distances.run_id)))}.",
    ]
    title = "How close models are, and what merging two of them costs"
    return Table("closeness", title, pd.DataFrame(rows).astype(str), notes)
