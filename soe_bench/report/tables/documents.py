"""How many documents h needs: loss at h from a few drawn documents against the loss at h from all of them."""

from dataclasses import dataclass

import pandas as pd

from soe_bench.report.format import Table, fixed
from soe_bench.report.stats import Difference, mean, summarize
from soe_bench.report.tables.corpus import outside
from soe_bench.report.tables.main import INTERVALS, VERDICT, difference_cells, provenance
from soe_bench.report.view import View

CELL = ["specialist", "seed"]


@dataclass(frozen=True)
class Point:
    """One method and estimator at one number of documents (nats/token, minus the loss at h from all documents)."""

    label: str
    estimator: str
    documents: int
    draws: tuple[int, int]  # fewest and most behind a (specialist, seed)
    difference: Difference  # of the mean over draws
    lowest: float  # the best draw of each specialist and seed, mean over these
    highest: float  # the worst
    same: float | None  # the difference on the specialists of `every_count`; None: there is none


@dataclass(frozen=True)
class Documents:
    """The points of a view, in the order of the tables, and what they rest on."""

    points: list[Point]
    every_count: dict[str, list[str]]  # label -> specialists with every number of documents, estimator and seed


def drawn_documents(view: View) -> Documents | None:
    """None if no record of drawn documents has one of all documents (nearest_centroid, same run) beside it."""
    rows = view.draws()
    rows = rows.assign(difference=_minus_all_documents(view, rows)).dropna(subset="difference")
    if rows.empty:
        return None
    every, points = {}, []
    for label in [label for label in view.order if label in set(rows.label)]:
        lines = rows[rows.label == label].groupby(["estimator", "n_documents"])
        sets = [set(group.specialist) for _, own in lines for _, group in own.groupby("seed")]
        every[label] = sorted(set.intersection(*sets))
        made = [_point(label, *key, group, every[label]) for key, group in lines]
        points += [point for point in made if point is not None]
    return Documents(points, every)


def documents_table(view: View, specialists: pd.DataFrame | None) -> Table | None:
    """A row for each method, estimator and number of documents; None if no documents were drawn. `specialists` is
    results/specialists.csv, which tells the ones outside the corpus."""
    found = drawn_documents(view)
    if found is None:
        return None
    rows = [
        {
            "method": point.label,
            "estimator": point.estimator,
            "documents": str(point.documents),
            "draws": "-".join(str(n) for n in dict.fromkeys(point.draws)),
            **difference_cells(point.difference, len(view.specialists)),
            "lowest draw": fixed(point.lowest),
            "highest draw": fixed(point.highest),
            "same specialists": fixed(point.same),
        }
        for point in found.points
    ]
    every = (f"{label}: n = {len(names)}: {', '.join(names) or 'none'}" for label, names in found.every_count.items())
    notes = [
        "split test, budget 0; difference: loss at h from so many drawn documents minus the same run's loss at h from "
        "all documents of the estimate split by nearest_centroid; mean over draws, specialists and seeds",
        "draws: number of draws of documents behind a cell (lowest-highest); lowest draw, highest draw: the best and "
        "the worst draw of each specialist and seed, mean over these",
        "specialists: those with so many documents; same specialists: the difference on those that have every number "
        f"of documents ({'; '.join(every)})",
        "outside the pretraining corpus (tables/specialists), where h says little: "
        + (", ".join(outside(specialists, view.setting["data_fingerprint"])) or "none"),
        INTERVALS,
        VERDICT,
    ]
    title = f"Loss against the number of documents that h is estimated from (nats/token), {view.title}"
    return Table("documents" + view.suffix, title, pd.DataFrame(rows), [*notes, *provenance(view.draws())])


def _minus_all_documents(view: View, rows: pd.DataFrame) -> list[float]:
    """Loss minus that of the same label, specialist and seed at h from all documents; NaN where there is none."""
    losses = {label: view.losses(label) for label in set(rows.label)}
    return [row.loss - losses[row.label].get((row.specialist, row.seed), float("nan")) for row in rows.itertuples()]


def _point(label: str, estimator: str, documents: int, rows: pd.DataFrame, every: list[str]) -> Point | None:
    """None if no specialist has all the seeds of the rows."""
    draws = rows.groupby(CELL)["difference"]
    difference = summarize(draws.apply(mean))
    if difference is None:
        return None
    kept = draws.agg(["size", "min", "max"]).loc[list(difference.by_specialist.index)]
    same = difference.by_specialist.reindex(every)
    return Point(
        label,
        estimator,
        documents,
        (int(kept["size"].min()), int(kept["size"].max())),
        difference,
        mean(kept["min"]),
        mean(kept["max"]),
        mean(same) if len(same) else None,
    )
