"""Training curves: validation loss on the specialists, and training loss, against tokens."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from soe_bench.report.figures.selection import handful, left_out
from soe_bench.report.stats import mean
from soe_bench.report.style import Chart, colours, footer, line_styles, with_seeds
from soe_bench.report.view import View

SMOOTHING = 0.05  # of the logged points: the window of the running mean of the training loss


def curves_chart(view: View, curves: pd.DataFrame | None) -> Chart | None:
    """None if no run of the view has a curve. Of many methods a handful. A warm start's tokens come before a run's."""
    if curves is None:
        return None
    shown = handful(view, view.shown)
    rank = {label: i for i, label in enumerate(shown)}
    runs = view.records.drop_duplicates("run_id").set_index("run_id")
    before = curves.run_id.map(runs.training_tokens) - curves.groupby("run_id").tokens.transform("max")
    frame = curves.assign(label=curves.run_id.map(view.labels), tokens=curves.tokens + before)
    frame = frame.loc[frame.label.isin(shown), ["label", "seed", "tokens", "train_loss", "validation_loss"]]
    frame = frame.sort_values(
        ["label", "seed", "tokens"],
        key=lambda column: column.map(rank) if column.name == "label" else column,
        kind="stable",
        ignore_index=True,
    )
    note = left_out(view.shown, shown)
    return Chart("curves" + view.suffix, frame, lambda: _draw(view, frame, note)) if len(frame) else None


def _draw(view: View, frame: pd.DataFrame, note: str) -> Figure:
    figure = Figure(figsize=(11.5, 4.6))
    left, right = figure.subplots(1, 2)
    palette = colours(view)
    styles = line_styles(frame.label.unique(), palette)
    for label, group in frame.groupby("label", sort=False):
        look = {"color": palette[label], "linestyle": styles[label]}
        _lines(left, group, "validation_loss", look, with_seeds(label, group.seed.nunique()))
        _lines(right, group, "train_loss", look)
    for axes, column in ((left, "validation_loss"), (right, "train_loss")):
        axes.set_ylim(_limits(frame[column].dropna()))
        axes.grid(axis="y")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(left=frame.tokens[frame[column].notna()].min() / 1e6)
        axes.set_xlabel("training tokens (millions, log scale)")
    left.set_ylabel("validation loss (nats/token)")
    left.set_title("Validation text, mean over specialists")
    right.set_ylabel("training loss (nats/token)")
    right.set_title("Training text: a different mixture for each method")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    footer(
        figure,
        f"Bold: mean over seeds; thin: single seeds; training loss: running mean over {SMOOTHING:.0%} of the run. "
        "Training losses are not comparable\nbetween methods: generic trains at h_0, the soup on draws of pi. "
        "Tokens: of all models of a method, those of a warm start included.\n"
        f"{note}{view.title}",
    )
    return figure


def _lines(axes: Axes, group: pd.DataFrame, column: str, look: dict, label: str | None = None) -> None:
    """Each seed thin, their mean bold where every seed has a value. The training loss is smoothed."""
    seeds = {seed: _values(rows, column) for seed, rows in group.groupby("seed")}
    table = pd.DataFrame(seeds).dropna()
    if len(seeds) > 1:
        for values in seeds.values():
            axes.plot(values.index / 1e6, values, **look, linewidth=0.7, alpha=0.45)
    axes.plot(table.index / 1e6, [mean(row) for row in table.to_numpy()], **look, linewidth=1.9, label=label)


def _values(rows: pd.DataFrame, column: str) -> pd.Series:
    values = rows.dropna(subset=column).drop_duplicates("tokens").set_index("tokens")[column]
    window = max(1, round(SMOOTHING * len(values))) if column == "train_loss" else 1
    return values.rolling(window, min_periods=1).mean()


def _limits(values: pd.Series) -> tuple[float, float] | None:
    """From just under the lowest loss to where most of the curve lies: the first steps would flatten the rest."""
    if values.empty:
        return None
    low, high = values.min(), values.quantile(0.9)
    return low - 0.08 * (high - low), high + 0.35 * (high - low)
