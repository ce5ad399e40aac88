"""Loss against the tokens of fine-tuning, on one fixed set of specialists; and the difference to generic."""

import pandas as pd

from soe_bench.report.figures.pieces import Lines, Look, points
from soe_bench.report.figures.selection import handful, left_out, not_compared
from soe_bench.report.figures.style import Chart, colours, markers
from soe_bench.report.format import in_words
from soe_bench.report.stats import mean
from soe_bench.report.tables.budgets import Budgets, budget_name, fine_tuned
from soe_bench.report.view import View


def budgets_chart(view: View) -> Chart | None:
    """None if nothing was fine-tuned. Of many methods a handful."""
    budgets = fine_tuned(view)
    if budgets is None:
        return None
    labels = [label for label in view.shown if label in budgets.losses]
    shown = handful(view, labels)
    frame = pd.DataFrame(
        [row for label in shown for budget in budgets.budgets for row in _rows(budgets, label, budget)]
    )
    if frame.empty:
        return None
    frame = frame.sort_values("panel", ascending=False, kind="stable", ignore_index=True)
    caption = (
        f"Test text, mean over the {len(budgets.specialists)} of {len(view.specialists)} specialists that have every "
        "budget. A dash per seed; bars are 95 % t-intervals over seeds, below 0 the method is better than generic "
        f"pretraining fine-tuned on as many tokens.\n{left_out(labels, shown)}{not_compared(view, shown)}{view.title}"
    )
    return Chart("budgets" + view.suffix, _finding(frame), caption, frame, lambda: _draw(view, frame))


def _rows(budgets: Budgets, label: str, budget: int) -> list[dict]:
    """The losses and differences of one method at one budget; 0 stands a decade left of the smallest budget."""
    means, difference = budgets.means(label, budget), budgets.to_generic(label, budget)
    x, facts = budget or budgets.budgets[1] / 10, {"label": label, "budget_tokens": budget}
    rows = [] if means is None else points("loss", label, x, means, **facts)
    return rows + (points("difference", label, x, difference.by_seed, **facts) if difference else [])


def _finding(frame: pd.DataFrame) -> str:
    """How the lead of the last method over generic pretraining changes."""
    rows = frame[frame.panel == "difference"]
    if rows.empty:
        return "Loss after fine-tuning on the specialist's own text"
    label = rows.label.iloc[-1]
    gains = rows[rows.label == label].groupby("budget_tokens").value.agg(mean)
    ends = [f"{in_words(gains[b])} after {budget_name(b)} tokens" for b in (gains.index[0], gains.index[-1])]
    return f"{label} against generic pretraining: {', '.join(ends)} of fine-tuning (nats/token)"


def _draw(view: View, frame: pd.DataFrame) -> object:
    palette, marks = colours(view), markers(dict.fromkeys(frame.label))
    names = dict(zip(frame.x, map(budget_name, frame.budget_tokens), strict=True))
    return Lines(
        {label: Look(palette[label], mark) for label, mark in marks.items()},
        {"loss": "Loss after fine-tuning", "difference": "Against generic, fine-tuned too"},
        {"loss": "loss (nats/token)", "difference": "loss minus generic's (nats/token)"},
        "tokens of the specialist's own text (log scale, 0 aside)",
        names=names.__getitem__,
        differences=("difference",),
    ).draw(frame)
