"""Loss, and gain over generic, against the size of the base model, at equal tokens per parameter and equal tokens."""

import pandas as pd

from soe_bench.report.effects import NotRun, Soups
from soe_bench.report.figures.pieces import TITLES, Lines, points, seeds_note
from soe_bench.report.figures.style import FIXED, OWN_MARKERS, Chart, soup_colour
from soe_bench.report.format import in_words
from soe_bench.report.stats import mean
from soe_bench.report.view import View

EXPERTS = 16
STYLES = {"tokens per parameter": "-", "tokens": ":"}  # what is equal between the sizes -> line style
METHODS = {f"soup n={EXPERTS}": soup_colour(EXPERTS), "generic": FIXED["generic"]}


def sizes_chart(views: list[View]) -> Chart | None:
    """The views of the first one's corpus, on the seeds that all sizes have; None unless two sizes have both methods on
    every specialist."""
    if not views:
        return None
    soups = Soups(views[0], views)
    models = list(dict.fromkeys(view.setting["model"] for view in views if view.same_text(soups.view)))
    frame = pd.DataFrame([row for equal in STYLES for model in models for row in _rows(soups, equal, model)])
    if frame.empty:
        return None
    sizes = frame.groupby("equal").x.transform("nunique")
    frame = frame[(sizes > 1) & (frame.groupby(["panel", "line", "seed"]).x.transform("nunique") == sizes)]
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
        "parameters of the base model (log scale)",
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
    rows = []
    for line, label in zip(METHODS, labels, strict=True):
        values = other.view.by_seed(label)
        if not values:
            return []
        panels = {"loss": values["specialists"], "difference": values.get("difference")}
        rows += points(panels, f"{line}, equal {equal}", size, **facts)
    return rows


def _finding(frame: pd.DataFrame) -> str:
    rows = frame[(frame.panel == "difference") & (frame.equal == frame.equal.iloc[-1])].sort_values("x")
    gains = rows.groupby("model", sort=False).value.agg(mean)
    ends = [f"{in_words(gains[model])} for {model}" for model in (gains.index[0], gains.index[-1])]
    return f"With {EXPERTS} experts the loss, compared with generic pretraining, is {', '.join(ends)} (nats/token)"
