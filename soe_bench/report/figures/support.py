"""Loss of the soups against the law pi that their domain weights are drawn from in training."""

import re

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from soe_bench.report.effects import Soups, most_seeds
from soe_bench.report.stats import mean
from soe_bench.report.style import FIXED, MARKERS, STYLES, Chart, footer, soup_colour, with_seeds
from soe_bench.report.view import View

PI = re.compile(r"support 1\.\.(\d+) (.+)")  # as MetaDistribution writes itself
TITLES = {"specialists": "Specialists", "generic": "Generic text, h at $h_0$"}
COLUMNS = ["text", "line", "n_experts", "support", "label", "seed", "loss"]


def support_chart(view: View) -> Chart | None:
    """The soups of as many training tokens and draws a step as the main ones, with the generic run beside them, on the
    seeds that all have; None unless one number of experts was trained under two laws, and without such a seed."""
    main = Soups(view).runs
    main = main[main.n_experts > 0]
    if not len(main):
        return None
    first = main.iloc[0]
    runs = view.records[view.records.method == "soup"].drop_duplicates("run_id")
    runs = runs[(runs.training_tokens == first.training_tokens) & (runs.draws_per_step == first.draws_per_step)]
    chosen, left_out = _choose(runs)
    rows = [row for label, facts in chosen.items() for row in _rows(view, label, facts)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame = frame[frame.groupby("n_experts").label.transform("nunique") > 1]
    if not len(frame):
        return None
    frame = frame.sort_values(["text", "n_experts", "line", "support", "seed"], ignore_index=True)
    generic = view.generic_for(first.label)
    if generic:
        facts = {"line": "generic", "n_experts": 0, "support": ""}
        frame = pd.concat([pd.DataFrame(_rows(view, generic, facts)), frame.astype({"support": object})])
    common = set.intersection(*frame.groupby("label").seed.agg(set))
    frame = frame[frame.seed.isin(common)].reset_index(drop=True)
    return Chart("support" + view.suffix, frame, lambda: _draw(view, frame, left_out)) if len(frame) else None


def _choose(runs: pd.DataFrame) -> tuple[dict[str, dict], list[str]]:
    """Label -> line, number of experts, support: of each law the recipe with most seeds; and what has no such one."""
    chosen, left_out = {}, []
    for (n, pi), group in runs.groupby(["n_experts", "pi"]):
        law, most = PI.fullmatch(pi), most_seeds(group)
        if law and len(most) == 1:
            chosen[most[0]] = {"line": f"n={n}, {law[2]}", "n_experts": n, "support": int(law[1])}
        else:
            left_out.append(f"n={n}, {pi}")
    return chosen, left_out


def _rows(view: View, label: str, facts: dict) -> list[dict]:
    """A row a text and seed; none for a text that has no record, or specialists with a hole."""
    own = view.generic_text_losses(label)
    losses = {"specialists": view.seed_means(view.losses(label)), "generic": own.droplevel("specialist")}
    return [
        {"text": text, **facts, "label": label, "seed": seed, "loss": loss}
        for text, values in losses.items()
        if values is not None
        for seed, loss in values.items()
    ]


def _draw(view: View, frame: pd.DataFrame, left_out: list[str]) -> Figure:
    figure = Figure(figsize=(11.5, 4.4))
    panels = dict(zip(TITLES, figure.subplots(1, 2), strict=True))
    for text, axes in panels.items():
        _panel(axes, frame[frame.text == text])
        axes.set_title(TITLES[text])
    panels["specialists"].set_ylabel("loss (nats/token)")
    figure.legend(*panels["specialists"].get_legend_handles_labels(), loc="outside right center")
    seeds = " Dashes: single seeds; band: lowest to highest." if frame.seed.nunique() > 1 else ""
    gone = f" Not shown, several recipes or no support: {', '.join(left_out)}." if left_out else ""
    footer(figure, f"Training draws h on 1..m domains; test text, no fine-tuning.{seeds}{gone}\n{view.title}")
    return figure


def _panel(axes: Axes, frame: pd.DataFrame) -> None:
    soups = frame[frame.n_experts > 0]
    for place, (line, rows) in enumerate(soups.groupby("line", sort=False)):
        _line(axes, line, rows, MARKERS[place % len(MARKERS)], STYLES[place % len(STYLES)])
    generic = frame[frame.n_experts == 0].loss
    if len(generic):
        axes.axhspan(generic.min(), generic.max(), color=FIXED["generic"], alpha=0.1, linewidth=0)
        axes.axhline(
            mean(generic),
            color=FIXED["generic"],
            linestyle="--",
            linewidth=1.4,
            label=with_seeds("generic", len(generic)),
        )
    supports = sorted(set(soups.support))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(supports))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(supports, [str(support) for support in supports])
    axes.margins(x=0.08, y=0.1)
    axes.grid(axis="y")
    axes.set_xlabel("largest support m of h in training (log scale)")


def _line(axes: Axes, line: str, rows: pd.DataFrame, marker: str, style: str | tuple) -> None:
    """A line through the means over seeds, a mark at each mean and a dash at each seed."""
    colour, groups = soup_colour(rows.n_experts.iloc[0]), rows.groupby("support").loss
    means = groups.agg(mean)
    axes.plot(
        means.index,
        means,
        style,
        color=colour,
        marker=marker,
        markersize=7,
        markeredgecolor="white",
        linewidth=1.8,
        label=with_seeds(line.replace("h_0", "$h_0$"), groups.size().min()),
    )
    for support, losses in groups:
        if len(losses) > 1:
            axes.plot([support] * len(losses), losses, "_", color=colour, markersize=10)
