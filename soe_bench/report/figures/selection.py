"""Which methods a figure shows where all of them would be too many to tell apart."""

import pandas as pd

from soe_bench.report.effects import Soups
from soe_bench.report.figures.style import family
from soe_bench.report.stats import mean
from soe_bench.report.view import View

MOST = 10  # methods that one figure can show


def handful(view: View, labels: list[str]) -> list[str]:
    """Those of the labels to show, in their order: all, if they are at most MOST. Otherwise the soups that the claims
    compare, dense_on_pi and the generic runs to compare them with (without such, all generic runs); and up to MOST, of
    each family of other methods that had as many training tokens as most runs, the one with the lowest mean loss on the
    specialists' validation text, the lowest first."""
    if len(labels) <= MOST:
        return labels
    methods, usual = view.methods.method, view.runs.training_tokens.mode()[0]
    soups = set(Soups(view).labels.values())
    chosen = {view.generic_for(label) for label in soups} - {None} or set(methods.index[methods == "generic"])
    chosen = (chosen | soups) & set(labels)
    others = pd.Series(
        {
            label: mean(view.seed_means(view.losses(label, split="validation")))
            for label in labels
            if methods[label] not in ("generic", "soup", "dense_on_pi") and view.methods.training_tokens[label] == usual
        },
        dtype=float,
    )
    ranked = others.sort_values(kind="stable").index
    best = ranked[~ranked.map(lambda label: family(methods[label])).duplicated()]
    chosen |= set(best[: max(0, MOST - len(chosen))])
    return [label for label in labels if label in chosen]


def left_out(labels: list[str], shown: list[str]) -> list[str]:
    """What a figure leaves out of the labels, as a line of its caption; none if nothing."""
    note = (
        f"Here are {len(shown)} of the {len(labels)} methods that this figure could show: the soups that the claims "
        "compare, their generic runs, dense_on_pi, and as many others as there is room for. Of each kind of the others "
        "(all merges are one) only the method with the lowest loss on validation text is chosen, and of the kinds "
        "those with the lowest. Others have as many training tokens as most runs. The table main has all methods."
    )
    return [note] if len(shown) < len(labels) else []
