"""Loss against the number of documents that h is estimated from: a panel a method, a line an estimator."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from soe_bench.report.figures.selection import handful
from soe_bench.report.style import OTHERS, Chart, footer, markers
from soe_bench.report.tables.documents import Documents, drawn_documents
from soe_bench.report.view import CENTROIDS, View

BAND = CENTROIDS  # the estimator whose spread over draws is drawn: four bands would hide each other
LINEAR = 0.01  # nats/token: the scale is linear up to here, so that 1 document does not flatten the rest


def documents_chart(view: View) -> Chart | None:
    """None if no documents were drawn. Of many methods those of the handful."""
    found, shown = drawn_documents(view), handful(view, view.shown)
    rows = [
        {
            "label": point.label,
            "estimator": point.estimator,
            "documents": point.documents,
            "difference": point.difference.mean,
            "lowest_draw": point.lowest,
            "highest_draw": point.highest,
            "same_specialists": np.nan if point.same is None else point.same,
            "specialists": len(point.difference.by_specialist),
        }
        for point in (found.points if found else [])
        if point.label in shown
    ]
    frame = pd.DataFrame(rows)
    return Chart("documents" + view.suffix, frame, lambda: _draw(view, frame, found)) if rows else None


def _draw(view: View, frame: pd.DataFrame, found: Documents) -> Figure:
    labels = list(dict.fromkeys(frame.label))
    figure = Figure(figsize=(2.6 + 4.4 * len(labels), 4.8))
    panels = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    estimators = sorted(set(frame.estimator))
    look = {name: (OTHERS[i % len(OTHERS)], mark) for i, (name, mark) in enumerate(markers(estimators).items())}
    for axes, label in zip(panels, labels, strict=True):
        rows = frame[frame.label == label]
        for estimator, line in rows.groupby("estimator"):
            _line(axes, line, estimator, *look[estimator])
        axes.set_yscale("symlog", linthresh=LINEAR)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.axhline(0, color="black", linewidth=1)
        _ticks(axes, rows)
        axes.set_title(f"{label} (dashed: {len(found.every_count[label])} specialists)")
        axes.grid(axis="y")
    panels[0].set_ylabel("loss minus that at h from all documents\n(nats/token)")
    handles = {name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", title="h estimated by")
    footer(
        figure,
        "Test text, no fine-tuning; 0: the same specialist at h from all its documents by nearest_centroid. Mean over "
        "draws of documents, over the n specialists with so many and over seeds; dashed: over those that have every "
        f"count. Band ({BAND}): from the best to the worst draw of a specialist, mean over specialists. Linear within "
        f"{LINEAR:g} nats/token of 0, logarithmic beyond. {view.title}",
    )
    return figure


def _line(axes: Axes, line: pd.DataFrame, estimator: str, colour: str, marker: str) -> None:
    if estimator == BAND:
        axes.fill_between(line.documents, line.lowest_draw, line.highest_draw, color=colour, alpha=0.15, linewidth=0)
    axes.plot(line.documents, line.difference, color=colour, marker=marker, markeredgecolor="white", label=estimator)
    axes.plot(line.documents, line.same_specialists, color=colour, linestyle="--", linewidth=1)


def _ticks(axes: Axes, rows: pd.DataFrame) -> None:
    """The counts on a logarithmic axis, each with the number of specialists that it rests on."""
    axes.set_xscale("log")
    counts = rows.groupby("documents").specialists.agg(["min", "max"])
    names = [f"{count}\nn={'-'.join(map(str, dict.fromkeys(ends)))}" for count, *ends in counts.itertuples()]
    axes.set_xticks(counts.index, names)
    axes.minorticks_off()
    axes.set_xlabel("documents (log scale); n: specialists")
