"""Each specialist's difference to generic: one row a specialist, one mark a method."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soe_bench.report.figures.selection import handful, left_out, not_compared
from soe_bench.report.stats import mean, t_interval
from soe_bench.report.style import Chart, colours, footer, markers, with_seeds
from soe_bench.report.view import View

MOST_IN_A_PANEL = 6


def specialists_chart(view: View) -> Chart | None:
    """None if no method can be paired with generic. Specialists are sorted by the last method (the largest soup). Of
    many methods a handful, on the seeds that all of them have."""
    shown = handful(view, view.shown)
    differences = {label: difference for label in shown if (difference := view.to_generic(label))}
    seeds = set.intersection(*(set(each.by_seed.index) for each in differences.values())) if differences else ()
    if not seeds:
        return None
    tables = {label: _table(each.by_cell[sorted(seeds)]) for label, each in differences.items()}
    order = next(reversed(tables.values())).sort_values(["difference", "specialist"]).specialist
    frame = pd.concat(
        [
            table.set_index("specialist")
            .reindex([*order, *sorted(set(table.specialist) - set(order))])
            .dropna(subset="difference")
            .reset_index()
            .assign(label=label)
            for label, table in tables.items()
        ],
        ignore_index=True,
    )
    frame = frame[["label", "specialist", "difference", "low", "high", "seeds"]]
    note = left_out(view.shown, shown) + not_compared(view, shown)
    return Chart("specialists" + view.suffix, frame, lambda: _draw(view, frame, note))


def _table(cells: pd.DataFrame) -> pd.DataFrame:
    """Of differences (specialists x seeds) the mean and t-interval over seeds (NaN for one seed) of each specialist."""
    intervals = [t_interval(row) for _, row in cells.iterrows()]
    return pd.DataFrame(
        {
            "specialist": cells.index,
            "difference": [mean(row) for _, row in cells.iterrows()],
            "low": [interval.low if interval else np.nan for interval in intervals],
            "high": [interval.high if interval else np.nan for interval in intervals],
            "seeds": len(cells.columns),
        }
    )


def _draw(view: View, frame: pd.DataFrame, note: str) -> Figure:
    names = list(dict.fromkeys(frame.specialist))
    panels = _panels(view, list(dict.fromkeys(frame.label)))
    rows = max(len(labels) for labels in panels.values())
    figure = Figure(figsize=(3.8 + 4.6 * len(panels), 1.8 + len(names) * (0.16 + 0.06 * rows)))
    palette = colours(view)
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (title, labels) in zip(axes, panels.items(), strict=True):
        for i in range(0, len(names), 2):
            panel.axhspan(i - 0.5, i + 0.5, color="#f4f4f4", linewidth=0)
        offsets = np.linspace(-0.3, 0.3, len(labels)) if len(labels) > 1 else [0.0]
        for offset, (label, marker) in zip(offsets, markers(labels).items(), strict=True):
            _marks(panel, frame[frame.label == label], names, offset, palette[label], marker)
        panel.axvline(0, color="black", linewidth=1)
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x")
        panel.set_xlabel("loss minus generic's (nats/token)")
        panel.set_title(title)
    figure.legend(loc="outside right upper")
    bars = "Bars: 95 % t-interval over seeds." if frame.low.notna().any() else "One seed: no interval over seeds."
    what = "Left of 0: better than generic. Test text, no fine-tuning, paired by specialist; the seeds that all have."
    footer(figure, f"{what} {bars}\n{note}{view.title}")
    return figure


def _panels(view: View, labels: list[str]) -> dict[str, list[str]]:
    """Title -> labels: one panel, or two if there are many labels and soups among them."""
    methods = view.records.drop_duplicates("label").set_index("label").method
    soups = [label for label in labels if methods[label] in ("soup", "dense_on_pi")]
    others = [label for label in labels if label not in soups]
    if len(labels) <= MOST_IN_A_PANEL or not soups or not others:
        return {"Each specialist against generic pretraining": labels}
    return {"Soups and their dense control": soups, "Other methods": others}


def _marks(axes: Axes, rows: pd.DataFrame, names: list[str], offset: float, colour: object, marker: str) -> None:
    y = [names.index(name) + offset for name in rows.specialist]
    label = with_seeds(rows.label.iloc[0], rows.seeds.iloc[0])
    axes.hlines(y, rows.low, rows.high, color=colour, linewidth=1.2, alpha=0.6)
    axes.plot(
        rows.difference,
        y,
        linestyle="",
        marker=marker,
        markersize=6,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=label,
    )
