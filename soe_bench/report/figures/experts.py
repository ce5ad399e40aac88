"""Specialist loss against the number of experts, with the dense references as horizontal lines."""

from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from soe_bench.report.figures.selection import handful
from soe_bench.report.stats import mean
from soe_bench.report.style import MARKERS, STYLES, Chart, colours, footer, line_styles, with_seeds
from soe_bench.report.view import View

REFERENCES = ("generic", "dense_on_pi")


def experts_chart(view: View) -> Chart | None:
    """None unless some method with experts has a record for every specialist and seed. Of many methods a handful,
    on the seeds of the one with experts that has most: what lacks one of them is left out, and named."""
    rows = view.records.drop_duplicates("label").set_index("label")
    shown = {rows.method[label] for label in handful(view, view.shown)}
    table, missing = [], []
    for label in view.shown:
        n, method = int(rows.n_experts[label]), rows.method[label]
        if method not in shown or (n == 0 and method not in REFERENCES):
            continue
        means = view.seed_means(view.losses(label))
        if means is None:
            missing.append(label)
            continue
        line = label.replace(f"{method} n={n}", method, 1)
        table += [
            {"line": line, "label": label, "n_experts": n, "seed": seed, "loss": means[seed]} for seed in means.index
        ]
    frame = pd.DataFrame(table, columns=["line", "label", "n_experts", "seed", "loss"])
    seeds = max(frame[frame.n_experts > 0].groupby("label").seed.agg(set), key=len, default=None)
    if seeds is None:
        return None
    frame = frame[frame.seed.isin(seeds)]
    fewer = frame.groupby("label").seed.transform("nunique") < len(seeds)
    missing += frame[fewer].label.unique().tolist()
    frame = frame[~fewer].reset_index(drop=True)
    return Chart("experts" + view.suffix, frame, lambda: _draw(view, frame, missing))


def _draw(view: View, frame: pd.DataFrame, missing: list[str]) -> Figure:
    figure = Figure(figsize=(7.4, 4.4))
    axes = figure.subplots()
    palette, references = colours(view), frame[frame.n_experts == 0]
    styles = line_styles(references.label.unique(), palette, STYLES[1:])  # a reference is never a full line
    for label, group in references.groupby("label", sort=False):
        _reference(axes, label, group, palette[label], styles[label])
    for marker, (line, group) in zip(cycle(MARKERS), frame[frame.n_experts > 0].groupby("line"), strict=False):
        _line(axes, line, group, palette, marker)
    counts = sorted(set(frame.n_experts) - {0})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlim(min(counts) / 1.4, max(counts) * 1.4)
    axes.margins(y=0.12)
    axes.grid(axis="y")
    axes.set_xlabel("number of experts n (log scale)")
    axes.set_ylabel("loss on specialists (nats/token)")
    axes.set_title("Specialist loss against the number of experts")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    seeds = " Dashes: single seeds; bands: lowest to highest seed." if frame.seed.nunique() > 1 else ""
    gone = f" Not shown, cells or seeds missing: {'; '.join(missing)}." if missing else ""
    text = f"Mean over {len(view.specialists)} specialists' test text, no fine-tuning.{seeds}{gone}\n{view.title}"
    footer(figure, text)
    return figure


def _reference(axes: Axes, label: str, group: pd.DataFrame, colour: object, style: str | tuple) -> None:
    axes.axhspan(group.loss.min(), group.loss.max(), color=colour, alpha=0.12, linewidth=0)
    axes.axhline(mean(group.loss), color=colour, linestyle=style, linewidth=1.6, label=with_seeds(label, len(group)))


def _line(axes: Axes, line: str, group: pd.DataFrame, palette: dict[str, object], marker: str) -> None:
    """A line through the means over seeds, a mark at each mean and a dash at each seed."""
    colour = palette[group.label.iloc[-1]]
    means = {label: mean(rows.loss) for label, rows in group.groupby("label", sort=False)}
    counts = group.drop_duplicates("label").n_experts
    look = {"marker": marker, "markersize": 7.5, "markeredgecolor": "white"}
    legend = with_seeds(line, group.groupby("label").size().min())
    axes.plot(counts, list(means.values()), color=colour, linewidth=1.8, label=legend, zorder=2, **look)
    for count, (label, centre) in zip(counts, means.items(), strict=True):
        losses = group[group.label == label].loss
        if len(losses) > 1:
            axes.plot([count] * len(losses), losses, "_", markersize=11, color=palette[label], zorder=3)
        axes.plot(count, centre, color=palette[label], zorder=4, **look)
