"""Loss of the soups against the distribution pi that their domain weights are drawn from in training."""

import re

import pandas as pd

from soe_bench.report.effects import Soups, most_seeds
from soe_bench.report.figures.pieces import TITLES, Lines, looks, points, seeds_note, trained_on
from soe_bench.report.figures.style import Chart, colours
from soe_bench.report.stats import mean
from soe_bench.report.view import View

PI = re.compile(r"support 1\.\.(\d+) (.+)")  # as MetaDistribution writes itself


def support_chart(view: View) -> Chart | None:
    """The soups of as many training tokens and draws per step as the main ones, with the generic run beside them, on
    the seeds that all have; None unless one number of experts was trained with two of them, and without such a seed."""
    main = Soups(view).runs
    main = main[main.n_experts > 0]
    if not len(main):
        return None
    first = main.iloc[0]
    runs = view.runs[view.runs.method == "soup"]
    runs = runs[(runs.training_tokens == first.training_tokens) & (runs.draws_per_step == first.draws_per_step)]
    chosen, left_out = _choose(runs)
    frame = pd.DataFrame([row for label, facts in chosen.items() for row in _rows(view, label, **facts)])
    frame = frame[frame.groupby("n_experts").label.transform("nunique") > 1] if len(frame) else frame
    if frame.empty:
        return None
    frame = frame.sort_values(["panel", "n_experts", "line", "x", "seed"], ascending=[False, *[True] * 4])
    if generic := view.generic_for(first.label):
        frame = pd.concat([frame, pd.DataFrame(_rows(view, generic, "generic", 0, None))], ignore_index=True)
    frame = frame[frame.seed.isin(set.intersection(*frame.groupby("label").seed.agg(set)))].reset_index(drop=True)
    if frame.empty:
        return None
    gone = f" Not shown, several recipes or no support: {'; '.join(left_out)}." if left_out else ""
    caption = (
        "In training each draw of the domain weights h has 1 to m domains. The loss is on test text, without "
        "fine-tuning; that of the specialists is a mean over those within the corpus. The legend has for each line the "
        "number n of experts, whether domains are drawn by their size (by h_0) or all are equally likely (by uniform), "
        "the distribution of their weights (with Dirichlet(1) all weights that sum to 1 are equally likely), and the "
        f"fraction of draws that are h_0 itself.{seeds_note(frame)}{gone}\n"
        f"{view.title}{trained_on(view, set(frame.label))}"
    )
    lines = Lines(looks(frame, colours(view)), "most domains m of h in training (log scale)", TITLES, "{:g}".format)
    return Chart("support" + view.suffix, _finding(frame), caption, frame, lambda: lines.draw(frame))


def _choose(runs: pd.DataFrame) -> tuple[dict[str, dict], list[str]]:
    """Label -> line, number of experts, support: of each pi the recipe with most seeds; and what has no such one."""
    chosen, left_out = {}, []
    for (n, pi), group in runs.groupby(["n_experts", "pi"]):
        law, most = PI.fullmatch(pi), most_seeds(group)
        if law and len(most) == 1:
            chosen[most[0]] = {"line": f"n={n}, {law[2]}", "n": n, "support": int(law[1])}
        else:
            left_out.append(f"n={n}, {pi}")
    return chosen, left_out


def _rows(view: View, label: str, line: str, n: int, support: int | None) -> list[dict]:
    """A row per text and seed; none if it lacks a specialist."""
    texts = {panel: values for panel, values in view.by_seed(label).items() if panel != "difference"}
    return points(texts, line, support, n_experts=n, label=label)


def _draws(most: float) -> str:
    return "one domain in each draw" if most == 1 else f"up to {most:g} domains in a draw"


def _finding(frame: pd.DataFrame) -> str:
    """The pi with the lowest mean, for each text."""
    means = frame.dropna(subset="x").groupby(["panel", "line", "x"]).value.agg(mean)
    best = {text: values.idxmin() for text, values in means.groupby("panel")}
    words = {"specialists": "the loss on the specialists", "generic": "that on generic text"}
    found = [f"with {_draws(best[text][2])}, {words[text]} is lowest" for text in words if text in best]
    text = "; ".join(found)
    return f"With one seed: {text}" if frame.seed.nunique() == 1 else text[0].upper() + text[1:]
