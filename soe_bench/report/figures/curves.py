"""Training curves: validation loss on the specialists, and training loss, against tokens."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soe_bench.report.figures.pieces import log_axis
from soe_bench.report.figures.selection import handful, left_out
from soe_bench.report.figures.style import Chart, colours, legend, line_styles
from soe_bench.report.format import in_words
from soe_bench.report.stats import mean
from soe_bench.report.view import View

SMOOTHING = 0.05  # of the logged points: the window of the running mean of the training loss
PANELS = {
    "validation_loss": "Validation text, mean over all specialists",
    "train_loss": "Training text: a different mixture for each method",
}


def curves_chart(view: View, curves: pd.DataFrame | None) -> Chart | None:
    """None if no run of the view has a curve. Of many methods a handful. A warm start's tokens come before a run's."""
    if curves is None:
        return None
    runs = view.runs.set_index("run_id")
    labels = [label for label in view.shown if label in set(curves.run_id.map(view.labels))]
    shown = handful(view, labels)
    before = curves.run_id.map(runs.training_tokens) - curves.groupby("run_id").tokens.transform("max")
    frame = curves.assign(label=curves.run_id.map(view.labels), tokens=curves.tokens + before)
    frame = frame[frame.label.isin(shown)]
    frame = frame.assign(label=pd.Categorical(frame.label, shown))
    frame = frame.sort_values(["label", "seed", "tokens"], ignore_index=True).astype({"label": object})
    frame = frame.loc[frame.tokens > 0, ["label", "seed", "tokens", *reversed(PANELS)]]
    if frame.empty:
        return None
    outside = f", those outside the corpus too ({', '.join(view.outside)})" if view.outside else ""
    caption = (
        "Bold lines are means over seeds, thin lines single seeds. The validation loss is a mean over all specialists"
        f"{outside}, on few tokens of each. The training loss is a running mean over "
        f"{SMOOTHING:.0%} of the run. It cannot be compared between methods: generic pretraining reads the whole "
        "corpus, with domain weights h_0. The soup reads mixtures that are drawn from pi. The tokens are those of all "
        f"models of a method, and of the model that it starts from.\n{left_out(labels, shown)}{view.title}"
    )
    return Chart("curves" + view.suffix, _finding(frame), caption, frame, lambda: _draw(view, frame))


def _finding(frame: pd.DataFrame) -> str:
    """Where the last method (the largest soup) ends, against generic on the seeds that both have."""
    label = frame.label.iloc[-1]
    ends = frame.dropna(subset="validation_loss").groupby(["seed", "label"]).validation_loss.last().unstack()
    paired = ends.reindex(columns=[label, "generic"]).dropna()
    if label == "generic" or paired.empty:
        return "The loss in training"
    words = in_words(mean(paired[label] - paired["generic"]), "that of generic pretraining")
    return f"The validation loss of {label} ends {words} (nats/token, mean over all specialists)"


def _draw(view: View, frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(11.5, 5.0))
    palette = colours(view)
    styles = line_styles(frame.label.unique(), palette)
    shown = [column for column in PANELS if frame[column].notna().any()]
    handles = {}
    for axes, column in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for label, rows in frame.groupby("label", sort=False):
            handles[label] = _lines(axes, rows, column, {"color": palette[label], "linestyle": styles[label]})
        _axis(axes, frame.dropna(subset=column), column)
    legend(figure, handles, {label: [rows.seed.nunique()] for label, rows in frame.groupby("label")})
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, column: str, look: dict) -> object:
    """Each seed thin, their mean bold where every seed has a value. The training loss is smoothed."""
    seeds = {seed: _values(own, column) for seed, own in rows.groupby("seed")}
    table = pd.DataFrame(seeds).dropna()
    if len(seeds) > 1:
        for values in seeds.values():
            axes.plot(values.index / 1e6, values, **look, linewidth=0.7, alpha=0.45)
    return axes.plot(table.index / 1e6, [mean(row) for row in table.to_numpy()], **look, linewidth=1.9)[0]


def _values(rows: pd.DataFrame, column: str) -> pd.Series:
    values = rows.dropna(subset=column).drop_duplicates("tokens").set_index("tokens")[column]
    window = max(1, round(SMOOTHING * len(values))) if column == "train_loss" else 1
    return values.rolling(window, min_periods=1).mean()


def _axis(axes: Axes, frame: pd.DataFrame, column: str) -> None:
    """From just under the lowest loss to where most of the curve lies: the first steps would flatten the rest."""
    low, high = frame[column].min(), frame[column].quantile(0.9)
    if high > low:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.35 * (high - low))
    axes.grid(axis="y")
    axes.set_xscale("log")
    log_axis(axes.xaxis, "{x:g}")
    if frame.tokens.nunique() > 1:
        axes.set_xlim(left=frame.tokens.min() / 1e6)
    axes.set_xlabel("training tokens (millions, log scale)")
    axes.set_ylabel(f"{'validation' if column == 'validation_loss' else 'training'} loss (nats/token)")
    axes.set_title(PANELS[column])
