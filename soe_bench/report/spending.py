"""What a method spends: once, and for each specialist; and the number of specialists from which another costs less."""

from functools import lru_cache

import pandas as pd

from soe_bench.report.stats import mean
from soe_bench.report.view import GENERIC_TEXT, View

EQUAL = (0.95, 1.05)  # what one method may take of another's FLOPs to count as taking as many


@lru_cache  # a table asks for the same three times
def spending(view: View, label: str, budget: int = 0) -> pd.DataFrame:
    """One row per seed: `tokens_once`, `flops_once`, `seconds_once` (what serves all specialists), `tokens_each`,
    `flops_each`, `seconds_each` (to deliver one, mean over the specialists), fine-tuned on `budget` tokens; no row
    without a record whose costs were measured.

    A training that makes a model for each of its `trained_for` specialists costs once what its parent took, and each of
    them its share of the rest.
    """
    rows = view.cells(budget=budget)
    rows = rows[(rows.label == label) & (rows.specialist != GENERIC_TEXT) & rows.specialist_flops.notna()]
    serves_all, share = rows.trained_for.isna(), (1 / rows.trained_for.astype(float)).fillna(0)
    names = {"tokens": "training_tokens", "flops": "flops", "seconds": "seconds"}
    common = {unit: rows[f"parent_{unit}"].astype(float).fillna(0) for unit in names}
    once = {f"{unit}_once": rows[name].where(serves_all, common[unit]) for unit, name in names.items()}
    each = {
        f"{unit}_each": share * (rows[name] - common[unit]) + rows[f"specialist_{unit}"] for unit, name in names.items()
    }
    return pd.DataFrame({"seed": rows.seed, **once, **each}).groupby("seed").agg(mean).astype(float)


def total_flops(view: View, label: str, specialists: int, budget: int = 0) -> float:
    """The FLOPs of all training and of so many specialists, a mean over seeds; NaN without a record on a specialist."""
    costs = spending(view, label, budget)
    return mean(costs.flops_once + specialists * costs.flops_each)


def mean_spending(view: View, label: str, budget: int = 0) -> pd.Series | None:
    """`spending` averaged over seeds; None if there is no record on a specialist."""
    table = spending(view, label, budget)
    return table.apply(mean) if len(table) else None


def break_even(once: float, each: float, other_once: float, other_each: float) -> str:
    """The smallest number N of specialists from which once + N each < other_once + N other_each.

    "never" if there is none; "up to N" where the inequality holds for the first N only.
    """
    extra, saved = once - other_once, other_each - each
    if saved > 0:
        return str(max(1, int(extra // saved) + 1))
    if extra >= 0:
        return "never"
    if saved == 0:
        return "1"
    last = int(-(-extra // saved)) - 1  # below extra / saved, both negative
    return f"up to {last}" if last >= 1 else "never"
