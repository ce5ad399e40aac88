"""The tables of results: methods against specialists, controls, paired differences to generic."""

import pandas as pd

from soe_bench.report.format import Table, fixed
from soe_bench.report.stats import BOOTSTRAP_SEED, RESAMPLES, Difference, Interval, mean, paired_difference, t_interval
from soe_bench.report.tables.corpus import outside
from soe_bench.report.tables.marks import DAGGER, mark, untested
from soe_bench.report.view import GENERIC_TEXT, MISSING, View

MOST_EPOCHS = 4
WITHIN = "mean within the corpus"
CONTROLS = ("estimate", "tuned", "uniform", "shuffled", "h_0", "zero")
BOUNDS = ("seeds low", "seeds high", "specialists low", "specialists high")
DIFFERENCE = ("difference", *BOUNDS, "seeds", "specialists", "specialists better", "verdict")
MEASURES = {
    "loss": ("main", "Loss on each specialist's test text (nats/token)"),
    "bits_per_byte": ("main_bits_per_byte", "Bits per byte on each specialist's test text"),
}
INTERVALS = (
    "over seeds: 95 % t-interval, paired by seed, n in `seeds`; over specialists: 95 % percentile bootstrap "
    f"({RESAMPLES} resamples, generator seed {BOOTSTRAP_SEED}) of the differences averaged over seeds, "
    "n in `specialists` (of 16 it covers 92 %, of 8 88 %, of 3 about 75 %)"
)
VERDICT = (
    "verdict: better or worse only if both intervals lie on that side of 0, not separated otherwise (one seed has no "
    "interval)"
)


def main_table(view: View, measure: str, specialists: pd.DataFrame | None = None) -> Table:
    """Methods x specialists at budget 0: mean over seeds, macro mean with its interval over seeds, that of the
    specialists within the corpus (where `specialists` flags others as outside it), generic text."""
    name, title = MEASURES[measure]
    cells = view.cells()
    without = outside(specialists, view.setting["data_fingerprint"])
    rows = [_main_row(view, cells[cells.label == label], label, measure, without) for label in view.order]
    frame = pd.DataFrame(rows)
    losses = _by_column(view, cells, frame, measure, without)
    unmarked = untested(frame, "mean", losses["mean"]) if view.specialists else []
    notes = [*_main_notes(), *within_note(without), *unmarked, *provenance(cells)]
    title = f"{title}, {view.title}"
    return Table(name + view.suffix, title, frame, notes, turned=True, **mark(frame, losses))


def within_note(without: list[str]) -> list[str]:
    """What `within the corpus` means in a table, if it stands there."""
    return [f"within the corpus: without {', '.join(without)}, which lie outside it"] if without else []


def _by_column(
    view: View, cells: pd.DataFrame, frame: pd.DataFrame, measure: str, without: list[str]
) -> dict[str, dict[str, pd.Series]]:
    """Column -> method -> the values behind its cell, indexed (specialist, seed)."""
    texts = {"mean": cells[cells.specialist != GENERIC_TEXT], "generic text": cells[cells.specialist == GENERIC_TEXT]}
    texts[WITHIN] = texts["mean"][~texts["mean"].specialist.isin(without)]
    texts |= {name: cells[cells.specialist == name] for name in view.specialists}
    return {
        column: {
            label: rows.set_index(["specialist", "seed"])[measure] for label, rows in texts[column].groupby("label")
        }
        for column in frame.columns
        if column in texts
    }


def _main_row(view: View, cells: pd.DataFrame, label: str, measure: str, without: list[str]) -> dict[str, str]:
    values = cells.set_index(["specialist", "seed"])[measure]
    groups = {specialist: list(group) for specialist, group in values.groupby("specialist")}
    counts = sorted({len(group) for group in groups.values()}) or [0]
    means = view.seed_means(values[values.index.get_level_values("specialist") != GENERIC_TEXT])
    interval = None if means is None else t_interval(means)
    inside = [losses for name in set(view.specialists) - set(without) for losses in groups.get(name, ())]
    cell = {
        name: fixed(mean(groups[name]), 4) if name in groups else MISSING for name in [*view.specialists, GENERIC_TEXT]
    }
    means_cells = {
        "mean": MISSING if means is None else fixed(mean(means)),
        "mean low": fixed(interval.low) if interval else "",
        "mean high": fixed(interval.high) if interval else "",
    }
    return {
        "method": label,
        "seeds": "-".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))),
        "training tokens": f"{view.training_tokens(label) / 1e6:.3g}M",
        **(means_cells if view.specialists else {}),
        **({WITHIN: fixed(mean(inside)) if inside and means is not None else MISSING} if without else {}),
        **{name: cell[name] for name in view.specialists},
        "generic text": cell[GENERIC_TEXT],
        "flag": f"over {MOST_EPOCHS} epochs" if (cells.max_epochs > MOST_EPOCHS).any() else "",
    }


