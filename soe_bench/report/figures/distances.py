"""The cost of merging two models against their distance: one mark per pair, one colour per family."""

import pandas as pd
from matplotlib.figure import Figure

from soe_bench.report.figures.pieces import trained_on
from soe_bench.report.figures.style import FAMILY_COLOURS, GREY, SOUP, Chart
from soe_bench.report.stats import mean
from soe_bench.report.view import View

# Family -> words, colour, marker. FAMILIES of load.py.
LOOKS = {
    "common_parent": ("experts of one parent", FAMILY_COLOURS["domain_experts*"], "s"),
    "separate": ("experts from separate initialisations", FAMILY_COLOURS["separate_experts"], "^"),
    "aligned": ("these with their units matched", GREY, "v"),
    "soup": ("specialists of the soup", SOUP(0.5), "o"),
}
PANELS = {"merge_gap": "Merge gap of the midpoint", "barrier": "Barrier on the line between the two"}
LINEAR = 0.1  # nats/token: the axis is linear up to here, logarithmic beyond
CAPTION = (
    "A mark is a pair of models of one seed. The merge gap is the loss of their midpoint minus the mean loss of the "
    "two, each on its own text. The barrier is the highest excess of the loss over the straight line between their "
    "losses, on both texts. Units are matched if those of one model are put into the order in which they are most "
    "alike those of the other, which changes no output. "
    f"The vertical axis is linear within {LINEAR:g} of 0 and logarithmic beyond."
)


def closeness_chart(distances: pd.DataFrame, views: list[View]) -> Chart | None:
    """The pairs whose line was evaluated; None if there are none. `views`: where the runs may be found."""
    titles = [
        view.title + trained_on(view, labels)
        for view in views
        if (labels := {view.labels[run] for run in distances.run_id if run in view.labels})
    ]
    columns = ["family", "method", "seed", "one", "other", "distance", "cosine", "merge_gap", "barrier"]
    frame = distances[columns].dropna(subset=["merge_gap", "barrier"]).sort_values(columns, ignore_index=True)
    if frame.empty:
        return None
    frame = frame.astype({"family": pd.CategoricalDtype(list(LOOKS))})  # so that they are drawn in this order
    gaps = frame.groupby("family", observed=True).merge_gap.agg(mean)
    said = [f"{gap:.2f} for {LOOKS[family][0]}" for family, gap in gaps.items()]
    finding = f"Averaging two models adds to the mean of their losses {', '.join(said)} (nats/token)"
    return Chart("closeness", finding, "\n".join([CAPTION, *titles]), frame, lambda: _draw(frame))


def _draw(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(13.5, 4.9))
    grid = figure.subplots(1, 2, sharey=True)
    for axes, (column, title) in zip(grid, PANELS.items(), strict=True):
        for family, rows in frame.groupby("family", observed=True):
            words, colour, marker = LOOKS[family]
            look = dict(markersize=5.5, color=colour, alpha=0.65, markeredgecolor="white", markeredgewidth=0.5)
            axes.plot(rows.distance, rows[column], marker, label=f"{words} ({len(rows)} pairs)", **look)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_yscale("symlog", linthresh=LINEAR)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.margins(y=0.12)
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        axes.set(xlabel="distance: norm of the difference / mean norm", title=title)
    grid[0].set_ylabel("nats/token")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right center")
    return figure
