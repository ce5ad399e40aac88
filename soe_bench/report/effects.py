"""What the claims measure: functions of the records that conf/claims.yaml names.

Each takes the soups of a view and its arguments in claims.yaml, and gives one value a (specialist, seed), in
nats/token, with the labels of the runs it rests on. It raises NotRun where the records lack something.
"""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from soe_bench.report.stats import mean
from soe_bench.report.view import View

FAMILY = ["training_tokens", "pi", "draws_per_step"]
Effect = tuple[pd.Series, list[str]]


class NotRun(Exception):
    """What the records lack."""


class Soups:
    """The soups of a view that are compared: one training budget, one pi, one number of draws a step; where a view has
    several such families, the one with most runs. `dense_on_pi` is the soup with n = 0."""

    def __init__(self, view: View) -> None:
        self.view = view
        runs = view.records.drop_duplicates("run_id")
        soups = runs[runs.method.isin(["soup", "dense_on_pi"])]
        families = soups.groupby(FAMILY, dropna=False).ngroup()
        most = families[soups.n_experts > 0].mode()
        self.runs = soups[families == most[0]] if len(most) else soups[:0]

    @property
    def counts(self) -> list[int]:
        """The numbers of experts that have a record, without 0, largest first."""
        return sorted(set(self.runs.n_experts) - {0}, reverse=True)

    @property
    def family(self) -> str:
        """What the soups have in common, in words."""
        if not len(self.runs):
            return "none"
        first = self.runs.iloc[0]
        return f"{first.training_tokens / 1e6:g}M training tokens, pi: {first.pi}, {first.draws_per_step} draws a step"

    def label(self, n: int | None) -> str:
        """The soup with n experts; among several recipes the one with most seeds. None: there is no soup at all."""
        seeds = self.runs[self.runs.n_experts == n].label.value_counts()
        if not len(seeds):
            raise NotRun("no record of " + ("a soup" if n is None else f"a soup with n = {n}"))
        most = sorted(seeds[seeds == seeds.max()].index)
        if len(most) > 1:
            raise NotRun(f"records of several recipes with n = {n}, none with most seeds: {'; '.join(most)}")
        return most[0]


def against_generic(soups: Soups, experts: int, text: str) -> Effect:
    """Soup minus the generic run with as many training tokens, on the text of the `specialists` (h: estimate) or the
    `generic` one (h: h_0)."""
    view, label = soups.view, soups.label(experts)
    generic = view.generic_for(label)
    if generic is None or view.training_tokens(generic) != view.training_tokens(label):
        raise NotRun("no record of one generic run with as many training tokens")
    losses = {"specialists": view.losses, "generic": view.generic_text_losses}[text]
    return losses(label) - losses(generic), [label, generic]


def between_experts(soups: Soups, experts: int, reference: int) -> Effect:
    """Soup with `experts` experts minus soup with `reference` experts (0: dense_on_pi), on the specialists."""
    label, other = soups.label(experts), soups.label(reference)
    return soups.view.losses(label) - soups.view.losses(other), [label, other]


def slope(soups: Soups, experts: Sequence[int]) -> Effect:
    """Least-squares slope of the loss on log2 of the number of experts, on the specialists: nats/token a doubling."""
    labels = [soups.label(n) for n in experts]
    x = pd.Series(experts, dtype=float).map(math.log2)
    x -= mean(x)
    weights = x / (x**2).sum()
    return sum(w * soups.view.losses(label) for w, label in zip(weights, labels, strict=True)), labels


def control(soups: Soups, experts: int, h: str) -> Effect:
    """The soup under a control minus the same soup at the estimated h, on the specialists."""
    label = soups.label(experts)
    return soups.view.losses(label, h) - soups.view.losses(label, "estimate"), [label]


EFFECTS: dict[str, Callable[..., Effect]] = {
    function.__name__: function for function in (against_generic, between_experts, slope, control)
}
