"""Fine-tuned models: loss after fine-tuning on so many tokens of a specialist's own text, on one set of specialists."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from soe_bench.report.format import Table
from soe_bench.report.tables.pieces import INTERVALS, VERDICT, loss_cells, not_compared, view_table
from soe_bench.report.view import MISSING, View


@dataclass(frozen=True)
class FineTuned:
    """The fine-tuned methods of a view on one fixed set of specialists: those within the corpus that have every budget,
    0 among them, for every seed that has one at all, of each method that has any such specialist."""

    view: View
    records: pd.DataFrame  # the fine-tuned ones
    budgets: list[int]  # tokens, 0 first
    specialists: list[str]
    losses: dict[tuple[int, str], pd.Series]  # (budget, label) -> nats/token by (specialist, seed)

    def generic(self, budget: int, label: str) -> pd.Series | None:
        """The losses of the generic run to compare a label with, fine-tuned on as many tokens; None if there is none,
        or for that run itself."""
        generic = self.view.generic_for(label)
        return None if generic == label else self.losses.get((budget, generic))


def fine_tuned(view: View) -> FineTuned | None:
    """None if no method has records at every budget, or all of these have no specialist in common."""
    rows = view.all[(view.all.split == "test") & (view.all.budget_tokens > 0) & view.all.label.notna()]
    budgets, labels = [0, *sorted(set(rows.budget_tokens))], [label for label in view.order if label in set(rows.label)]
    tables = {
        label: pd.DataFrame({b: view.losses(label, budget=b, specialists=view.averaged) for b in budgets})
        for label in labels
    }
    whole = {label: table.dropna() for label, table in tables.items()}
    sets = [set(table.unstack("seed").dropna().index) for table in whole.values() if len(table)]
    specialists = sorted(set.intersection(*sets)) if sets else []
    if not specialists:
        return None
    losses = {}
    for label, table in tables.items():
        # The seeds that have every budget, so that a method's rows, or line, rest on the same runs throughout.
        seeds = (whole[label] if len(whole[label]) else table).index.unique("seed")
        known = table[table.index.isin(specialists, "specialist") & table.index.isin(seeds, "seed")]
        losses |= {(b, label): known[b].dropna() for b in budgets}
    return FineTuned(view, rows, budgets, specialists, losses)


def budgets_table(view: View) -> Table | None:
    """A row for each budget and method: the loss, and its difference to generic pretraining fine-tuned on as many
    tokens; None where `fine_tuned` finds nothing."""
    found = fine_tuned(view)
    if found is None:
        return None
    labels = [label for label in view.order if (0, label) in found.losses]
    rows = [
        {"budget": budget_name(budget), "method": label}
        | loss_cells(view, found.losses[budget, label], found.generic(budget, label), found.specialists)
        for budget in found.budgets
        for label in labels
    ]
    notes = [
        "`budget` is the number of tokens of the specialist's own text that the model was fine-tuned on. The losses "
        "are on test text, with h from the estimate split.",
        "All rows rest on the same specialists: those within the corpus that have a record at every budget for all "
        f"methods that were fine-tuned on every budget: n = {len(found.specialists)} of {len(view.averaged)}: "
        f"{', '.join(found.specialists)}.",
        "`loss` is a mean over these specialists and the seeds that have every budget (all, where none has). "
        f"{MISSING}: one of these specialists has no record.",
        "A difference is the method's loss minus that of generic pretraining, both fine-tuned on as many tokens of the "
        "specialist's own text, paired by specialist and seed.",
        INTERVALS,
        VERDICT,
        *not_compared(view, labels),
    ]
    return view_table(view, "budgets", "Loss after fine-tuning (nats/token)", rows, notes, found.records)


def budget_name(tokens: int) -> str:
    """10_000 -> 10k, 1_000_000 -> 1M."""
    return f"{tokens / 1e6:.3g}M" if tokens >= 1e6 else f"{tokens / 1e3:g}k" if tokens >= 1e3 else str(tokens)


def with_budget(label: str, budget: int) -> str:
    """The name of a label that was fine-tuned on so many tokens, or not at all."""
    return label + (f", fine-tuned on {budget_name(budget)}" if budget else "")
