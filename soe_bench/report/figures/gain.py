"""Where the method helps: the soup's gain on each specialist against how far its domain weights h are from h_0."""

from statistics import linear_regression

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from scipy.stats import spearmanr

from soe_bench.report.figures.pieces import Spot, trained_on, write_names
from soe_bench.report.figures.style import GREY, Chart, colours, shortened
from soe_bench.report.stats import t_intervals
from soe_bench.report.tables.costs import largest_soup
from soe_bench.report.view import View

CHANCE = 0.05  # the p-value of a rank correlation above which no relation is seen
FEWEST = 6  # specialists for a rank correlation
BESIDE = ((0, 8), (0, -8), (8, 0), (-8, 0), (6, 4), (-6, 4))  # points from a mark to its name, in the order of trial


def gain_chart(view: View) -> Chart | None:
    """Of the soup with most experts; None without it, its generic run or the tables of its corpus."""
    label = largest_soup(view)
    difference = view.to_generic(label) if label else None
    if difference is None:
        return None
    own = view.corpus[view.corpus.split == "estimate"].set_index("specialist")
    frame = t_intervals(-difference.by_cell).rename(columns={"mean": "gain"})
    frame.insert(0, "kl", own.kl_from_h_0.reindex(frame.index))
    frame["outside"] = frame.index.isin(view.outside)
    frame = frame.rename_axis("specialist").dropna(subset="kl").reset_index()
    if frame.empty:
        return None
    fitted = frame[~frame.outside]
    line = linear_regression(fitted.kl, fitted.gain) if len(fitted) >= FEWEST and fitted.kl.nunique() > 2 else None
    of_whom = (
        " The rank correlation (Spearman's) and the line, by least squares, are of the specialists within the corpus. "
        f"It counts as no relation if its p-value is above {CHANCE:g}."
    )
    edge = (
        " Open marks lie outside the corpus and do not set the axes: an interval may be cut at the edge, and a mark on "
        "the edge lies beyond it."
    )
    caption = (
        f"The gain of {label} is the loss of generic pretraining minus that of the soup on the specialist's test text."
        + " A bar is a 95 % t-interval over seeds." * bool(frame.low.notna().any())
        + " The distance is the KL divergence of h from h_0, the domain weights of the whole corpus."
        f"{of_whom * (line is not None)}{_without_one(fitted)}{edge * bool(frame.outside.any())} Names are "
        f"left out where there is no room.\n{view.title}{trained_on(view, [label])}"
    )
    finding = _finding(fitted, len(difference.by_seed))
    return Chart("gain" + view.suffix, finding, caption, frame, lambda: _draw(view, label, frame, line))


def _finding(fitted: pd.DataFrame, seeds: int) -> str:
    what, n = "Gain over generic pretraining against the distance of h from h_0", len(fitted)
    if n < FEWEST:
        return f"{what}: {n} specialist{'s' * (n != 1)} within the corpus, too few for a rank correlation"
    if min(fitted.kl.nunique(), fitted.gain.nunique()) == 1:
        return what
    rank = spearmanr(fitted.kl, fitted.gain)
    relation = "shows no relation to" if rank.pvalue > CHANCE else "grows with" if rank.statistic > 0 else "falls with"
    return (
        f"The soup's gain over generic pretraining {relation} the distance of h from h_0 (rank correlation "
        f"{rank.statistic:.2f}; {n} specialists, {seeds} seed{'s' * (seeds > 1)})"
    )


def _without_one(fitted: pd.DataFrame) -> str:
    """How much of the rank correlation rests on one specialist, as a sentence of the caption."""
    if len(fitted) <= FEWEST or min(fitted.kl.nunique(), fitted.gain.nunique()) <= 2:
        return ""
    own = fitted.set_index("specialist")
    left = {name: own.drop(name).kl.corr(own.drop(name).gain, "spearman") for name in own.index}
    lowest, highest = min(left, key=left.__getitem__), max(left, key=left.__getitem__)
    at = {name: f"{shortened(name)} (divergence {own.kl[name]:.2f})" for name in (lowest, highest)}
    return (
        f" Without {at[lowest]} the correlation is {left[lowest]:.2f}, without {at[highest]} it is {left[highest]:.2f}."
    )


def _draw(view: View, label: str, frame: pd.DataFrame, line: object) -> Figure:
    figure = Figure(figsize=(8.4, 5.2))
    axes = figure.subplots()
    colour = colours(view)[label]
    setting = frame if frame.outside.all() else frame[~frame.outside]
    x_limits = _around(setting.kl, 0.14)
    y_limits = _around(pd.concat([setting.gain, setting.low, setting.high, pd.Series([0.0])]), 0.15)
    axes.set(xlim=x_limits, ylim=y_limits)
    axes.vlines(frame.kl, frame.low, frame.high, color=colour, linewidth=1.1, alpha=0.5)
    places = pd.DataFrame({"x": frame.kl.clip(*x_limits), "y": frame.gain.clip(*y_limits)})
    for out, rows in places.groupby(frame.outside):
        face = "white" if out else colour
        axes.plot(rows.x, rows.y, "o", markersize=7, markeredgecolor=colour, color=face, clip_on=False, zorder=3)
    if line:
        ends = np.array([setting.kl.min(), setting.kl.max()])
        axes.plot(ends, line.intercept + line.slope * ends, color=colour, linestyle="--", linewidth=1.3)
    axes.axhline(0, color="black", linewidth=1)
    axes.grid(axis="y")
    axes.set(xlabel="KL divergence of h from h_0 (nats)", ylabel="gain over generic pretraining (nats/token)")
    farthest = (frame.gain - (line.intercept + line.slope * frame.kl if line else frame.gain.median())).abs()
    order = farthest.sort_values(ascending=False, kind="stable").index
    _name(figure, axes, places, [(tuple(places.loc[i]), shortened(frame.specialist[i])) for i in order])
    return figure


def _around(values: pd.Series, margin: float) -> tuple[float, float]:
    """The limits of an axis around values, with a margin on both sides as a fraction of their span."""
    low, high = values.min(), values.max()
    space = margin * (high - low) or 0.5
    return low - space, high + space


def _name(figure: Figure, axes: Axes, places: pd.DataFrame, names: list[tuple[Spot, str]]) -> None:
    """Writes each name beside its mark where no mark, line, axis or other name lies, if there is room."""
    figure.suptitle("\n ", fontsize=12)  # as high as what render() puts in their place, which moves the marks
    figure.supxlabel("\n" * 6, fontsize=8)
    figure.draw_without_rendering()
    edge = axes.get_window_extent()
    beyond = (0, 0, edge.x0, edge.y1), (0, 0, edge.x1, edge.y0 + 1), (edge.x1, 0, figure.bbox.x1, edge.y1)
    taken = [Bbox.from_extents(*box) for box in beyond]  # the numbers of the axes, and what is right of them
    taken += [Bbox.from_bounds(x - 5, y - 8, 10, 16) for x, y in axes.transData.transform(places)]
    lines = [line.get_path().transformed(line.get_transform()) for line in axes.lines if line.get_linestyle() != "None"]
    bars = [bar.transformed(axes.transData) for bars in axes.collections for bar in bars.get_paths()]
    write_names(axes, names, BESIDE, taken, [*lines, *bars], room=3, fontsize=8, color=GREY)
