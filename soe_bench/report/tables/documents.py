"""How many documents h needs: loss at h from a few drawn documents against the loss at h from all of them."""

from collections.abc import Iterator

import pandas as pd

from soe_bench.report.format import Table, fixed, from_to
from soe_bench.report.stats import Difference, mean, summarize
from soe_bench.report.tables.pieces import INTERVALS, VERDICT, difference_cells, view_table, within_note
from soe_bench.report.view import View

CELL = ["specialist", "seed"]
Point = tuple[str, str, int]  # a label, an estimator of h and a number of documents


def drawn_documents(view: View) -> pd.DataFrame:
    """The records of drawn documents with a `difference`: their loss minus that of the same run at h from all documents
    (nearest_centroid), in the order of the tables. Only those that have one, and of specialists within the corpus."""
    rows, known = view.draws(), view.cells().set_index(["label", *CELL]).loss
    rows = rows[rows.specialist.isin(view.averaged)]
    rows = rows.join(known.rename("known"), on=known.index.names)
    rows = rows.assign(difference=rows.loss - rows.known, label=pd.Categorical(rows.label, view.order))
    return rows.dropna(subset="difference")


def differences(rows: pd.DataFrame) -> Iterator[tuple[Point, pd.DataFrame, Difference]]:
    """For each point its records and the difference of the mean over draws, where a specialist has all of its seeds."""
    for point, own in rows.groupby(["label", "estimator", "n_documents"], observed=True):
        if difference := summarize(own.groupby(CELL).difference.apply(mean)):
            yield point, own, difference


def documents_table(view: View) -> Table | None:
    """A row for each method, estimator and number of documents; None if no documents were drawn."""
    found = drawn_documents(view)
    every = {  # label -> specialists with every number of documents, estimator and seed
        label: sorted(set.intersection(*own.groupby(["estimator", "n_documents", "seed"]).specialist.agg(set)))
        for label, own in found.groupby("label", observed=True)
    }
    rows = []
    for (label, estimator, documents), own, difference in differences(found):
        draws = own.groupby(CELL).difference.agg(["size", "min", "max"]).loc[list(difference.by_specialist.index)]
        rows.append(
            {
                "method": label,
                "estimator": estimator,
                "documents": str(documents),
                "draws": from_to(draws["size"]),
                **difference_cells(difference, len(view.averaged)),
                "lowest draw": fixed(mean(draws["min"])),
                "highest draw": fixed(mean(draws["max"])),
                "same specialists": fixed(mean(difference.by_specialist.reindex(every[label]))),
            }
        )
    names = (f"{label}: n = {len(names)}: {', '.join(names) or 'none'}" for label, names in every.items())
    notes = [
        "The losses are on test text, without fine-tuning. A difference is the loss with h from so many drawn "
        "documents minus the loss of the same run with h from all documents of the estimate split, by the estimator "
        "nearest_centroid. It is a mean over draws, specialists within the corpus and seeds.",
        *within_note(view),
        "`draws` is the number of draws of documents behind a cell (fewest-most). `lowest draw` and `highest draw` are "
        "those of each specialist and seed, as a mean over these.",
        "`specialists` counts those that have so many documents. `same specialists` is the difference on those that "
        f"have every number of documents ({'; '.join(names)}).",
        INTERVALS,
        VERDICT,
    ]
    title = "Loss against the number of documents that h is estimated from (nats/token)"
    return view_table(view, "documents", title, rows, notes, view.draws())
