"""The cost of merging two models against their distance: one mark a pair, one colour a family."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soe_bench.report.style import Chart, footer

# Family -> words, colour, marker. FAMILIES of load.py.
LOOKS = {
    "common_parent": ("experts of one parent", "#009E73", "s"),
    "separate": ("experts, separate initialisations", "#D55E00", "^"),
    "aligned": ("the same after alignment", "#CC79A7", "v"),
    "soup": ("specialists of the soup", "#2b8cc4", "o"),
}
LINEAR = 0.1  # nats/token: the axis is linear up to here, logarithmic beyond


def closeness_chart(distances: pd.DataFrame | None) -> Chart | None:
    """The pairs whose line was evaluated; None if there are none."""
    distances = None if distances is None else distances.dropna(subset=["merge_gap", "barrier"])
    if distances is None or distances.empty:
        return None
    columns = ["family", "method", "seed", "one", "other", "distance", "cosine", "merge_gap", "barrier"]
    frame = distances[columns].sort_values(columns, ignore_index=True)
    return Chart("closeness", frame, lambda: _draw(frame))


def _draw(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(10.5, 4.4))
    left, right = figure.subplots(1, 2, sharey=True)
    _marks(left, frame, "merge_gap", "Merging: the midpoint against the two models")
    _marks(right, frame, "barrier", "Barrier on the line between the two models")
    left.set_ylabel("nats/token (linear within ±0.1)")
    left.legend(loc="upper left")
    footer(
        figure,
        "One mark a pair and seed. Merge gap: loss of the midpoint minus the mean loss of the two models, each on its "
        "own text.\nBarrier: highest excess over the straight line between their losses, on both texts.",
    )
    return figure


def _marks(axes: Axes, frame: pd.DataFrame, column: str, title: str) -> None:
    for family, (words, colour, marker) in LOOKS.items():
        rows = frame[frame.family == family]
        if len(rows):
            label = f"{words} (n = {len(rows)})"
            axes.plot(
                rows.distance,
                rows[column],
                marker,
                markersize=5.5,
                color=colour,
                alpha=0.65,
                markeredgecolor="white",
                markeredgewidth=0.5,
                label=label,
            )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_yscale("symlog", linthresh=LINEAR)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.12)
    axes.set_xlim(left=0)
    axes.grid(axis="y")
    axes.set_xlabel("distance: ‖difference‖ / mean norm")
    axes.set_title(title)
