"""Loss, and gain over generic, against the size of the base model, at equal tokens a parameter and at equal tokens."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from soe_bench.report.effects import NotRun, Soups, against_generic
from soe_bench.report.stats import mean, summarize
from soe_bench.report.style import FIXED, Chart, footer, soup_colour, with_seeds
from soe_bench.report.view import View

EXPERTS = 16
BUDGETS = {"tokens a parameter": "-", "tokens": ":"}  # what is equal between the sizes -> line style
COLUMNS = ["equal", "line", "model", "parameters", "training_tokens", "seed", "loss", "difference"]
LOOKS = {"generic": (FIXED["generic"], "s"), f"soup n={EXPERTS}": (soup_colour(EXPERTS), "o")}


def sizes_chart(views: list[View]) -> Chart | None:
    """The views of the first one's scale and data, on the seeds that all sizes have; None unless two sizes have both
    methods on every specialist."""
    soups = Soups(views[0], views)
    same = {key: value for key, value in soups.view.setting.items() if key != "model"}
    models = [view.setting["model"] for view in views if same.items() <= view.setting.items()]
    table = [row for equal in BUDGETS for model in models for row in _rows(soups, equal, model)]
    frame = pd.DataFrame(table, columns=COLUMNS)
    frame = frame[frame.groupby("equal").parameters.transform("nunique") > 1]
    sizes = frame.groupby("equal").parameters.transform("nunique")
    frame = frame[frame.groupby(["equal", "line", "seed"]).parameters.transform("nunique") == sizes]
    if not len(frame):
        return None
    order = {equal: place for place, equal in enumerate(BUDGETS)}
    frame = frame.sort_values(
        ["equal", "line", "parameters", "seed"], key=lambda column: column.replace(order), ignore_index=True
    )
    return Chart("sizes", frame, lambda: _draw(soups.view, frame))


def _rows(soups: Soups, equal: str, model: str) -> list[dict]:
    """A row a method and seed; none without a record of both methods on every specialist."""
    try:
        other = soups.at(model, equal)
        values, labels = against_generic(other, EXPERTS, "specialists")
    except NotRun:
        return []
    view, difference = other.view, summarize(values)
    means = [view.seed_means(view.losses(label)) for label in labels]
    if difference is None or any(each is None for each in means):
        return []
    facts = {"equal": equal, "model": model, "parameters": int(other.runs.parameters.iloc[0])}
    return [
        facts
        | {
            "line": line,
            "training_tokens": int(view.training_tokens(label)),
            "seed": seed,
            "loss": losses[seed],
            "difference": difference.by_seed.get(seed) if line != "generic" else None,
        }
        for line, label, losses in zip(reversed(LOOKS), labels, means, strict=True)
        for seed in losses.index
    ]


def _draw(view: View, frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(11, 4.8))
    left, right = figure.subplots(1, 2)
    for (equal, line), rows in frame.groupby(["equal", "line"], sort=False):
        _line(left, rows, "loss", equal, line)
        if line != "generic":
            _line(right, rows, "difference", equal, line)
    sizes = frame.drop_duplicates("parameters")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(sizes.parameters, [f"{row.parameters:,}\n{row.model}" for row in sizes.itertuples()])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.08, y=0.1)
        axes.grid(axis="y")
        axes.set_xlabel("parameters of the base model (log scale)")
    right.axhline(0, color=FIXED["generic"], linewidth=1)
    left.set_ylabel("loss on specialists (nats/token)")
    left.set_title("Specialist loss against size")
    right.set_ylabel("loss minus generic's (nats/token)")
    right.set_title("Against generic: below 0 is better")
    left.legend()
    seeds = " Dashes: single seeds." if frame.seed.nunique() > 1 else ""
    data = "{scale}, data {data} {data_fingerprint:.12}".format(**view.setting)
    footer(
        figure,
        f"Mean over {len(view.specialists)} specialists' test text, no fine-tuning; equal: to the tokens of "
        f"{view.setting['model']}.{seeds}\n{data}",
    )
    return figure


def _line(axes: Axes, rows: pd.DataFrame, column: str, equal: str, line: str) -> None:
    """A line through the means over seeds, a mark at each mean and a dash at each seed."""
    colour, marker = LOOKS[line]
    groups = rows.dropna(subset=column).groupby("parameters")[column]
    means = groups.agg(mean)
    label = with_seeds(f"{line}, equal {equal}", *rows.groupby("parameters").size())
    axes.plot(
        means.index,
        means,
        BUDGETS[equal],
        color=colour,
        marker=marker,
        markersize=7,
        linewidth=1.8,
        markeredgecolor="white",
        label=label,
    )
    for size, values in groups:
        if len(values) > 1:
            axes.plot([size] * len(values), values, "_", color=colour, markersize=10)
