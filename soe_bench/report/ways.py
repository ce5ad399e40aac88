"""The ways to get a model for each of many specialists, and what each costs: the soup, generic pretraining and
fine-tuning, CRISP, and merging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from soe_bench.errors import UserError
from soe_bench.report.load import load_results, results_folders
from soe_bench.report.spending import break_even, mean_spending
from soe_bench.report.stats import Difference, paired_difference
from soe_bench.report.tables.budgets import with_budget
from soe_bench.report.tables.costs import largest_soup
from soe_bench.report.view import View, make_views

UNITS = ("tokens", "flops", "seconds")


@dataclass(frozen=True)
class Way:
    """A label, fine-tuned on `budget` tokens for each specialist, and what it costs: a mean over seeds of what is paid
    once and, over the specialists too, of what is paid for each."""

    label: str
    budget: int
    once: dict[str, float]  # tokens, FLOPs and seconds, by UNITS
    each: dict[str, float]

    @property
    def name(self) -> str:
        """The label, with the budget where there is one."""
        return with_budget(self.label, self.budget)

    def total(self, unit: str, specialists: float) -> float:
        """What so many specialists cost."""
        return self.once[unit] + specialists * self.each[unit]

    def dearer_from(self, other: Way, unit: str) -> str:
        """The number of specialists from which `other` costs less, as `break_even` says it."""
        return break_even(other.once[unit], other.each[unit], self.once[unit], self.each[unit])


@dataclass(frozen=True)
class Investment:
    """The ways that the records of a view know, the soup first, and what was left out."""

    folder: Path
    view: View
    ways: list[Way]
    generic: str | None  # the label of the generic run with as many training tokens as the soup
    merge_chosen: str  # how the merge was chosen among several, in words
    missing: list[str]  # what has no record, in words

    @property
    def soup(self) -> Way:
        """The soup that the others are compared with."""
        return self.ways[0]

    def loss(self, way: Way) -> float | None:
        """Mean test loss (nats/token) over the specialists within the corpus and seeds; None where one lacks it."""
        return self.view.mean_loss(way.label, budget=way.budget)

    def to_generic(self, way: Way) -> Difference | None:
        """The paired difference to the generic run without fine-tuning on the specialists within the corpus."""
        if self.generic is None or (way.label, way.budget) == (self.generic, 0):
            return None
        losses = self.view.averaged_losses(way.label, budget=way.budget)
        return paired_difference(losses, self.view.averaged_losses(self.generic))


def investment(folder: Path) -> Investment:
    """Of the settings in and below a results folder, the one with the most ways (of these, that with most records).
    Raises UserError if none has a soup with measured costs."""
    views = [(each, view) for each in results_folders(folder) for view in make_views(load_results(each))]
    known = [found for each, view in views if (found := _of_view(each, view))]
    if not known:
        raise UserError(f"{folder}: no record of a soup with its cost: run a sweep that has one, such as experts")
    return max(known, key=lambda one: (len(one.ways), len(one.view.records)))


def _of_view(folder: Path, view: View) -> Investment | None:
    """None without a soup."""
    soup = largest_soup(view)
    ways = _ways(view, [(soup, 0)]) if soup else []
    if not ways:
        return None
    generic = view.generic_for(soup)
    budgets = sorted(set(view.all[(view.all.label == generic) & (view.all.split == "test")].budget_tokens) - {0})
    merges = _merges(view)
    kinds = {
        "generic pretraining (method=generic) on as many tokens as the soup": [(generic, 0)] if generic else [],
        "generic pretraining and fine-tuning (+sweep=budgets)": [(generic, budget) for budget in budgets],
        "CRISP (method=crisp)": [(label, 0) for label in _labels(view, "crisp")],
        "merging (method=merge_linear, for one)": [(label, 0) for label in merges[:1]],
    }
    missing = []
    for kind, labels in kinds.items():
        ways += (own := _ways(view, labels))
        missing += [] if own else [kind]
    chosen = f"the best on validation text of {len(merges)} merges" if len(merges) > 1 else ""
    return Investment(folder, view, ways, generic, chosen, missing)


def _ways(view: View, labels: Sequence[tuple[str, int]]) -> list[Way]:
    """Those (label, budget) whose costs were measured."""
    found = []
    for label, budget in labels:
        spent = mean_spending(view, label, budget)
        if spent is not None:
            once, each = ({unit: float(spent[f"{unit}_{when}"]) for unit in UNITS} for when in ("once", "each"))
            found.append(Way(label, budget, once, each))
    return found


def _merges(view: View) -> list[str]:
    """The merges of experts, the one with the lowest mean validation loss first; one that lacks a specialist there
    comes last."""
    losses = {label: view.mean_loss(label, split="validation") for label in _labels(view, "merge_*")}
    return sorted(losses, key=lambda label: math.inf if losses[label] is None else losses[label])


def _labels(view: View, methods: str) -> list[str]:
    return [label for label in view.order if fnmatch(view.methods.method[label], methods)]
