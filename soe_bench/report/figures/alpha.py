"""Heat maps of the coefficients alpha: specialists x experts, rows and columns ordered so that structure shows."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.special import xlogy

from soe_bench.errors import UserError
from soe_bench.report.figures.pieces import heat_map, trained_on
from soe_bench.report.figures.style import Chart
from soe_bench.report.view import GENERIC_TEXT, View

ALWAYS = 16  # experts: shown beside the largest soup


def alpha_charts(view: View, alpha: pd.DataFrame) -> list[Chart]:
    """The largest soup of the view and the one with 16 experts.

    Each for its first seed: experts of different seeds have nothing in common.
    """
    rows = alpha[alpha.run_id.isin(view.labels.keys()) & (alpha.method == "soup")]
    charts = []
    for n in sorted({rows.n_experts.max(), ALWAYS} & set(rows.n_experts)):
        runs = rows[rows.n_experts == n]
        _, seed, run = min((view.labels[row.run_id], row.seed, row.run_id) for row in runs.itertuples())
        table = _ordered(_table(runs[runs.run_id == run], run))
        frame = table.rename_axis(columns="expert").stack().rename("alpha").reset_index()
        caption = (
            f"The coefficients alpha that the router of {view.labels[run]}, seed {seed}, gives at the domain weights h "
            "of each specialist (estimated from text of its own that is kept for this), and at h_0 for generic text. "
            "Rows are in the order of a hierarchical clustering; experts are grouped by the specialist that "
            "weights them most. How many experts a text uses is the exponential of the entropy of its coefficients "
            "(their sizes, divided by their sum): n if all are equal, 1 if all but one are 0.\n"
            f"{view.title}{trained_on(view, [view.labels[run]])}"
        )
        charts.append(
            Chart(f"alpha_n{n:g}{view.suffix}", _finding(table, seed), caption, frame, lambda t=table: _draw(t))
        )
    return charts


def _table(rows: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """Specialists x experts; raises UserError unless each pair is there once."""
    table = rows.pivot_table(index="specialist", columns="expert", values="alpha")
    if len(rows) != table.size or table.isna().any(axis=None):
        raise UserError(f"alpha.csv: run {run_id} has missing or double coefficients: restore the file")
    return table


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by hierarchical clustering (generic text last); experts by the specialist that uses them most."""
    names = [name for name in table.index if name != GENERIC_TEXT]
    if len(names) > 2:
        names = [names[i] for i in leaves_list(linkage(table.loc[names], method="average", optimal_ordering=True))]
    strength = table.loc[names or table.index].abs().to_numpy()
    columns = np.lexsort((np.arange(table.shape[1]), -strength.max(axis=0), strength.argmax(axis=0)))
    rows = names + [GENERIC_TEXT] * (GENERIC_TEXT in table.index)
    return table.loc[rows].iloc[:, columns].rename(columns=int)


def _finding(table: pd.DataFrame, seed: str) -> str:
    """How many experts a text uses, and how many are the strongest one of a text."""
    sizes = table.abs().to_numpy()
    shares = sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1e-300)
    used = np.exp(-xlogy(shares, shares).sum(axis=1)).mean()
    first = len(set(sizes.argmax(axis=1)))
    return (
        f"In seed {seed} a text uses {used:.1f} of the {table.shape[1]} experts on average; {first} "
        f"{'is' if first == 1 else 'are'} the strongest for at least one of the {len(table)} kinds of text"
    )


def _draw(table: pd.DataFrame) -> Figure:
    n_rows, n_columns = table.shape
    figure = Figure(figsize=(min(max(3.4 + 0.165 * n_columns, 7.4), 13.5), 2.0 + 0.27 * n_rows))
    axes = figure.subplots()
    signed, top = bool((table < 0).any(axis=None)), float(table.abs().max(axis=None))
    bar = dict(label="coefficient α", pad=0.015, fraction=0.05, aspect=30)
    heat_map(axes, table, bar, cmap="PuOr_r" if signed else "Blues", vmin=-top if signed else 0, vmax=top)
    if GENERIC_TEXT in table.index:
        axes.axhline(n_rows - 1.5, color="black", linewidth=0.8)
    axes.set_xlabel("expert")
    return figure
