"""The table of costs: what each method spends, once and for each specialist, and from where the soup costs less."""

import pandas as pd

from soe_bench.report.effects import NotRun, Soups
from soe_bench.report.format import Table, fixed
from soe_bench.report.spending import break_even, spending
from soe_bench.report.stats import mean, paired_difference
from soe_bench.report.tables.budgets import budget_name
from soe_bench.report.tables.main import provenance
from soe_bench.report.view import MISSING, View


def costs_table(view: View) -> Table:
    """A row per method, and one for each budget of tokens that it was fine-tuned on."""
    soup = _largest_soup(view)
    budgets = sorted({0, *view.all[view.all.split == "test"].budget_tokens})
    rows = [
        _row(view, label, budget, soup)
        for budget in budgets
        for label in view.order
        if not budget or len(view.losses(label, budget=budget))
    ]
    notes = [
        "mean over seeds, and what is spent on each specialist over the specialists too; memory: the most of any run",
        "once: the training, parents included, whatever the number of specialists; each: for one specialist more. A "
        "method that trains a model for each specialist pays nothing once, and its part of the training for each",
        "fine-tuned: tokens, FLOPs and seconds of the trials of the rate included",
        f"break-even: smallest number N of specialists from which {soup or 'the largest soup'} costs fewer FLOPs, once "
        "+ N each on both sides; never: none; up to N: cheaper for the first N only",
        "loss minus the soup's: that soup's at budget 0, paired by specialist and seed (nats/token); above 0: the "
        "method is worse",
        f"{MISSING}: no record on a specialist",
    ]
    title = f"What a method costs, and the soup's break-even, {view.title}"
    return Table("costs" + view.suffix, title, pd.DataFrame(rows), [*notes, *provenance(view.cells())])


def _largest_soup(view: View) -> str | None:
    """The soup with most experts, or None if there is none, or no single one."""
    soups = Soups(view)
    try:
        return soups.label(max(soups.counts, default=None))
    except NotRun:
        return None


def _row(view: View, label: str, budget: int, soup: str | None) -> dict[str, str]:
    runs = view.records[view.records.label == label]
    first, spent = runs.iloc[0], _mean_spending(view, label, budget)
    is_soup = label == soup and not budget
    difference = None
    if soup and not is_soup:
        difference = paired_difference(view.losses(label, budget=budget), view.losses(soup))
    return {
        "method": label + (f", fine-tuned on {budget_name(budget)}" if budget else ""),
        "stored parameters": str(first.stored_parameters),
        "deployed parameters": str(first.deployed_parameters),
        **_spent(spent),
        "peak memory GB": fixed(runs.peak_memory_bytes.max() / 1e9, 2),
        "break-even specialists": _break_even(view, soup, spent) if soup and not is_soup else "",
        "loss minus the soup's": fixed(difference.mean) if difference else "",
        "seeds": str(len(difference.by_seed)) if difference else "",
        "specialists": f"{len(difference.by_specialist)} of {len(view.specialists)}" if difference else "",
    }


def _mean_spending(view: View, label: str, budget: int = 0) -> pd.Series | None:
    """`spending` averaged over seeds; None if there is no record on a specialist."""
    table = spending(view, label, budget)
    return table.apply(mean) if len(table) else None


def _spent(spent: pd.Series | None) -> dict[str, str]:
    if spent is None:
        return dict.fromkeys(("tokens once", "FLOPs once", "tokens each", "FLOPs each", "seconds each"), MISSING)
    return {
        "tokens once": fixed(spent.tokens_once, 0),
        "FLOPs once": f"{spent.flops_once:.3g}",
        "tokens each": fixed(spent.tokens_each, 0),
        "FLOPs each": f"{spent.flops_each:.3g}",
        "seconds each": f"{float(f'{spent.seconds_each:.3g}'):g}",
    }


def _break_even(view: View, soup: str, spent: pd.Series | None) -> str:
    own = _mean_spending(view, soup)
    if own is None or spent is None:
        return MISSING
    return break_even(own.flops_once, own.flops_each, spent.flops_once, spent.flops_each)
