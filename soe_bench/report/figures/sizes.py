"""Loss, and gain over generic, against the size of the base model, at equal tokens per parameter and equal tokens."""

import pandas as pd

from soe_bench.report.effects import NotRun, Soups
from soe_bench.report.figures.pieces import TITLES, Lines, points, said, seeds_note
from soe_bench.report.figures.style import FIXED, OWN_MARKERS, Chart, soup_colour
from soe_bench.report.view import View

EXPERTS = 16
STYLES = {"tokens per parameter": "-", "tokens": ":"}  # what is equal between the sizes -> line style
METHODS = {f"soup n={EXPERTS}": soup_colour(EXPERTS), "generic": FIXED["generic"]}


def sizes_chart(views: list[View]) -> Chart | None:
    """The views of the first one's corpus, each size on all seeds that both methods have; None unless two sizes have
    both on every specialist."""
    if not views:
        return None
    soups = Soups(views[0], views)
    models = list(dict.fromkeys(view.setting["model"] for view in views if view.same_text(soups.view)))
    found = [[row for model in models for row in _rows(soups, equal, model)] for equal in STYLES]
    frame = pd.DataFrame([row for rows in found if len({row["x"] for row in rows}) > 1 for row in rows])
    if frame.empty:
        return None
    frame = frame.sort_values(["panel", "line", "x", "seed"], ascending=[False, True, True, True], ignore_index=True)
    drawn = " ".join(
        f"Along a {look} line every size has as many training {equal}."
        for equal, look in zip(STYLES, ("full", "dotted"), strict=True)
        if equal in set(frame.equal)
    )
    caption = (
        f"Test text, no fine-tuning, mean over the specialists within the corpus, with {EXPERTS} experts. "
        f"{drawn}{seeds_note(frame)}\n{soups.view.text}"
    )
    models = frame.drop_duplicates("x").set_index("x").model
    lines = Lines(
        {
            f"{line}, equal {equal}": {"color": colour, "marker": OWN_MARKERS[line], "linestyle": style}
            for equal, style in STYLES.items()
            for line, colour in METHODS.items()
        },
        "base model: parameters (log scale) and name",
        TITLES | {"loss": "Loss on the specialists"},
        lambda x: f"{x:,.0f}\n{models[x]}",
    )
    return Chart("sizes", _finding(frame), caption, frame, lambda: lines.draw(frame))


def _rows(soups: Soups, equal: str, model: str) -> list[dict]:
    """A row per method, panel and seed; none without a record of both methods on every specialist."""
    try:
        other = soups.at(model, equal)
        labels = [label := other.label(EXPERTS), other.generic(label)]
    except NotRun:
        return []
    facts = {"equal": equal, "model": model, "training_tokens": int(other.view.methods.training_tokens[labels[0]])}
    size = int(other.runs.parameters.iloc[0])
    both = [other.view.by_seed(label) for label in labels]
    if not all(both):
        return []
    rows, seeds = [], both[0]["difference"].index
    for line, values in zip(METHODS, both, strict=True):
        panels = {"loss": values["specialists"][seeds], "difference": values.get("difference")}
        rows += points(panels, f"{line}, equal {equal}", size, **facts)
    return rows


def _finding(frame: pd.DataFrame) -> str:
    rows = frame[(frame.panel == "difference") & (frame.equal == frame.equal.iloc[-1])].sort_values("x")
    gains = [f"{said(own.value)} for {size:,.0f} parameters" for size, own in rows.groupby("x")]
    return f"Against generic pretraining the loss with {EXPERTS} experts is {'; '.join(gains)} (nats/token)"
