"""What figures are made of: values against a number with a line per method, and heat maps."""

import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from soe_bench.report.figures.style import STYLES, legend, line_styles, markers, shortened
from soe_bench.report.format import in_words
from soe_bench.report.stats import Interval, mean, paired_difference, side, t_interval
from soe_bench.report.view import VARIANTS, View

MOST_TICKS = 80
TITLE_WIDTH = 44  # characters of a panel's title
ASIDE = 1.06  # how far the intervals of two lines stand from each other
WIDEST = 0.3  # of the distance of two ticks: how far those of all lines may stand apart
TITLES = {  # of the panels of what `View.by_seed` gives
    "specialists": "Test text of the specialists",
    "generic": "Generic test text, with h = h_0",
    "difference": "Against generic: below 0 is better",
}
Spot = tuple[float, float]
Look = dict[str, object]  # color, marker and linestyle of a line, as matplotlib takes them


@dataclass(frozen=True)
class Lines:
    """Panels of values against a number, from a frame with the columns panel, line, x, seed, value.

    A mark is a mean over seeds. A line whose x is empty is a level: it goes across. `titles` go by panel, whose name
    stands where it has none. Panels fill the `rows` of the figure, and those in `differences` come last: they have a
    line at 0, and 95 % t-intervals over seeds; the others a dash per seed. `names` are the texts of the ticks; without
    it x is continuous.
    """

    looks: Mapping[str, Look]
    x_label: str
    titles: Mapping[str, str] = field(default_factory=dict)
    names: Callable[[float], str] | None = None
    differences: Collection[str] = ("difference",)
    difference_label: str = "loss minus generic's (nats/token)"
    rows: int = 1

    def draw(self, frame: pd.DataFrame) -> Figure:
        """The figure; only the panels that the frame has."""
        panels = sorted(dict.fromkeys(frame.panel), key=lambda panel: panel in self.differences)
        columns = -(-len(panels) // self.rows)
        figure = Figure(figsize=(3.2 + 4.2 * columns, 1.5 + 3.0 * self.rows + 0.5 * (self.rows == 1)))
        grid = figure.subplots(self.rows, columns, squeeze=False)
        frame = frame.dropna(subset="value")
        handles = {}
        for axes, name in zip(grid.flat, panels, strict=False):
            handles |= self._panel(axes, name, frame[frame.panel == name])
        seeds = frame.groupby(["line", "panel", "x"], dropna=False).size()
        legend(figure, handles, {line: seeds[line].tolist() for line in handles})
        return figure

    def _panel(self, axes: Axes, name: str, frame: pd.DataFrame) -> dict:
        """Draws one, and gives what each line of it looks like in the legend."""
        lines = list(dict.fromkeys(frame.line[frame.x.notna()]))
        aside = dict(zip(lines, _aside(len(lines), sorted(set(frame.x.dropna()))), strict=True))
        handles = {}
        for line, rows in frame.groupby("line", sort=False):
            if name in self.differences and line in aside:
                rows = rows.assign(x=rows.x * aside[line])
            draw = self._line if line in aside else self._level
            handles[line] = draw(axes, rows, self.looks[line], name)
        if name in self.differences:
            axes.axhline(0, color="black", linewidth=1)
        self._axis(axes, sorted(set(frame.x.dropna())))
        axes.set_ylabel(self.difference_label if name in self.differences else "loss (nats/token)")
        axes.set_title(textwrap.fill(self.titles.get(name, name), TITLE_WIDTH))
        return handles

    def _line(self, axes: Axes, rows: pd.DataFrame, look: Look, panel: str) -> object:
        groups = [(x, values.value.to_numpy()) for x, values in rows.groupby("x")]
        for x, values in groups:
            if panel in self.differences and (interval := t_interval(values)).n > 1:
                axes.vlines(x, interval.low, interval.high, color=look["color"], linewidth=1.2, alpha=0.6)
            elif len(values) > 1:
                axes.plot([x] * len(values), values, "_", color=look["color"], markersize=10)
        x, means = [x for x, _ in groups], [mean(values) for _, values in groups]
        return axes.plot(x, means, **look, linewidth=1.7, markersize=7, markeredgecolor="white")[0]

    def _level(self, axes: Axes, rows: pd.DataFrame, look: Look, panel: str) -> object:
        axes.axhspan(rows.value.min(), rows.value.max(), color=look["color"], alpha=0.1, linewidth=0)
        return axes.axhline(mean(rows.value), **look, linewidth=1.5)

    def _axis(self, axes: Axes, places: list[float]) -> None:
        axes.set_xscale("log")
        wide = places[-1] >= 100 * places[0]
        log_axis(axes.xaxis, lambda x, _: f"{x:.3g}".replace("e+", "e"), (1,) if wide else (1, 2, 5))
        if self.names is not None:
            axes.set_xticks(places, [self.names(x) for x in places])
        axes.margins(x=0.08, y=0.12)
        axes.grid(axis="y")
        axes.set_xlabel(self.x_label)


def _aside(n_lines: int, places: list[float]) -> list[float]:
    """What the x of each line is multiplied by, so that the marks at a tick stand side by side around it."""
    nearest = min((high / low for low, high in zip(places, places[1:], strict=False)), default=np.inf)
    step = min(ASIDE, nearest ** (WIDEST / max(n_lines - 1, 1)))
    return [step ** (place - (n_lines - 1) / 2) for place in range(n_lines)]


def log_axis(axis: Axis, form: str | Callable[[float, int], str], subs: tuple[int, ...] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis at these multiples of the powers of ten, and none between."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(form)
    axis.set_minor_locator(NullLocator())


def looks(frame: pd.DataFrame, palette: Mapping[str, object]) -> dict[str, Look]:
    """The looks of the lines of a frame of Lines with the column `label`: the colour of its last label, a marker in
    their order, and another style for each line of one colour. A level has no marker, and is never a full line."""
    colours = {line: palette[rows.label.iloc[-1]] for line, rows in frame.groupby("line", sort=False)}
    levels = [line for line in colours if frame.x[frame.line == line].isna().all()]
    lines = [line for line in colours if line not in levels]
    styles, marks = line_styles(lines, colours), markers(lines)
    styles |= {line: STYLES[1 + i % (len(STYLES) - 1)] for i, line in enumerate(levels)}
    return {
        line: {"color": colour, "marker": marks.get(line, ""), "linestyle": styles[line]}
        for line, colour in colours.items()
    }


def heat_map(axes: Axes, table: pd.DataFrame, bar: dict[str, object], **options: object) -> None:
    """A cell per row and column of the table, with thin white lines between them and the rows' names; at most
    MOST_TICKS columns have theirs. `bar` says what the bar of colours is like, `options` what the image is."""
    n_rows, n_columns = table.shape
    image = axes.imshow(table, aspect="auto", interpolation="nearest", **options)
    axes.figure.colorbar(image, ax=axes, **bar).outline.set_visible(False)
    axes.set_yticks(range(n_rows), map(shortened, table.index))
    if n_columns <= MOST_TICKS:
        axes.set_xticks(range(n_columns), table.columns, fontsize=9 if n_columns <= 32 else 6.5)
    axes.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.7)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def write_names(
    axes: Axes,
    names: Iterable[tuple[Spot, str]],
    offsets: Iterable[Spot],
    taken: list[Bbox],
    lines: Collection[Path] = (),
    room: int = 0,
    **look: object,
) -> None:
    """Writes each name at the first of these offsets (in points) from its place where it, with so much room around it,
    lies on no line and no box that is taken (all in pixels), and takes that box; leaves out one that has none."""
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    for place, text in names:
        for right, up in offsets:  # the name ends where it comes nearest to its place
            sides = dict(ha=("center", "left", "right")[np.sign(right)], va=("center", "bottom", "top")[np.sign(up)])
            name = axes.annotate(text, place, (right, up), textcoords="offset points", **sides, **look)
            box = name.get_window_extent(renderer).padded(room)
            if not box.count_overlaps(taken) and not any(line.intersects_bbox(box) for line in lines):
                taken.append(box)
                break
            name.remove()


def seeds_note(frame: pd.DataFrame, differences: Collection[str] = ("difference",)) -> str:
    """What Lines draw of a frame where there are several seeds, as sentences at the end of a caption."""
    seeds = frame.dropna(subset="value").groupby(["panel", "line", "x"], dropna=False).size()
    several = seeds[seeds > 1].reset_index()
    level, difference = several.x.isna(), several.panel.isin(differences)
    return (
        " A dash is one seed." * bool((~level & ~difference).any())
        + " A bar is a 95 % t-interval over seeds." * bool((~level & difference).any())
        + " A band goes from the lowest seed to the highest." * bool(level.any())
    )


def said(by_seed: pd.Series, other: str = "", intervals: Collection[Interval] = ()) -> str:
    """The mean of a difference in words, as a title has it: with how many seeds it is not separated from 0, by the
    interval over them, or by one of these others; and whether there is one seed only."""
    n, separated = len(by_seed), side([t_interval(by_seed), *intervals]) != "neither"
    doubt = " with one seed" if n == 1 else f", not separated with {n} seeds" * (not separated)
    return in_words(mean(by_seed), other) + doubt


def lead(view: View, label: str) -> tuple[str, pd.Series]:
    """What a title says of a label's difference to its generic run, by its verdict, and that of each specialist that
    means are over."""
    runs = (view.losses(each, specialists=view.averaged) for each in (label, view.generic_for(label)))
    difference = paired_difference(*runs)
    return said(difference.by_seed, intervals=difference.intervals.values()), difference.by_specialist


def trained_on(view: View, labels: Iterable[str]) -> str:
    """The training tokens of those of the labels that do not name them, as the end of a line that says what a figure
    is of."""
    tokens = view.methods.training_tokens[[*labels]].sort_values().map(VARIANTS["training_tokens"])
    unnamed = dict.fromkeys(text for label, text in tokens.items() if f", {text}" not in label)
    return f", trained on {' or '.join(unnamed)}" * bool(unnamed)


def points(panels: Mapping[str, pd.Series | None], line: str, x: float | None, **facts: object) -> list[dict]:
    """The rows of a frame of Lines at one x of a line: panel -> its values, indexed by seed; None has none."""
    return [
        {"panel": panel, "line": line, "x": x, **facts, "seed": seed, "value": value}
        for panel, values in panels.items()
        if values is not None
        for seed, value in values.items()
    ]
