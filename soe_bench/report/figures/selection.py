"""Which methods a figure shows where all of them would be too many to tell apart."""

from contextlib import suppress

from soe_bench.report.effects import NotRun, Soups
from soe_bench.report.figures.style import family
from soe_bench.report.tables import pieces as tables
from soe_bench.report.view import View

MOST = 10  # methods that one figure can show


def handful(view: View, labels: list[str]) -> list[str]:
    """Those of the labels to show, in their order: all, if they are at most MOST. Otherwise at most MOST: the soups
    that the claims compare, dense_on_pi and the generic run to compare them with (without soups, all generic runs);
    then of each family of other methods the one with the lowest mean loss on the specialists' validation text, the
    lowest first. Those with as many training tokens as most runs come before all others."""
    if len(labels) <= MOST:
        return labels
    methods = view.methods.method
    soups = _soups(view)
    chosen = {view.generic_for(label) for label in soups} - {None} or set(methods.index[methods == "generic"])
    chosen = (chosen | soups) & set(labels)
    usual = view.runs.training_tokens.mode()[0]
    others = sorted(
        (label for label in labels if methods[label] not in ("generic", "soup", "dense_on_pi")),
        key=lambda label: (view.training_tokens(label) != usual, _validation(view, label)),
    )
    first = {family(methods[label]): label for label in reversed(others)}.values()  # of each family
    chosen |= set([label for label in others if label in first][: max(0, MOST - len(chosen))])
    return [label for label in labels if label in chosen]


def left_out(labels: list[str], shown: list[str]) -> str:
    """What a figure leaves out of the labels, as a line for the footer; empty if nothing."""
    gone = len(labels) - len(shown)
    if not gone:
        return ""
    return (
        "Beside generic pretraining, the soups and dense_on_pi only the methods that are best on validation text are "
        f"shown, one of each family; the tables have {gone} more.\n"
    )


def not_compared(view: View, shown: list[str]) -> str:
    """The note of the tables on methods without a generic run, as a line for the footer; empty if there is none."""
    return "".join(f"{note}\n" for note in tables.not_compared(view, shown))


def _soups(view: View) -> set[str]:
    """The soup with each number of experts that the claims compare, and dense_on_pi."""
    soups, labels = Soups(view), set()
    for n in (0, *soups.counts):
        with suppress(NotRun):
            labels.add(soups.label(n))
    return labels


def _validation(view: View, label: str) -> float:
    loss = view.mean_loss(label, split="validation")
    return float("inf") if loss is None else loss
