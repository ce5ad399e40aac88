"""Each specialist's difference to generic: one row a specialist, one mark a method."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soe_bench.report.stats import t_interval
from soe_bench.report.style import Chart, colours, footer, markers, with_seeds
from soe_bench.report.view import View


def specialists_chart(view: View) -> Chart | None:
    """None if no method can be paired with generic. Specialists are sorted by the last method (the largest soup)."""
    tables = {label: _table(view, label) for label in view.shown if view.to_generic(label)}
    if not tables:
        return None
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
    return Chart("specialists" + view.suffix, frame, lambda: _draw(view, frame))


def _table(view: View, label: str) -> pd.DataFrame:
    """Mean over seeds and t-interval over seeds (NaN for one seed) for each specialist."""
    difference = view.to_generic(label)
    intervals = {name: t_interval(row) for name, row in difference.by_cell.iterrows()}
    return pd.DataFrame(
        {
            "specialist": difference.by_specialist.index,
            "difference": difference.by_specialist.to_numpy(),
            "low": [interval.low if interval else np.nan for interval in intervals.values()],
            "high": [interval.high if interval else np.nan for interval in intervals.values()],
            "seeds": len(difference.by_seed),
        }
    )


def _draw(view: View, frame: pd.DataFrame) -> Figure:
    names = list(dict.fromkeys(frame.specialist))
    labels = list(dict.fromkeys(frame.label))
    figure = Figure(figsize=(8.4, 1.6 + len(names) * (0.16 + 0.075 * len(labels))))
    axes = figure.subplots()
    for i in range(0, len(names), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f4f4f4", linewidth=0)
    offsets = np.linspace(-0.3, 0.3, len(labels)) if len(labels) > 1 else [0.0]
    for offset, label in zip(offsets, labels, strict=True):
        _marks(axes, frame[frame.label == label], names, offset, colours(view)[label], markers(view)[label])
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_xlabel("loss minus generic's (nats/token); left of 0: better than generic")
    axes.set_title("Each specialist against generic pretraining")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    bars = "Bars: 95 % t-interval over seeds." if frame.low.notna().any() else "One seed: no interval over seeds."
    footer(figure, f"Test text, no fine-tuning, paired by specialist and seed. {bars}\n{view.title}")
    return figure


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
