"""What each method spends, once and for each specialist, and from where the soup costs less: the table of a results
folder, and that of so many specialists."""

import pandas as pd

from soe_bench.report.effects import Soups
from soe_bench.report.format import Table, fixed, short
from soe_bench.report.spending import break_even, mean_spending
from soe_bench.report.tables.budgets import with_budget
from soe_bench.report.tables.pieces import loss_cells, provenance, view_table, within_note
from soe_bench.report.view import MISSING, View

UNITS = ("tokens", "flops", "seconds")
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
    rows = [_row(view, label, budget, soup) for label, budget in delivered(view, view.order)]
    notes = [
        "Costs are means over seeds; what is paid for each specialist is a mean over the specialists too. "
        "`peak memory GB` is the most of any run.",
        "`once` is paid for the training, that of its parents included, whatever the number of specialists. `each` is "
        "paid for one specialist more. A method that trains a model per specialist pays once for the parent that these "
        "start from, and for each specialist its share of the rest.",
        "Fine-tuning includes the tokens, FLOPs and seconds of the trials of its learning rate.",
        f"`break-even specialists` is the smallest number of specialists from which {soup or 'the largest soup'} "
        "costs fewer FLOPs than the row's method, training included. never: there is none; up to N: it costs less for "
        "the first N only.",
        "`loss minus the soup's` is paired by specialist and seed (nats/token), with the soup as trained, on the "
        "specialists within the corpus that have both. Above 0 the method is worse. Rows on other `specialists` cannot "
        "be compared with each other.",
        *within_note(view),
        f"{MISSING}: there is no record on a specialist.",
    ]
    return view_table(view, "costs", "What a method costs, and the soup's break-even", rows, notes, view.cells())


def cost_table(view: View, specialists: int, gpu_hour: float | None, rate: float | None) -> Table:
    """What so many specialists cost by each method of the view whose costs were measured, as trained and for each
    budget of tokens that it was fine-tuned on. The view must have a largest soup, with its costs (see `has_costs`).

    `gpu_hour` is the price of an hour. `rate`, in FLOPs per second, gives the hours instead of the measured time.
    """
    ways = [way for way in delivered(view, view.shown) if mean_spending(view, *way) is not None]
    soup = largest_soup(view)
    rows = [_cost_row(view, *way, soup, specialists, gpu_hour, rate) for way in ways]
    cells = view.cells()[view.cells().label.isin([label for label, _ in ways])]
    machines = sorted({f"{run.device} with {run.threads} threads" for run in cells.itertuples()})
    measured = (
        f"Hours are measured ({'; '.join(machines)}), the specialists one after the other."
        + " They come from several machines or numbers of threads, so compare the FLOPs." * (len(machines) > 1)
    )
    notes = [
        f"N = {specialists} specialists cost what the training takes that serves all, with that of the models that it "
        "starts from, and N times what is paid for each. The latter is a mean over the specialists of the records "
        f"({len(view.specialists)}), and is assumed to be the same for any other.",
        "A method that trains a model for each specialist pays once for the parent that these start from, and for each "
        "its share of the rest. Fine-tuning is paid for each, with the trials of its learning rate. What was not "
        "measured has no row.",
        "Not counted: the corpus, the search for the settings of the training, measuring the losses, and keeping and "
        "serving the models.",
        f"Hours are the FLOPs at {rate:g} FLOPs per second." if rate else measured,
        *([f"Money is {gpu_hour:g} for each of these hours, in the currency of that price."] if gpu_hour else []),
        "The loss is on test text (nats/token), a mean over the seeds and the specialists within the corpus. "
        f"{MISSING}: one of them has no record. It is for the specialists of the records, whatever N.",
        "`minus generic` is the difference to generic pretraining without fine-tuning on as many tokens as the soup, "
        "paired by specialist and seed, on so many `specialists`. Below 0 is better.",
        f"`break-even` is the smallest number of specialists from which {soup} costs fewer FLOPs than "
        "the row's method. never: there is none; up to N: it costs less for the first N only.",
        *within_note(view),
        *provenance(cells),
    ]
    return Table("cost", f"What {specialists} specialists cost, {view.title}", pd.DataFrame(rows), notes)


def has_costs(view: View) -> bool:
    """Whether the view has a largest soup whose costs were measured."""
    soup = largest_soup(view)
    return soup is not None and mean_spending(view, soup) is not None


def largest_soup(view: View) -> str | None:
    """The soup with most experts, or None if there is none, or no single one."""
    soups = Soups(view)
    return soups.labels.get(max(soups.counts, default=None))


def delivered(view: View, labels: list[str]) -> list[tuple[str, int]]:
    """The labels as trained (budget 0), and then fine-tuned on each budget of which they have a record."""
    budgets = sorted({0, *view.all[view.all.split == "test"].budget_tokens})
    return [(each, b) for b in budgets for each in labels if not b or len(view.losses(each, budget=b))]


def _cost_row(
    view: View, label: str, budget: int, soup: str, specialists: int, gpu_hour: float | None, rate: float | None
) -> dict[str, str]:
    spent, cells = mean_spending(view, label, budget), _loss_cells(view, label, budget, view.generic_for(soup))
    tokens, flops, seconds = (spent[f"{unit}_once"] + specialists * spent[f"{unit}_each"] for unit in UNITS)
    hours = (flops / rate if rate else seconds) / 3600
    return {
        "method": with_budget(label, budget),
        "tokens": f"{tokens:.3g}",
        "FLOPs": f"{flops:.3g}",
        "hours": short(hours),
        **({"money": short(gpu_hour * hours)} if gpu_hour else {}),
        "loss": cells["loss"],
        "minus generic": cells["difference"],
        "specialists": cells["specialists"],
        "break-even": _break_even(view, label, budget, soup),
    }


def _row(view: View, label: str, budget: int, soup: str | None) -> dict[str, str]:
    runs = view.records[view.records.label == label]
    first, spent = runs.iloc[0], mean_spending(view, label, budget)
    cells = _loss_cells(view, label, budget, soup)
    return {
        "method": with_budget(label, budget),
        "stored parameters": str(first.stored_parameters),
        "deployed parameters": str(first.deployed_parameters),
        **{name: MISSING if spent is None else form(spent[unit]) for name, (unit, form) in SPENT.items()},
        "peak memory GB": fixed(runs.peak_memory_bytes.max() / 1e9, 2),
        "break-even specialists": _break_even(view, label, budget, soup),
        "loss minus the soup's": cells["difference"],
        "seeds": cells["seeds"],
        "specialists": cells["specialists"],
    }


def _loss_cells(view: View, label: str, budget: int, other: str | None) -> dict[str, str]:
    """The loss of the label, fine-tuned on the budget, and its difference to another as trained, on the specialists
    that means are over; no difference for that other itself, or if there is none."""
    reference = None if other is None or (label, budget) == (other, 0) else view.losses(other)
    return loss_cells(view, view.losses(label, budget=budget), reference, view.averaged)


def _break_even(view: View, label: str, budget: int, soup: str | None) -> str:
    """From how many specialists the soup costs fewer FLOPs than the label, fine-tuned on the budget; empty for the soup
    itself, or if there is none."""
    if soup is None or (label, budget) == (soup, 0):
        return ""
    own, other = mean_spending(view, soup), mean_spending(view, label, budget)
    if own is None or other is None:
        return MISSING
    return break_even(own.flops_once, own.flops_each, other.flops_once, other.flops_each)
