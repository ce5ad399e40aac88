"""Training curves against tokens: validation loss on the specialists, training loss, and copying from the context."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soe_bench.report.figures.pieces import log_axis, said, trained_on
from soe_bench.report.figures.selection import handful, left_out
from soe_bench.report.figures.style import Chart, colours, legend, line_styles
from soe_bench.report.stats import mean
from soe_bench.report.view import View

SMOOTHING = 0.05  # of the logged points: the window of the running mean of the training loss
COPIES = 0.25  # nats/token: a model with a larger copying gain has begun to copy from its context
PANELS = {  # column -> what its axis says, title
    "validation_loss": ("validation loss", "Validation text, mean over all specialists"),
    "train_loss": ("training loss", "Training text: its own for each method"),
    "copying_gain": ("copying gain", "Copying: the gain of a second reading"),
}


def curves_chart(view: View, curves: pd.DataFrame) -> Chart | None:
    """None if no run of the view has a curve. Of many methods a handful. A warm start's tokens come before a run's."""
    runs = view.runs.set_index("run_id")
    labels = [label for label in view.shown if label in set(curves.run_id.map(view.labels))]
    shown = handful(view, labels)
    before = curves.run_id.map(runs.training_tokens) - curves.groupby("run_id").tokens.transform("max")
    label = curves.run_id.map(view.labels)
    label = pd.Categorical(label.where(label.isin(shown)), shown)
    frame = curves.assign(label=label, tokens=curves.tokens + before).dropna(subset="label")
    frame = frame.sort_values(["label", "seed", "tokens"], ignore_index=True).astype({"label": object})
    measured = ["copying_gain"] if frame.copying_gain.notna().any() else []
    frame = frame.loc[frame.tokens > 0, ["label", "seed", "tokens", "train_loss", "validation_loss", *measured]]
    if frame.empty:
        return None
    outside = f", those outside the corpus too ({', '.join(view.outside)}), which the means of other figures leave out"
    what = (
        "Bold lines are means over seeds, thin lines single seeds. "
        * (frame.seed.nunique() > 1)
        + f"The validation loss is a mean over all specialists{outside * bool(view.outside)}, on few tokens of each. "
        "Nothing before the first validation is drawn. The training loss is a running mean over "
        f"{SMOOTHING:.0%} of the run. It cannot be compared between methods: generic pretraining reads the whole "
        "corpus, with domain weights h_0. The soup reads mixtures that are drawn from pi. The tokens are those of all "
        f"models of a method, and of the model that it starts from.{_copying(frame)}"
    )
    caption = "\n".join([what, *left_out(labels, shown), view.title + trained_on(view, frame.label.unique())])
    return Chart("curves" + view.suffix, _finding(frame), caption, frame, lambda: _draw(view, frame))


def _finding(frame: pd.DataFrame) -> str:
    """Where the last method (the largest soup) ends, against generic on the seeds that both have."""
    label = frame.label.iloc[-1]
    ends = frame.dropna(subset="validation_loss").groupby(["seed", "label"]).validation_loss.last().unstack()
    paired = ends.reindex(columns=[label, "generic"]).dropna()
    if label == "generic" or paired.empty:
        return "The loss in training"
    words = said(paired[label] - paired["generic"], "that of generic pretraining")
    return f"The validation loss of {label} ends {words} (nats/token, mean over all specialists)"


def _copying(frame: pd.DataFrame) -> str:
    """What the caption says of copying; nothing where it was not measured."""
    if "copying_gain" not in frame:
        return ""
    seeds = frame.dropna(subset="copying_gain").groupby("label", sort=False).seed.nunique()
    measured = "; ".join(f"{label} ({n} seed{'s' * (n > 1)})" for label, n in seeds.items())
    line = f"passes {COPIES:g} (dotted), above which a model is said to copy from its context"
    begun = f"A dot marks where the mean over these seeds first {line}. One of them may pass it elsewhere or never."
    never = f"The mean over these seeds never {line}."
    return (
        " The copying gain is how much lower the loss of generic validation text is when the model reads a passage for "
        f"the second time in a row. It was measured for {measured}. {begun if _begins(frame) else never}"
    )


def _begins(frame: pd.DataFrame) -> dict[str, float]:
    """The tokens at which the mean copying gain over the seeds first passes COPIES, of each label where it does."""
    if "copying_gain" not in frame:
        return {}
    means = frame.dropna(subset="copying_gain").groupby(["label", "tokens"], sort=False).copying_gain.agg(mean)
    return means[means > COPIES].reset_index().groupby("label").tokens.min().to_dict()


def _draw(view: View, frame: pd.DataFrame) -> Figure:
    palette = colours(view)
    styles = line_styles(frame.label.unique(), palette)
    shown = [column for column in PANELS if column in frame and frame[column].notna().any()]
    figure = Figure(figsize=(11.5 if len(shown) < 3 else 15.0, 5.0))
    begins, handles, first = _begins(frame), {}, frame.tokens[frame.validation_loss.notna()].min()
    for axes, column in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for label, rows in frame.groupby("label", sort=False):
            handles[label] = _lines(axes, rows, column, first, {"color": palette[label], "linestyle": styles[label]})
            if column != "train_loss" and label in begins:
                value = rows[rows.tokens == begins[label]][column].mean()
                axes.plot(begins[label] / 1e6, value, "o", color=palette[label], markersize=7, markeredgecolor="white")
        _axis(axes, column)
    legend(figure, handles, {label: [rows.seed.nunique()] for label, rows in frame.groupby("label")})
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, column: str, first: float, look: dict) -> object:
    """Each seed thin, their mean bold where every seed that was measured has a value. The training loss is smoothed.
    From `first` tokens on (NaN: all), as the first steps would flatten the rest."""
    seeds = {seed: _values(own, column) for seed, own in rows.dropna(subset=column).groupby("seed")}
    seeds = {seed: values[~(values.index < first)] for seed, values in seeds.items()}
    table = pd.DataFrame(seeds).dropna()
    if len(seeds) > 1:
        for values in seeds.values():
            axes.plot(values.index / 1e6, values, **look, linewidth=0.7, alpha=0.45)
    return axes.plot(table.index / 1e6, [mean(row) for row in table.to_numpy()], **look, linewidth=1.9)[0]


def _values(rows: pd.DataFrame, column: str) -> pd.Series:
    values = rows.drop_duplicates("tokens").set_index("tokens")[column]
    window = max(1, round(SMOOTHING * len(values))) if column == "train_loss" else 1
    return values.rolling(window, min_periods=1).mean()


def _axis(axes: Axes, column: str) -> None:
    if column == "copying_gain":
        axes.axhline(0, color="black", linewidth=1)
        axes.axhline(COPIES, color="grey", linestyle=":", linewidth=1)
    axes.grid(axis="y")
    axes.set_xscale("log")
    log_axis(axes.xaxis, "{x:g}")
    what, title = PANELS[column]
    axes.set(xlabel="training tokens (millions, log scale)", ylabel=f"{what} (nats/token)", title=title)
