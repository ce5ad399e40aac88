"""What tables are made of: the cells of a difference, the notes that many of them have, and the table of a view."""

from collections.abc import Sequence

import pandas as pd

from soe_bench.report.format import Table, fixed
from soe_bench.report.stats import BOOTSTRAP_SEED, CHANCE, RESAMPLES, Difference, mean, paired_difference
from soe_bench.report.view import MISSING, View

UNITS = ("seeds", "specialists")
BOUNDS = tuple(f"{over} {end}" for over in CHANCE for end in ("low", "high"))
INTERVALS = (
    "`seeds low` and `seeds high` are a 95 % t-interval over the differences of the single seeds; `seeds` is their "
    "number. `specialists low` and `specialists high` are a 95 % percentile bootstrap "
    f"({RESAMPLES} resamples, drawn with the random seed {BOOTSTRAP_SEED}) over the specialists' differences, each "
    "averaged over seeds; `specialists` is their number. With 16 specialists it covers the truth in 92 % of cases, "
    "with 8 in 88 %, with 3 in about 75 %, with 2 in 50 %. `both low` and `both high` are a 95 % t-interval that "
    "counts the chance of seeds and that of specialists together: their variances are added. No interval is corrected "
    "for the number of comparisons, and none covers another division into domains, as all seeds share one."
)
VERDICT = (
    "The verdict is better or worse only if all three intervals lie wholly on that side of 0. Otherwise it is not "
    "separated. A single seed has no interval."
)


def view_table(
    view: View,
    name: str,
    title: str,
    rows: list[dict[str, str]],
    notes: list[str],
    source: pd.DataFrame,
    json: str = "",
) -> Table | None:
    """The table of the rows, or None if there are none. The notes end with what its records (`source`) come from."""
    title = f"{title}, {view.title}"
    return Table(name + view.suffix, title, pd.DataFrame(rows), [*notes, *provenance(source)], json) if rows else None


def effect_cells(name: str, difference: Difference | None, of: str) -> dict[str, str]:
    """The columns of an effect: its mean, its intervals, the seeds and the specialists that it rests on (`of` has
    them in words); all empty if there is none."""
    if difference is None:
        return dict.fromkeys([name, *BOUNDS, *UNITS], "")
    ends = [end for each in difference.intervals.values() for end in (each.low, each.high)]
    cells = {name: fixed(difference.mean), **dict(zip(BOUNDS, map(fixed, ends), strict=True))}
    return cells | {"seeds": str(len(difference.by_seed)), "specialists": of}


def difference_cells(difference: Difference | None, n_specialists: int) -> dict[str, str]:
    """The columns of a paired difference, on some of `n_specialists`; all empty if there is none."""
    if difference is None:
        return effect_cells("difference", None, "") | {"specialists better": "", "verdict": ""}
    cells = effect_cells("difference", difference, f"{len(difference.by_specialist)} of {n_specialists}")
    return cells | {"specialists better": str(int((difference.by_specialist < 0).sum())), "verdict": difference.verdict}


def loss_cells(
    view: View, losses: pd.Series, reference: pd.Series | None, specialists: Sequence[str]
) -> dict[str, str]:
    """The column `loss` (a mean over the specialists and seeds), and those of the paired difference to the reference,
    empty if there is none."""
    losses = losses[losses.index.isin(specialists, "specialist")]
    difference = None if reference is None else paired_difference(losses, reference)
    loss = fixed(mean(view.seed_means(losses, specialists)), missing=MISSING)
    return {"loss": loss, **difference_cells(difference, len(specialists))}


def within_note(view: View) -> list[str]:
    """Which specialists a mean within the corpus leaves out, if there are any."""
    out = ", ".join(view.outside)
    note = f"`Within the corpus` leaves out these specialists, whose text lies outside it: {out}."
    return [note] if view.averaged != view.specialists else []


def not_compared(view: View, labels: list[str]) -> list[str]:
    """A note on the methods that have no generic run to compare with, if there are any."""
    alone = "; ".join(label for label in labels if view.generic_for(label) is None)
    return [f"Not compared, as there is no generic run on as many training tokens: {alone}."] if alone else []


def provenance(cells: pd.DataFrame) -> list[str]:
    """What the numbers come from, out of the records themselves."""
    return [
        f"Data fingerprint {', '.join(sorted({value[:12] for value in cells.data_fingerprint}))}; "
        f"commits stored in the records: {commits(cells)}; device: {'; '.join(sorted(set(cells.device)))}.",
        "results/deviations.csv of the repository has our settings beside what is known of the paper's.",
    ]


def commits(cells: pd.DataFrame) -> str:
    """The commits stored in the records, `+dirty` where there were uncommitted changes."""
    pairs = zip(cells.commit, cells.dirty, strict=True)
    return ", ".join(sorted({(commit or "unknown")[:12] + ("+dirty" if dirty else "") for commit, dirty in pairs}))
