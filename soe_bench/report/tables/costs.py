"""The table of costs: what each method spends, once and for each specialist, and from where the soup costs less."""

import pandas as pd

from soe_bench.report.effects import NotRun, Soups
from soe_bench.report.format import Table, fixed, short
from soe_bench.report.spending import break_even, mean_spending
from soe_bench.report.stats import paired_difference
from soe_bench.report.tables.budgets import with_budget
from soe_bench.report.tables.pieces import view_table, within_note
from soe_bench.report.view import MISSING, View

SPENT = {  # column -> what of the spending, and how it is written
    "tokens once": ("tokens_once", "{:.0f}".format),
    "FLOPs once": ("flops_once", "{:.3g}".format),
    "tokens each": ("tokens_each", "{:.0f}".format),
    "FLOPs each": ("flops_each", "{:.3g}".format),
    "seconds each": ("seconds_each", short),
}


def costs_table(view: View) -> Table | None:
    """A row per method, and one for each budget of tokens that it was fine-tuned on."""
    soup = largest_soup(view)
    budgets = sorted({0, *view.all[view.all.split == "test"].budget_tokens})
    rows = [
        _row(view, label, budget, soup)
        for budget in budgets
        for label in view.order
        if not budget or len(view.losses(label, budget=budget))
    ]
    notes = [
        "Costs are means over seeds; what is paid for each specialist is a mean over the specialists too. "
        "`peak memory GB` is the most of any run.",
        "`once` is paid for the training, that of its parents included, whatever the number of specialists. `each` is "
        "paid for one specialist more. A method that trains a model per specialist pays nothing once, and for each "
        "specialist its share of the training.",
        "Fine-tuning includes the tokens, FLOPs and seconds of the trials of its learning rate.",
        f"`break-even specialists` is the smallest number of specialists from which {soup or 'the largest soup'} "
        "costs fewer FLOPs than the row's method, training included. never: there is none; up to N: it costs less for "
        "the first N only.",
        "`loss minus the soup's` is paired by specialist and seed (nats/token), with the soup as trained, on the "
        "specialists within the corpus. Above 0 the method is worse.",
        *within_note(view),
        f"{MISSING}: there is no record on a specialist.",
    ]
    return view_table(view, "costs", "What a method costs, and the soup's break-even", rows, notes, view.cells())


def largest_soup(view: View) -> str | None:
    """The soup with most experts, or None if there is none, or no single one."""
    soups = Soups(view)
    try:
        return soups.label(max(soups.counts, default=None))
    except NotRun:
        return None


def _row(view: View, label: str, budget: int, soup: str | None) -> dict[str, str]:
    runs = view.records[view.records.label == label]
    first, spent = runs.iloc[0], mean_spending(view, label, budget)
    difference, from_n = None, ""
    if soup and (label, budget) != (soup, 0):
        difference = paired_difference(view.averaged_losses(label, budget=budget), view.averaged_losses(soup))
        from_n = _break_even(mean_spending(view, soup), spent)
    return {
        "method": with_budget(label, budget),
        "stored parameters": str(first.stored_parameters),
        "deployed parameters": str(first.deployed_parameters),
        **{name: MISSING if spent is None else form(spent[unit]) for name, (unit, form) in SPENT.items()},
        "peak memory GB": fixed(runs.peak_memory_bytes.max() / 1e9, 2),
        "break-even specialists": from_n,
        "loss minus the soup's": fixed(difference.mean) if difference else "",
        "seeds": str(len(difference.by_seed)) if difference else "",
        "specialists": f"{len(difference.by_specialist)} of {len(view.averaged)}" if difference else "",
    }


def _break_even(own: pd.Series | None, other: pd.Series | None) -> str:
    if own is None or other is None:
        return MISSING
    return break_even(own.flops_once, own.flops_each, other.flops_once, other.flops_each)
