"""Loss against the tokens of fine-tuning, on one fixed set of specialists; and the difference to generic."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soe_bench.report.figures.selection import handful, left_out, not_compared
from soe_bench.report.stats import mean
from soe_bench.report.style import Chart, colours, footer, markers, with_seeds
from soe_bench.report.tables.budgets import Budgets, budget_name, fine_tuned
from soe_bench.report.view import View


def budgets_chart(view: View) -> Chart | None:
    """None if nothing was fine-tuned. Of many methods a handful."""
    budgets = fine_tuned(view)
    if budgets is None:
        return None
    labels = [label for label in view.shown if label in budgets.losses]
    shown = handful(view, labels)
    rows = [
        _point(budgets, label, budget)
        for label in shown
        for budget in budgets.budgets
        if budgets.means(label, budget) is not None
    ]
    frame = pd.DataFrame(rows)
    note = left_out(labels, shown) + not_compared(view, shown)
    return Chart("budgets" + view.suffix, frame, lambda: _draw(budgets, frame, note))


def _point(budgets: Budgets, label: str, budget: int) -> dict[str, object]:
    """Mean loss with the lowest and highest seed; difference to generic with its t-interval over seeds (NaN: none)."""
    means, difference = budgets.means(label, budget), budgets.to_generic(label, budget)
    interval = difference.over_seeds if difference else None
    return {
        "label": label,
        "budget_tokens": budget,
        "loss": mean(means),
        "lowest_seed": means.min(),
        "highest_seed": means.max(),
        "difference": difference.mean if difference else np.nan,
        "low": interval.low if interval else np.nan,
        "high": interval.high if interval else np.nan,
        "seeds": len(means),
    }


def _draw(budgets: Budgets, frame: pd.DataFrame, note: str) -> Figure:
    view = budgets.view
    compared = frame.difference.notna().any()  # with something beside generic
    figure = Figure(figsize=(11.5 if compared else 7.4, 5.0))
    left, *others = figure.subplots(1, 1 + compared, squeeze=False)[0]
    palette, marks = colours(view), markers(dict.fromkeys(frame.label))
    places = _places(budgets.budgets)
    drawn = frame[frame.difference.notna()].label.nunique()
    apart = 0.15 if drawn > 1 and frame.low.notna().any() else 0.0  # where intervals would lie on each other
    moves = iter(np.linspace(-apart, apart, drawn))
    for label, rows in frame.groupby("label", sort=False):
        x = np.array([places[budget] for budget in rows.budget_tokens])
        look = dict(color=palette[label], marker=marks[label], markersize=6, markeredgecolor="white", linewidth=1.5)
        left.fill_between(x, rows.lowest_seed, rows.highest_seed, color=palette[label], alpha=0.12, linewidth=0)
        left.plot(x, rows.loss, label=with_seeds(label, rows.seeds.min()), **look)
        for right in others if rows.difference.notna().any() else ():
            moved = x + next(moves)
            right.vlines(moved, rows.low, rows.high, color=palette[label], linewidth=1.2, alpha=0.6)
            right.plot(moved, rows.difference, **look)
    for axes in (left, *others):
        _axis(axes, places)
    left.set_ylabel("loss (nats/token)")
    left.set_title("Loss after fine-tuning")
    for right in others:
        right.axhline(0, color="black", linewidth=1)
        right.set_ylabel("loss minus generic's, same tokens (nats/token)")
        right.set_title("Against generic, fine-tuned too")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    n = f"the {len(budgets.specialists)} of {len(view.specialists)} specialists that have every budget"
    bars = "Left: bands from the lowest to the highest seed; right: 95 % t-intervals over seeds, points moved aside."
    if frame.low.isna().all():
        bars = "No interval over seeds."
    footer(
        figure,
        f"Test text, mean over {n} (one set throughout).\n"
        f"0 tokens stands aside, left of the logarithmic axis. {bars}\n{note}{view.title}",
    )
    return figure


def _places(budgets: list[int]) -> dict[int, float]:
    """Where a budget stands on the axis: log10 of it, and 0 a decade left of the smallest."""
    return {budget: math.log10(budget or min(budgets[1:]) / 10) for budget in budgets}


def _axis(axes: Axes, places: dict[int, float]) -> None:
    axes.set_xticks(list(places.values()), [budget_name(budget) for budget in places])
    axes.axvline(list(places.values())[0] + 0.5, color="#d9d9d9", linestyle=":", linewidth=1.2)
    axes.grid(axis="y")
    axes.set_xlabel("tokens of the specialist's own text (log scale, 0 aside)")
