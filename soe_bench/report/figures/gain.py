"""Where the method helps: the soup's gain on each specialist against how far its domain weights h are from h_0."""

from statistics import correlation, linear_regression

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from soe_bench.report.figures.style import GREY, Chart, shortened, soup_colour
from soe_bench.report.stats import t_intervals
from soe_bench.report.tables.costs import largest_soup
from soe_bench.report.view import View

NAMED = 8  # specialists at most whose names are drawn


def gain_chart(view: View) -> Chart | None:
    """Of the soup with most experts; None without it, its generic run or the tables of its corpus."""
    label = largest_soup(view)
    difference = view.to_generic(label) if label else None
    if difference is None or view.corpus is None:
        return None
    own = view.corpus[view.corpus.split == "estimate"].set_index("specialist")
    frame = t_intervals(-difference.by_cell).rename(columns={"mean": "gain"})
    frame.insert(0, "kl", own.kl_from_h_0.reindex(frame.index))
    frame["outside"] = frame.index.isin(view.outside)
    frame = frame.rename_axis("specialist").dropna(subset="kl").reset_index()
    if frame.empty:
        return None
    fitted = frame[~frame.outside]
    line = linear_regression(fitted.kl, fitted.gain) if fitted.kl.nunique() > 2 else None
    caption = (
        f"The gain of {label} is the loss of generic pretraining minus that of the soup on the specialist's test "
        "text; a bar is a 95 % t-interval over seeds. The distance is the KL divergence of h from h_0, the domain "
        "weights of the whole corpus. The line is fitted by least squares to the specialists within the corpus; open "
        f"marks lie outside it. Some specialists with an unusual gain are named.\n{view.title}"
    )
    return Chart("gain" + view.suffix, _finding(fitted, line), caption, frame, lambda: _draw(view, label, frame, line))


def _finding(fitted: pd.DataFrame, line: object) -> str:
    if line is None or fitted.gain.nunique() == 1:
        return "Gain over generic pretraining against the distance of h from h_0"
    r, word = correlation(fitted.kl, fitted.gain), "grows" if line.slope > 0 else "falls"
    return (
        f"The gain {word} by {abs(line.slope):.3f} nats/token with each nat of distance between h and h_0 "
        f"({len(fitted)} specialists, correlation {r:.2f})"
    )


def _draw(view: View, label: str, frame: pd.DataFrame, line: object) -> Figure:
    figure = Figure(figsize=(8.4, 5.2))
    axes = figure.subplots()
    colour = soup_colour(view.records[view.records.label == label].n_experts.iloc[0])
    axes.vlines(frame.kl, frame.low, frame.high, color=colour, linewidth=1.1, alpha=0.5)
    for out, rows in frame.groupby("outside"):
        axes.plot(rows.kl, rows.gain, "o", markersize=7, markeredgecolor=colour, color="white" if out else colour)
    if line:
        ends = np.array([frame.kl.min(), frame.kl.max()])
        axes.plot(ends, line.intercept + line.slope * ends, color=colour, linestyle="--", linewidth=1.3)
    axes.axhline(0, color="black", linewidth=1)
    axes.margins(x=0.14, y=0.1)
    axes.grid(axis="y")
    axes.set_xlabel("KL divergence of h from h_0 (nats)")
    axes.set_ylabel("gain over generic pretraining (nats/token)")
    _name_farthest(figure, axes, frame)
    return figure


def _name_farthest(figure: Figure, axes: Axes, frame: pd.DataFrame) -> None:
    """Names the specialists farthest from the median gain, without those names that would lie on another one."""
    renderer, taken = FigureCanvasAgg(figure).get_renderer(), []
    for i in (frame.gain - frame.gain.median()).abs().nlargest(NAMED).index:
        look = dict(textcoords="offset points", fontsize=8, color=GREY, ha="center")
        name = axes.annotate(shortened(frame.specialist[i]), (frame.kl[i], frame.gain[i]), (0, 7), **look)
        box = name.get_window_extent(renderer)
        if any(box.overlaps(other) for other in taken):
            name.remove()
        else:
            taken.append(box)
