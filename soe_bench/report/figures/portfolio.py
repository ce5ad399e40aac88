"""Loss against all the FLOPs that a portfolio of N specialists takes: what is trained once serves all of them, what is
trained for each is paid N times."""

from collections.abc import Iterator

import pandas as pd

from soe_bench.report.figures.pieces import Lines, looks, points, said, seeds_note
from soe_bench.report.figures.style import Chart, colours
from soe_bench.report.spending import EQUAL, spending
from soe_bench.report.stats import mean
from soe_bench.report.tables.budgets import with_budget
from soe_bench.report.tables.costs import largest_soup
from soe_bench.report.view import VARIANTS, View

SIZES = {f"N = {n}": n for n in (1, 4, 16, 64)}  # panel -> specialists of a portfolio
FINDING = 16  # specialists: the size whose finding is the title


def portfolio_chart(view: View) -> Chart | None:
    """Of generic pretraining (fine-tuned too), the soups, and the methods that train a model per specialist; None
    unless one of them was trained on different numbers of tokens. `x` is the FLOPs of training and delivery. One panel,
    if nothing is paid per specialist."""
    found = {way: _rows(view, *way) for way in _ways(view)}
    frame = pd.DataFrame([row for rows in found.values() for row in rows])
    if frame.empty or frame.groupby("line").training_tokens.nunique().max() < 2:
        return None
    if (frame.x <= EQUAL[1] * frame.groupby(["line", "training_tokens"]).x.transform("min")).all():
        frame = frame[frame.panel == f"N = {FINDING}"]
    frame = frame.sort_values("panel", key=lambda panels: panels.map(SIZES), kind="stable", ignore_index=True)
    lacking = "; ".join(with_budget(*way) for way, rows in found.items() if not rows)
    panels = frame.panel.nunique()
    caption = (
        "The vertical axis is the mean test loss over the specialists within the corpus, the horizontal one the FLOPs "
        "that N of them take together: training, fine-tuning and its trials. One training of the soup or of generic "
        "pretraining serves all N; a method that trains a model per specialist pays N times, but once for the "
        "parent that these start from. Along a line the runs have more and more training tokens. The "
        "title compares a soup, on as many training tokens as most soups have, with the methods that take 95 to 105 % "
        "of its FLOPs. It names the one with the lowest loss in this figure, on the seeds that both have. Merges, "
        "methods that adjust logits, and fine-tuned soups are not here."
        + f" Left out, as some of these specialists have no record of it: {lacking}." * bool(lacking)
        + " Nothing here is paid per specialist, so that other N give the same." * (panels == 1)
        + f"{seeds_note(frame)}\n{view.title}"
    )
    lines = Lines(looks(frame, colours(view)), "FLOPs for N specialists (log scale)", rows=min(2, panels))
    return Chart("portfolio" + view.suffix, _finding(view, frame), caption, frame, lambda: lines.draw(frame))


def _ways(view: View) -> Iterator[tuple[str, int]]:
    """The labels of the figure, each without fine-tuning and, of generic pretraining, with each budget of it."""
    for label, run in view.methods.loc[view.shown].iterrows():
        if run.method in ("generic", "soup") or not pd.isna(run.trained_for):
            budgets = view.all.budget_tokens[view.all.label == label] if run.method == "generic" else [0]
            yield from ((label, budget) for budget in sorted(set(budgets)))


def _rows(view: View, label: str, budget: int) -> list[dict]:
    """The points of a label with this budget of fine-tuning; none if a specialist lacks a loss or its costs."""
    costs, losses = spending(view, label, budget), view.seed_means(view.losses(label, budget=budget))
    if losses.empty or not set(losses.index) <= set(costs.index):
        return []
    rows, tokens = [], int(view.methods.training_tokens[label])
    line = with_budget(label.replace(f", {VARIANTS['training_tokens'](tokens)}", ""), budget)
    for panel, n in SIZES.items():
        flops = mean(costs.flops_once[losses.index] + n * costs.flops_each[losses.index])
        rows += points({panel: losses}, line, flops, label=label, training_tokens=tokens)
    return rows


def _finding(view: View, frame: pd.DataFrame) -> str:
    """The largest soup that the claims compare against the best of the other methods at equal FLOPs."""
    rows = frame[frame.panel == f"N = {FINDING}"]
    own = rows[rows.label == largest_soup(view)].set_index("seed")
    low, high = (share * own.x.max() for share in EQUAL)
    others = rows[rows.x.between(low, high) & ~rows.line.str.startswith("soup")]
    differences = {
        way: values
        for way, other in others.groupby(["line", "x"])
        if len(values := (own.value - other.set_index("seed").value).dropna())
    }
    if not differences:
        return "The loss against the FLOPs that N specialists take"
    best = max(differences, key=lambda way: mean(differences[way]))
    tokens = VARIANTS["training_tokens"](own.training_tokens.iloc[0])
    words = said(differences[best], f"that of the best other method here at equal FLOPs ({best[0]})")
    return f"For {FINDING} specialists the loss of {own.line.iloc[0]}, trained on {tokens}, is {words}"
