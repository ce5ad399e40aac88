"""Loss against the tokens of fine-tuning, on one fixed set of specialists; and the difference to generic."""

from itertools import product

import pandas as pd

from soe_bench.report.figures.pieces import Lines, looks, points, said, seeds_note, trained_on
from soe_bench.report.figures.selection import handful, left_out
from soe_bench.report.figures.style import Chart, colours
from soe_bench.report.stats import mean, paired_difference
from soe_bench.report.tables.budgets import budget_name, fine_tuned
from soe_bench.report.tables.pieces import not_compared
from soe_bench.report.view import View


def budgets_chart(view: View) -> Chart | None:
    """None if nothing was fine-tuned. Of many methods a handful."""
    found = fine_tuned(view)
    if found is None:
        return None
    labels = [label for label in view.shown if (0, label) in found.losses]
    shown = handful(view, labels)
    rows = []
    for label, budget in product(shown, found.budgets):
        x = budget or found.budgets[1] / 10  # 0 stands a decade left of the smallest budget
        losses, generic = found.losses[budget, label], found.generic(budget, label)
        difference = None if generic is None else paired_difference(losses, generic)
        panels = {"loss": view.seed_means(losses, found.specialists), "difference": difference and difference.by_seed}
        rows += points(panels, label, x, label=label, budget_tokens=budget)
    if not rows:
        return None
    frame = pd.DataFrame(rows).sort_values("panel", ascending=False, kind="stable", ignore_index=True)
    what = (
        f"The loss is on test text, a mean over the {len(found.specialists)} of {len(view.averaged)} specialists "
        f"within the corpus that have every budget.{seeds_note(frame)}"
        + " Below 0 the method is better than generic pretraining that was fine-tuned on as many tokens."
        * ("difference" in set(frame.panel))
    )
    caption = "\n".join(
        [what, *left_out(labels, shown), *not_compared(view, shown), view.title + trained_on(view, shown)]
    )
    lines = Lines(
        looks(frame, colours(view)),
        "tokens of the specialist's own text (log scale; 0 stands apart)",
        {"loss": "Loss after fine-tuning", "difference": "Against generic, fine-tuned too"},
        dict(zip(frame.x, map(budget_name, frame.budget_tokens), strict=True)).__getitem__,
    )
    return Chart("budgets" + view.suffix, _finding(frame), caption, frame, lambda: lines.draw(frame))


def _finding(frame: pd.DataFrame) -> str:
    """How the lead over generic pretraining changes, of the last method that has the largest budget; the loss of that
    method, where nothing is compared."""
    rows = frame[frame.panel == frame.panel.iloc[-1]]
    label = rows.label[rows.budget_tokens == rows.budget_tokens.max()].iloc[-1]
    values = dict(list(rows[rows.label == label].groupby("budget_tokens").value))
    first, last = values[min(values)], values[max(values)]
    tokens = budget_name(max(values))
    if rows.panel.iloc[0] != "difference":
        before, after = mean(first), mean(last)
        change = f"{'lowers' if after < before else 'raises'} the loss from {before:.2f} to {after:.2f}"
        return f"Fine-tuning on {tokens} tokens {change} ({label}; nats/token)"
    return (
        f"The loss of {label}, compared with generic pretraining, is {said(first)} before fine-tuning, and "
        f"{said(last)} after both are fine-tuned on {tokens} tokens (nats/token)"
    )
