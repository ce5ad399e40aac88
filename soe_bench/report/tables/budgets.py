"""Fine-tuned models: loss after fine-tuning on so many tokens of a specialist's own text, on one set of specialists."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from soe_bench.report.format import Table, fixed, from_to
from soe_bench.report.stats import Difference, mean, paired_difference
from soe_bench.report.tables.pieces import INTERVALS, VERDICT, difference_cells, not_compared, view_table
from soe_bench.report.view import MISSING, View


@dataclass(frozen=True)
class Budgets:
    """The fine-tuned methods of a view on one fixed set of specialists: those within the corpus with a record at every
    budget, 0 among them, for each method that has any such specialist."""

    view: View
    budgets: list[int]  # tokens, 0 first
    specialists: list[str]
    losses: dict[str, pd.DataFrame]  # label -> (specialist, seed) x budget, nats/token, NaN where there is no record

    @property
    def fixed_set(self) -> str:
        """The specialists, in words."""
        return (
            "All cells rest on the same specialists: those within the corpus that have a record at every budget, for "
            f"each method that has such a record of any specialist: n = {len(self.specialists)} of "
            f"{len(self.view.averaged)}: {', '.join(self.specialists)}."
        )

    @property
    def records(self) -> pd.DataFrame:
        """The fine-tuned records."""
        rows = self.view.all
        return rows[rows.label.isin(self.losses) & (rows.budget_tokens > 0) & (rows.split == "test")]

    def means(self, label: str, budget: int) -> pd.Series | None:
        """Mean over the set for each seed; None (missing) if a (specialist, seed) has no record."""
        return self.view.seed_means(self.losses[label][budget].dropna(), self.specialists)

    def to_generic(self, label: str, budget: int) -> Difference | None:
        """Paired difference to the generic run fine-tuned on the same budget, on the set; None if there is none."""
        generic = self.view.generic_for(label)
        if generic in (None, label) or generic not in self.losses:
            return None
        return paired_difference(self.losses[label][budget], self.losses[generic][budget])


def fine_tuned(view: View) -> Budgets | None:
    """None if no method has records at every budget, or all of these have no specialist in common."""
    rows = view.all[(view.all.split == "test") & (view.all.budget_tokens > 0) & view.all.label.notna()]
    budgets = [0, *sorted(set(rows.budget_tokens))]
    labels = [label for label in view.order if label in set(rows.label)]
    tables = {label: pd.DataFrame({b: view.losses(label, budget=b) for b in budgets}) for label in labels}
    complete = {label: table.dropna() for label, table in tables.items() if len(table.dropna())}
    sets = [_with_every_seed(table) for table in complete.values()]
    names = sorted(set.intersection(*sets, view.averaged)) if sets else []
    if not names:
        return None
    losses = {}
    for label, table in tables.items():
        # The seeds that have every budget, so that a method's row, or line, rests on the same runs throughout.
        seeds = sorted(set(complete.get(label, table).index.unique("seed")))
        losses[label] = table.reindex(pd.MultiIndex.from_product([names, seeds], names=["specialist", "seed"]))
    return Budgets(view, budgets, names, losses)


def budgets_table(view: View) -> Table | None:
    """Methods x budgets: mean over the fixed set of specialists and over seeds; None if nothing was fine-tuned."""
    budgets = fine_tuned(view)
    if budgets is None:
        return None
    rows = [_row(budgets, label) for label in budgets.losses]
    notes = [
        "The losses are on test text. The name of a column is the number of tokens of the specialist's own text that "
        "the model was fine-tuned on. h comes from the estimate split. A cell is a mean over specialists and seeds.",
        budgets.fixed_set,
        f"`seeds` counts those that have every budget, or all where none has. {MISSING}: one of these specialists has "
        "no record.",
    ]
    title = "Loss after fine-tuning (nats/token)"
    return view_table(view, "budgets", title, rows, notes, budgets.records)


def budgets_difference_table(view: View) -> Table | None:
    """A row for each budget and method: paired difference to generic fine-tuned on as many tokens."""
    budgets = fine_tuned(view)
    if budgets is None:
        return None
    rows = [
        {"budget": budget_name(b), "method": label, **difference_cells(difference, len(budgets.specialists))}
        for b in budgets.budgets
        for label in budgets.losses
        if (difference := budgets.to_generic(label, b))
    ]
    notes = [
        "A difference is the method's loss minus that of generic pretraining, both fine-tuned on as many tokens of the "
        "specialist's own text, paired by specialist and seed.",
        budgets.fixed_set,
        INTERVALS,
        VERDICT,
        *not_compared(view, list(budgets.losses)),
    ]
    title = "Difference to generic after fine-tuning (nats/token)"
    return view_table(view, "budgets_difference", title, rows, notes, budgets.records)


def budget_name(tokens: int) -> str:
    """10_000 -> 10k, 1_000_000 -> 1M."""
    return f"{tokens / 1e6:.3g}M" if tokens >= 1e6 else f"{tokens / 1e3:g}k" if tokens >= 1e3 else str(tokens)


def with_budget(label: str, budget: int) -> str:
    """The name of a label that was fine-tuned on so many tokens, or not at all."""
    return label + (f", fine-tuned on {budget_name(budget)}" if budget else "")


def _row(budgets: Budgets, label: str) -> dict[str, str]:
    means = {b: budgets.means(label, b) for b in budgets.budgets}
    cells = {budget_name(b): MISSING if each is None else fixed(mean(each)) for b, each in means.items()}
    return {"method": label, "seeds": from_to(len(each) for each in means.values() if each is not None), **cells}


def _with_every_seed(table: pd.DataFrame) -> set[str]:
    """The specialists that have all the seeds of the table."""
    cells = table.iloc[:, 0].unstack("seed")
    return set(cells.dropna().index)