def _main_notes() -> list[str]:
    return [
        "split test, budget 0 (nothing of the specialist's own text trained on), h from its estimate split, the "
        "generic "
        "text at h_0; mean over seeds",
        "seeds: number of seeds a cell rests on (lowest-highest); mean: over the specialists, not the generic text; "
        "mean low, mean high: 95 % t-interval of that mean over seeds (empty for one seed); "
        f"{MISSING}: no record, and no mean over a row with a hole",
        "training tokens: of all models that the method trains, those that they start from included",
        "a label names training tokens, pi or draws per step where they are not those of most runs of the method",
        f"flag: some domain was passed more than {MOST_EPOCHS} times in training",
        DAGGER,
    ]


def provenance(cells: pd.DataFrame) -> list[str]:
    """What the numbers come from, out of the records themselves."""
    return [
        f"data fingerprint {', '.join(sorted({value[:12] for value in cells.data_fingerprint}))}; "
        f"commits stored in the records: {commits(cells)}; device: {'; '.join(sorted(set(cells.device)))}",
        "deviations.csv lists every setting that is not confirmed by the paper",
    ]


def commits(cells: pd.DataFrame) -> str:
    """The commits stored in the records, `+dirty` where there were uncommitted changes."""
    pairs = zip(cells.commit, cells.dirty, strict=True)
    return ", ".join(sorted({(commit or "unknown")[:12] + ("+dirty" if dirty else "") for commit, dirty in pairs}))


def difference_table(view: View) -> Table | None:
    """Paired difference to generic for each method; None if there is nothing to compare."""
    rows = []
    for label in view.order:
        if difference := view.to_generic(label):
            rows.append({"method": label, **difference_cells(difference, len(view.specialists))})
    notes = [
        "method minus generic on the same specialist and seed, mean over both; negative: the method is better",
        INTERVALS,
        "specialists better: with a difference below 0, averaged over seeds",
        VERDICT,
        *not_compared(view, view.order),
    ]
    title = f"Difference to generic (nats/token), {view.title}"
    notes += provenance(view.cells())
    return Table("difference" + view.suffix, title, pd.DataFrame(rows), notes) if rows else None


def not_compared(view: View, labels: list[str]) -> list[str]:
    """A note on the methods that have no generic run to compare with, if there are any."""
    alone = ", ".join(view.without_generic(labels))
    return [f"not compared, as there is no generic run on as many tokens: {alone}"] if alone else []


def difference_cells(difference: Difference | None, n_specialists: int) -> dict[str, str]:
    """The columns of one difference: mean, both intervals, what it rests on, verdict; all empty if there is none."""
    if difference is None:
        return dict.fromkeys(DIFFERENCE, "")
    low_high = bounds("seeds", difference.over_seeds) | bounds("specialists", difference.over_specialists)
    cells = (
        fixed(difference.mean),
        *low_high.values(),
        str(len(difference.by_seed)),
        f"{len(difference.by_specialist)} of {n_specialists}",
        str(int((difference.by_specialist < 0).sum())),
        difference.verdict,
    )
    return dict(zip(DIFFERENCE, cells, strict=True))


def bounds(unit: str, interval: Interval | None) -> dict[str, str]:
    """The two columns of an interval, empty if there is none."""
    return {
        f"{unit} low": fixed(interval.low) if interval else "",
        f"{unit} high": fixed(interval.high) if interval else "",
    }


def controls_table(view: View) -> Table | None:
    """Loss of each method that takes h under its estimate and under the controls; None if no control is recorded."""
    rows = []
    for label in view.order:
        present = set(view.records[view.records.label == label].h_source) & set(CONTROLS)
        if present - {"estimate", "h_0"}:
            rows += [
                _control_row(view, label, h_source)
                for h_source in CONTROLS
                if h_source in present | set(CONTROLS) - {"tuned"}
            ]
    notes = [
        "h: estimate = each specialist's own; tuned = on validation; uniform; shuffled = another specialist's; "
        "h_0 = generic weights for all; zero = no expert, S alone",
        "loss: mean over specialists and seeds; difference: to the same method's estimate, paired; positive: the "
        "control is worse",
        INTERVALS,
        VERDICT,
    ]
    title = f"Does h matter? Loss under other h (nats/token), {view.title}"
    notes += provenance(view.cells())
    return Table("controls" + view.suffix, title, pd.DataFrame(rows), notes) if rows else None


def _control_row(view: View, label: str, h_source: str) -> dict[str, str]:
    losses = view.losses(label, h_source)
    means = view.seed_means(losses)
    difference = None if h_source == "estimate" else paired_difference(losses, view.losses(label, "estimate"))
    return {
        "method": label,
        "h": h_source,
        "loss": MISSING if means is None else fixed(mean(means)),
        **difference_cells(difference, len(view.specialists)),
    }
