"""Loss against the number of experts, and the paired difference to generic pretraining: one column per scale."""

from collections.abc import Collection, Iterable

import pandas as pd

from soe_bench.report.figures.pieces import Lines, lead, looks, points, seeds_note, trained_on
from soe_bench.report.figures.selection import handful
from soe_bench.report.figures.style import Chart, colours
from soe_bench.report.stats import mean
from soe_bench.report.view import View

REFERENCES = ("generic", "dense_on_pi")


def experts_chart(views: list[View]) -> Chart | None:
    """The views with methods of several numbers of experts. If there is none: those with a method with experts and one
    without beside it; None without these too."""
    found = {view: rows for view in views if (rows := _rows(view))}
    several = {view: rows for view, rows in found.items() if len({row["x"] for row in rows} - {None}) > 1}
    found = several or {view: rows for view, rows in found.items() if len({row["x"] for row in rows}) > 1}
    if not found:
        return None
    frame = pd.DataFrame([row for rows in found.values() for row in rows])
    differences = {f"{view.title}: difference" for view in found} & set(frame.panel)
    findings = {
        short: _finding(view, frame[frame.scale == view.title], differences)
        for view, short in zip(found, _short(found).values(), strict=True)
    }
    lines, levels = (list(frame.line[rows].unique()) for rows in (frame.x.notna(), frame.x.isna()))
    caption = (
        "Test text, no fine-tuning, mean over the specialists within the corpus. Above is the loss. Below is the loss "
        "minus that of generic pretraining with the same seed and as many training tokens, where there is such a run; "
        "below 0 the method is better."
        + " There the marks of several lines stand side by side around their number of experts." * (len(lines) > 1)
        + f" Of the methods without experts only these are here, as lines across: {'; '.join(levels)}." * bool(levels)
        + " Each method rests on the seeds that it has; one that lacks a specialist is not shown."
        + " Which specialists lie within the corpus may differ between columns." * (len(found) > 1)
        + seeds_note(frame, differences)
    )
    plain = {view: view.title.rpartition(" ")[0] for view in found}  # without the fingerprint, where that does
    alone = len(set(plain.values())) == len(plain)
    titles = {
        f"{view.title}: loss": (plain[view] if alone else view.title) + trained_on(view, {row["label"] for row in rows})
        for view, rows in found.items()
    }
    chart = Lines(
        looks(frame, colours(*found)),
        "number of experts (log scale)",
        titles | dict.fromkeys(differences, ""),
        "{:g}".format,
        differences,
        rows=1 + bool(differences),
    )
    counts = {experts for experts, _ in findings.values()}
    said = [
        f"with {experts} is " * (len(counts) > 1) + words + f" ({short})" * bool(short)
        for short, (experts, words) in findings.items()
    ]
    each = ", on the specialists within each corpus," * (len(found) > 1)
    what = f"Against generic pretraining{each} the loss" if differences else "The loss"
    finding = f"{what} {f'with {min(counts)} is ' * (len(counts) == 1)}{'; '.join(said)}"
    return Chart("experts", f"{finding} (nats/token)", caption, frame, lambda: chart.draw(frame))


def _short(views: Iterable[View]) -> dict[str, str]:
    """For the title of each of several views the first that no other has of its scale, its model, the name of its
    corpus, and scale and corpus together."""
    parts = {view.title: [view.setting[key] for key in ("scale", "model", "data")] for view in views}
    if len(parts) == 1:
        return dict.fromkeys(parts, "")
    said = {name: [*own, f"{own[0]} on {own[-1]}"] for name, own in parts.items()}
    return {
        name: next((words for words in own if sum(words in other for other in said.values()) == 1), name)
        for name, own in said.items()
    }


def _rows(view: View) -> list[dict]:
    """The points of a view, for each label on its own seeds; of many methods a handful."""
    runs, rows = view.methods, []
    methods = {runs.method[label] for label in handful(view, view.shown)}
    labels = [label for label in view.shown if runs.method[label] in methods]
    tokens = {runs.training_tokens[label] for label in labels if runs.n_experts[label]}
    for label in labels:
        n, method = int(runs.n_experts[label]), runs.method[label]
        if not n and (method not in REFERENCES or runs.training_tokens[label] not in tokens):
            continue  # a reference on other training tokens says nothing of the experts
        line, values = label.replace(f"{method} n={n}", method, 1), view.by_seed(label)
        kinds = {"loss": values.get("specialists"), "difference": values.get("difference")}
        panels = {f"{view.title}: {kind}": each for kind, each in kinds.items()}
        rows += points(panels, line, n or None, scale=view.title, label=label)
    return rows


def _finding(view: View, frame: pd.DataFrame, panels: Collection[str]) -> tuple[str, str]:
    """The most experts, and what they give, in the last line of those with most numbers of experts (the soup's).
    `panels`: those with differences."""
    rows = frame[frame.x.notna()]
    numbers = rows.groupby("line", sort=False).x.nunique()
    rows = rows[rows.line == numbers.index[numbers == numbers.max()][-1]]
    rows = rows[rows.x == rows.x.max()]
    differences = rows[rows.panel.isin(panels)].value
    experts = f"{rows.x.iloc[0]:g} expert{'s' if rows.x.iloc[0] > 1 else ''}"
    if len(differences):
        dense = frame[(frame.label == "dense_on_pi") & frame.panel.isin(panels)].value
        better = mean(dense) < mean(differences)  # False without one
        words = lead(view, rows.label.iloc[-1])[0]
        return experts, words + (f", and that of dense_on_pi {lead(view, 'dense_on_pi')[0]}" if better else "")
    return experts, f"{mean(rows.value):.2f}"
