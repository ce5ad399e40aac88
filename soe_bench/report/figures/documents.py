"""Loss against the number of documents that h is estimated from: a panel per method, a line per estimator."""

import pandas as pd

from soe_bench.report.figures.pieces import Lines, points, seeds_note
from soe_bench.report.figures.selection import handful
from soe_bench.report.figures.style import OTHERS, Chart, markers
from soe_bench.report.format import from_to, in_words
from soe_bench.report.stats import mean
from soe_bench.report.tables.documents import differences, drawn_documents
from soe_bench.report.view import CENTROIDS, View


def documents_chart(view: View) -> Chart | None:
    """None if no documents were drawn. Of many methods those of the handful. Each has the seeds with most of its marks,
    so that one number of seeds stands behind a line."""
    shown = handful(view, view.shown)
    frame = pd.DataFrame(
        [
            row
            for (label, estimator, n), _, difference in differences(drawn_documents(view))
            if label in shown
            for row in points({label: difference.by_seed}, estimator, n, specialists=len(difference.by_specialist))
        ]
    )
    if frame.empty:
        return None
    marks_of = frame.groupby(["panel", "seed"]).x.transform("size")
    frame = frame[marks_of == marks_of.groupby(frame.panel).transform("max")].reset_index(drop=True)
    caption = (
        "Test text, no fine-tuning. A mark is the loss with h from so many drawn documents minus the loss with h from "
        "all of the specialist's documents (by nearest centroids), a mean over draws and over the specialists within "
        "the corpus that have so many documents; below each number stands how many these are."
        f"{seeds_note(frame, set(frame.panel))}\n{view.title}"
    )
    counts = frame.groupby("x").specialists.agg(["min", "max"])
    marks = markers(sorted(set(frame.line)))
    lines = Lines(
        {line: {"color": OTHERS[i % len(OTHERS)], "marker": mark} for i, (line, mark) in enumerate(marks.items())},
        "documents (log scale), and the specialists that have so many",
        names=lambda x: f"{x:g}\n({from_to(counts.loc[x])})",
        differences=set(frame.panel),
        difference_label="loss minus that with all documents\n(nats/token)",
    )
    return Chart("documents" + view.suffix, _finding(frame), caption, frame, lambda: lines.draw(frame))


def _finding(frame: pd.DataFrame) -> str:
    """What about 32 documents, and the fewest, cost the last method, by the paper's estimator where it is there."""
    rows = frame[frame.panel == frame.panel.iloc[-1]]
    rows = rows[rows.line == (CENTROIDS if CENTROIDS in set(rows.line) else rows.line.iloc[0])]
    costs = rows.groupby("x").value.agg(mean)
    nearest = min(costs.index, key=lambda x: (abs(x - 32), x))
    words = [
        f"{in_words(costs[x])} with h from {x} document{'s' * (x > 1)}"
        for x in dict.fromkeys([nearest, min(costs.index)])
    ]
    return f"The loss is {' and '.join(words)}, compared with all documents (nats/token)"
