"""Loss against the number of documents that h is estimated from: a panel per method, a line per estimator."""

import pandas as pd

from soe_bench.report.figures.pieces import Lines, looks, points, said, seeds_note, trained_on
from soe_bench.report.figures.selection import handful
from soe_bench.report.figures.style import Chart, colours
from soe_bench.report.format import from_to
from soe_bench.report.tables.documents import differences, drawn_documents
from soe_bench.report.view import CENTROIDS, View


def documents_chart(view: View) -> Chart | None:
    """None if no documents were drawn. Of many methods those of the handful. Each mark has all of its seeds."""
    shown = handful(view, view.shown)
    frame = pd.DataFrame(
        [
            row
            for (label, estimator, n), _, difference in differences(drawn_documents(view))
            if label in shown
            for row in points(
                {label: difference.by_seed}, estimator, n, label=label, specialists=len(difference.by_specialist)
            )
        ]
    )
    if frame.empty:
        return None
    caption = (
        "Test text, no fine-tuning. A mark is the loss with h from so many drawn documents minus the loss with h from "
        "all of the specialist's documents. It is a mean over draws, seeds, and the specialists within the corpus "
        "that have so many documents. How many specialists and seeds these are stands below each number. They differ, "
        "so that no line joins the marks. With nearest_centroid h is how often the centre of each domain is the one "
        f"nearest to a passage.{seeds_note(frame, set(frame.panel))}\n{view.title}{trained_on(view, set(frame.label))}"
    )
    seeds = frame.groupby(["panel", "line", "x"]).seed.transform("size")
    counts = {x: (from_to(rows.specialists), from_to(seeds[rows.index])) for x, rows in frame.groupby("x")}
    lines = Lines(
        {line: look | {"linestyle": ""} for line, look in looks(frame, colours(view)).items()},
        "documents (log scale); below it the specialists that have so many, and the seeds",
        names=lambda x: "\n".join([f"{x:g}", *counts[x]]),
        differences=set(frame.panel),
        difference_label="loss minus that with all documents\n(nats/token)",
    )
    return Chart("documents" + view.suffix, _finding(frame), caption, frame, lambda: lines.draw(frame))


def _finding(frame: pd.DataFrame) -> str:
    """What about 32 documents, and the fewest, cost the last method, by the paper's estimator where it is there."""
    rows = frame[frame.panel == frame.panel.iloc[-1]]
    rows = rows[rows.line == (CENTROIDS if CENTROIDS in set(rows.line) else rows.line.iloc[0])]
    costs = dict(list(rows.groupby("x").value))
    nearest = min(costs, key=lambda x: (abs(x - 32), x))
    words = [
        f"With h from {x} document{'s' * (x > 1)} the loss is {said(costs[x], 'from all')}"
        for x in dict.fromkeys([nearest, min(costs)])
    ]
    return f"{'. '.join(words)} (nats/token)"
