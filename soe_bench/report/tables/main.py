"""The tables of results: methods against specialists, controls, paired differences to generic."""

from soe_bench.records import MOST_EPOCHS
from soe_bench.report.format import Table, fixed, from_to
from soe_bench.report.stats import mean, t_interval
from soe_bench.report.tables.pieces import INTERVALS, VERDICT, loss_cells, not_compared, view_table, within_note
from soe_bench.report.view import GENERIC_TEXT, MISSING, View

ALL = "mean of all"
CONTROLS = ("estimate", "tuned", "uniform", "shuffled", "h_0", "zero")


def main_table(view: View) -> Table | None:
    """Methods x specialists at budget 0: mean over seeds, macro mean of those within the corpus with its interval over
    seeds, that of all (where some lie outside), generic text."""
    rows = [_main_row(view, label) for label in view.order]
    notes = [
        "The losses are on test text, without fine-tuning. The domain weights h come from the specialist's estimate "
        "split; on the generic text they are h_0, those of the whole corpus. A cell is a mean over seeds.",
        "`seeds` is the number of seeds behind a cell (fewest-most). `mean` is over the specialists within "
        "the corpus; `mean low` and `mean high` are its 95 % t-interval over seeds, empty for one seed. "
        f"{MISSING}: there is no record, or a mean lacks one.",
        "`training tokens` counts those of all models that the method trains, and of those that they start from.",
        "The name of a method says its training tokens, its pi (the distribution of h in training) or its draws of h "
        "per step only where most runs of the method have others.",
        f"`flag` says where some domain was read more than {MOST_EPOCHS} times in training.",
        "Rows may differ in training tokens and in seeds. The table difference compares each method with generic "
        "pretraining on as many tokens, paired by specialist and seed.",
        *within_note(view),
    ]
    title = "Loss on each specialist's test text (nats/token)"
    return view_table(view, "main", title, rows, notes, view.cells())


def _main_row(view: View, label: str) -> dict[str, str]:
    cells, losses = view.cells()[view.cells().label == label], view.losses(label)
    row = {
        "method": label,
        "seeds": from_to(cells.groupby("specialist").size()),
        "training tokens": _tokens(view, label),
    }
    if view.specialists:
        means = view.seed_means(losses)
        ends = t_interval(means)
        row |= {"mean": fixed(mean(means), missing=MISSING), "mean low": fixed(ends.low), "mean high": fixed(ends.high)}
    if view.averaged != view.specialists:
        row[ALL] = fixed(mean(view.seed_means(losses, view.specialists)), missing=MISSING)
    by_text = cells.groupby("specialist").loss.agg(mean)
    columns = {name: name for name in view.specialists} | {"generic text": GENERIC_TEXT}
    row |= {column: fixed(by_text.get(text), missing=MISSING) for column, text in columns.items()}
    return row | {"flag": f"over {MOST_EPOCHS} epochs" if (cells.max_epochs > MOST_EPOCHS).any() else ""}


def _tokens(view: View, label: str) -> str:
    return f"{view.methods.training_tokens[label] / 1e6:.3g}M"


def difference_table(view: View) -> Table | None:
    """Paired difference to generic for each method; None if there is nothing to compare."""
    rows = [
        {"method": label, "training tokens": _tokens(view, label)}
        | loss_cells(view, view.losses(label), view.losses(generic), view.averaged)
        for label in view.order
        if (generic := view.generic_for(label)) not in (None, label)
    ]
    rows = [row for row in rows if row["difference"]]
    notes = [
        "`loss` is a mean over the method's seeds and the specialists within the corpus. A difference is the loss "
        "minus that of generic pretraining on the same specialist and seed. Below 0 the method is better. "
        f"{MISSING}: a specialist has no record.",
        *within_note(view),
        INTERVALS,
        "`specialists better` counts those whose difference, averaged over seeds, is below 0.",
        VERDICT,
        *not_compared(view, view.order),
    ]
    return view_table(view, "difference", "Difference to generic (nats/token)", rows, notes, view.cells())


def controls_table(view: View) -> Table | None:
    """Loss of each method that takes h under its estimate and under the controls; None if no control is recorded."""
    rows = []
    for label in view.order:
        present = set(view.records[view.records.label == label].h_source) & set(CONTROLS)
        if present - {"estimate", "h_0"}:
            shown = [h for h in CONTROLS if h in present or h != "tuned"]
            known = view.losses(label, "estimate")
            rows += [
                {"method": label, "h": h}
                | loss_cells(view, view.losses(label, h), None if h == "estimate" else known, view.averaged)
                for h in shown
            ]
    notes = [
        "`h` says which domain weights the method was given. estimate: the specialist's own; tuned: adjusted on "
        "validation text; uniform: equal weights; shuffled: those of the next specialist in the alphabet; h_0: those "
        "of the whole corpus; zero: no expert, so the shared parameters S alone.",
        "`loss` is a mean over all seeds of a row and the specialists within the corpus. A difference is paired, to "
        "the same method at its estimate on the same seeds; above 0 the control is worse.",
        *within_note(view),
        INTERVALS,
        VERDICT,
    ]
    return view_table(view, "controls", "Does h matter? Loss under other h (nats/token)", rows, notes, view.cells())
