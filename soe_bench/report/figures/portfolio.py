"""Loss against all the FLOPs that a portfolio of N specialists takes: what is trained once serves all of them, what is
trained for each is paid N times."""

import pandas as pd

from soe_bench.report.figures.pieces import Lines, looks, points, seeds_note
from soe_bench.report.figures.style import Chart, colours
from soe_bench.report.format import in_words
from soe_bench.report.spending import spending
from soe_bench.report.stats import mean
from soe_bench.report.tables.budgets import with_budget
from soe_bench.report.view import VARIANTS, View

SIZES = {f"N = {n}": n for n in (1, 4, 16, 64)}  # panel -> specialists of a portfolio
FINDING = 16  # specialists: the size whose finding is the title
OVERHEAD = 1.05  # a method may take 5 % more FLOPs than the soup, which has a small overhead of its own
ALONE = "no other method was run at so few FLOPs"


def portfolio_chart(view: View) -> Chart | None:
    """Of generic pretraining (fine-tuned too), the soups, and the methods that train a model per specialist; None
    unless one of them was trained on different numbers of tokens. `x` is the FLOPs of training and delivery. One panel,
    if nothing is paid per specialist."""
    frame = pd.DataFrame([row for label in view.shown for row in _rows(view, label)])
    if frame.empty or frame.groupby("line").training_tokens.nunique().max() < 2:
        return None
    if (frame.x <= OVERHEAD * frame.groupby(["line", "training_tokens"]).x.transform("min")).all():
        frame = frame[frame.panel == f"N = {FINDING}"]
    frame = frame.sort_values("panel", key=lambda panels: panels.map(SIZES), kind="stable", ignore_index=True)
    findings = {panel: _finding(rows) for panel, rows in frame.groupby("panel", sort=False)}
    caption = (
        "The vertical axis is the mean test loss over the specialists within the corpus, the horizontal one the FLOPs "
        "that N of them take together: training, fine-tuning and its trials. One training of the soup or of generic "
        "pretraining serves all N; a method that trains a model per specialist pays N times, but once for the "
        "parent that these start from. Along a line the runs have more and more training tokens. A "
        "title compares the soup with the best of the methods that take at most 5 % more FLOPs, on the seeds that both "
        "have, by the loss that is drawn. Merges, and methods that adjust logits, are not here."
        + " Nothing here is paid per specialist, so that other N give the same." * (len(findings) == 1)
        + f"{seeds_note(frame)}\n{view.title}"
    )
    finding = findings[f"N = {FINDING}"]
    if finding != ALONE:
        finding = (
            f"For {FINDING} specialists the soup's loss is {finding}, the best other method here that takes at most "
            "5 % more FLOPs"
        )
    titles = {panel: f"{panel}: {'soup ' * (text != ALONE)}{text}" for panel, text in findings.items()}
    lines = Lines(looks(frame, colours(view)), "FLOPs for N specialists (log scale)", titles, rows=min(2, len(titles)))
    return Chart("portfolio" + view.suffix, finding, caption, frame, lambda: lines.draw(frame))


def _rows(view: View, label: str) -> list[dict]:
    """The points of one label, without fine-tuning and for each budget of it."""
    run = view.methods.loc[label]
    if run.method not in ("generic", "soup") and pd.isna(run.trained_for):
        return []
    rows, tokens = [], int(run.training_tokens)
    for budget in sorted(set(view.all[view.all.label == label].budget_tokens) if run.method == "generic" else {0}):
        costs, losses = spending(view, label, budget), view.seed_means(view.losses(label, budget=budget))
        if losses.empty or not set(losses.index) <= set(costs.index):
            continue
        line = with_budget(label.replace(f", {VARIANTS['training_tokens'](tokens)}", ""), budget)
        for panel, n in SIZES.items():
            flops = mean(costs.flops_once[losses.index] + n * costs.flops_each[losses.index])
            rows += points({panel: losses}, line, flops, label=label, training_tokens=tokens)
    return rows


def _finding(frame: pd.DataFrame) -> str:
    """The soup with most experts, on most tokens, against the best of the other methods that take no more FLOPs, each
    on the seeds that both have."""
    losses = frame.pivot(index="seed", columns=["line", "x", "label"], values="value")
    soups = [line for line in frame.line.unique() if line.startswith("soup")]
    for own in sorted((key for key in losses if key[0] in soups[-1:]), key=lambda key: key[1:], reverse=True):
        limit = own[1] * OVERHEAD
        affordable = [key for key in losses if not key[0].startswith("soup") and key[1] <= limit]
        paired = {key: (losses[own] - losses[key]).dropna() for key in affordable}
        differences = {key: mean(values) for key, values in paired.items() if len(values)}
        if differences:
            best = max(differences, key=differences.__getitem__)
            return in_words(differences[best], best[0])
    return ALONE
