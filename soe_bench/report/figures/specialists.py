"""Each specialist's difference to generic: a dumbbell from generic pretraining to the largest soup, the other methods
beside it; the specialists outside the corpus apart, so that they do not set the axis."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soe_bench.report.figures.pieces import lead, trained_on
from soe_bench.report.figures.selection import handful, left_out
from soe_bench.report.figures.style import FIXED, Chart, colours, legend, markers, shortened
from soe_bench.report.stats import mean, t_intervals
from soe_bench.report.tables.pieces import not_compared
from soe_bench.report.view import View


def specialists_chart(view: View) -> Chart | None:
    """None if no method can be paired with generic. Specialists are sorted by the last method (the largest soup). Of
    many methods a handful, each on the seeds that it shares with generic."""
    shown = handful(view, view.shown)
    differences = {label: difference for label in shown if (difference := view.to_generic(label))}
    if not differences:
        return None
    tables = {label: t_intervals(each.by_cell).assign(seeds=len(each.by_seed)) for label, each in differences.items()}
    last = list(tables.values())[-1]["mean"]  # NaN, so at the end, for a specialist that it lacks
    ordered = {label: table.assign(order=last).sort_values(["order", "specialist"]) for label, table in tables.items()}
    frame = pd.concat(ordered, names=["label", "specialist"]).drop(columns="order").reset_index()
    frame = frame.rename(columns={"mean": "difference"}).assign(outside=frame.specialist.isin(view.outside))
    bars = "a bar is its 95 % t-interval over seeds" if frame.low.notna().any() else "one seed has no interval"
    what = (
        "Test text, no fine-tuning. A mark is a method's loss minus that of generic pretraining, paired by specialist "
        f"and seed; {bars}. Generic pretraining is the ring at 0. A mark left of it is better "
        f"than generic pretraining. The thick pale line leads from 0 to {frame.label.iloc[-1]}."
    )
    setting = view.title + trained_on(view, differences)
    caption = "\n".join([what, *left_out(view.shown, shown), *not_compared(view, shown), setting])
    return Chart("specialists" + view.suffix, _finding(view, frame), caption, frame, lambda: _draw(view, frame))


def _finding(view: View, frame: pd.DataFrame) -> str:
    label = frame.label.iloc[-1]
    words, within = lead(view, label)
    where = " within the corpus" * (view.averaged != view.specialists)
    table = frame.pivot(index="specialist", columns="label", values="difference").loc[within.index]
    means = table.dropna(axis=1).apply(mean)
    best = means.idxmin()
    lowest = f"; that of {best} is the lowest here, {lead(view, best)[0]}" * (best != label)
    return (
        f"{label} is better than generic pretraining on {(within < 0).sum()} of {len(within)} specialists{where}, and "
        f"its mean loss is {words}{lowest} (nats/token)"
    )


def _draw(view: View, frame: pd.DataFrame) -> Figure:
    parts = [rows for _, rows in frame.groupby("outside")]
    sizes = [rows.specialist.nunique() for rows in parts]
    labels, palette = list(dict.fromkeys(frame.label)), colours(view)
    height = 0.2 + 0.05 * len(labels)
    figure = Figure(figsize=(8.6, 1.9 + height * sum(sizes) + 0.7 * len(parts)))
    grid = figure.subplots(len(parts), 1, height_ratios=[size + 1 for size in sizes], squeeze=False)[:, 0]
    for axes, rows in zip(grid, parts, strict=True):
        _panel(axes, rows, labels, palette)
    marks, names = grid[0].get_legend_handles_labels()
    seeds = {shortened(label): set(rows.seeds) for label, rows in frame.groupby("label")}
    legend(figure, dict(zip(names, marks, strict=True)), seeds)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, labels: list[str], palette: dict[str, object]) -> None:
    names = list(dict.fromkeys([*frame[frame.label == labels[-1]].specialist, *frame.specialist]))
    places = {name: place for place, name in enumerate(names)}
    for i in range(0, len(names), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f4f4f4", linewidth=0)
    offsets = np.linspace(-0.3, 0.3, len(labels)) if len(labels) > 1 else [0.0]
    last = frame[frame.label == labels[-1]]
    y = last.specialist.map(places) + offsets[-1]
    axes.hlines(y, 0, last.difference, color=palette[labels[-1]], linewidth=2.5, alpha=0.35)
    ring = dict(markersize=6, markerfacecolor="white", markeredgecolor=FIXED["generic"])
    axes.plot([0] * len(y), y, "o", label="generic", **ring)
    for offset, (label, marker) in zip(offsets, markers(labels).items(), strict=True):
        rows, colour = frame[frame.label == label], palette[label]
        y = rows.specialist.map(places) + offset
        axes.hlines(y, rows.low, rows.high, color=colour, linewidth=1.1, alpha=0.6)
        look = dict(linestyle="", marker=marker, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6)
        axes.plot(rows.difference, y, color=colour, label=shortened(label), **look)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(names)), map(shortened, names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    title = "Outside the corpus (axis of its own)" if frame.outside.any() else "Within the corpus"
    axes.set(xlabel="loss minus generic's (nats/token)", title=title)
