"""Heat maps of the coefficients alpha: specialists x experts, rows and columns ordered so that structure shows."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage

from soe_bench.errors import UserError
from soe_bench.report.style import Chart, footer
from soe_bench.report.view import GENERIC_TEXT, View

ALWAYS = 16  # experts: shown beside the largest soup
MOST_TICKS = 80


def alpha_charts(view: View, alpha: pd.DataFrame | None) -> list[Chart]:
    """The largest soup of the view and the one with 16 experts.

    Each for its first seed: experts of different seeds have nothing in common.
    """
    if alpha is None:
        return []
    rows = alpha[alpha.run_id.isin(view.labels.keys()) & (alpha.method == "soup")]
    charts = []
    for n in sorted({rows.n_experts.max(), ALWAYS} & set(rows.n_experts)):
        runs = rows[rows.n_experts == n]
        run = min(set(runs.run_id), key=lambda run_id: (view.labels[run_id], _seed(runs, run_id), run_id))
        table = _ordered(_table(runs[runs.run_id == run], run))
        title = f"{view.labels[run]}, seed {_seed(runs, run)}"
        charts.append(
            Chart(
                f"alpha_n{n:g}{view.suffix}", _long(table), lambda table=table, title=title: _draw(view, table, title)
            )
        )
    return charts


def _table(rows: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """Specialists x experts; raises UserError unless each pair is there once."""
    table = rows.pivot_table(index="specialist", columns="expert", values="alpha")
    if len(rows) != table.size or table.isna().any(axis=None):
        raise UserError(f"alpha.csv: run {run_id} has missing or double coefficients: collect the run again")
    return table


def _seed(rows: pd.DataFrame, run_id: str) -> str:
    return rows[rows.run_id == run_id].seed.iloc[0]


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by hierarchical clustering (generic text last); experts by the specialist that uses them most."""
    names = [name for name in table.index if name != GENERIC_TEXT]
    values = table.loc[names].to_numpy()
    if len(names) > 2:
        names = [names[i] for i in leaves_list(linkage(values, method="average", optimal_ordering=True))]
    strength = table.loc[names].abs().to_numpy()
    top = strength.argmax(axis=0)
    columns = np.lexsort((np.arange(table.shape[1]), -strength.max(axis=0), top))
    rows = names + [GENERIC_TEXT] * (GENERIC_TEXT in table.index)
    return table.loc[rows].iloc[:, columns].rename(columns=int)


def _long(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename_axis(columns="expert").stack().rename("alpha").reset_index()


def _draw(view: View, table: pd.DataFrame, title: str) -> Figure:
    n_rows, n_columns = table.shape
    figure = Figure(figsize=(min(max(2.6 + 0.165 * n_columns, 6.4), 13.5), 1.7 + 0.27 * n_rows))
    axes = figure.subplots()
    signed = bool((table < 0).any(axis=None))
    top = float(table.abs().max(axis=None))
    image = axes.imshow(
        table,
        aspect="auto",
        interpolation="nearest",
        cmap="PuOr_r" if signed else "Blues",
        vmin=-top if signed else 0,
        vmax=top,
    )
    axes.set_yticks(range(n_rows), table.index)
    if n_columns <= MOST_TICKS:
        axes.set_xticks(range(n_columns), table.columns, fontsize=9 if n_columns <= 32 else 6.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    if GENERIC_TEXT in table.index:
        axes.axhline(n_rows - 1.5, color="black", linewidth=0.8)
    axes.set_xlabel("expert, beside those of the specialist that uses it most")
    axes.set_title(f"Coefficients of the experts\n{title}")
    figure.colorbar(
        image, ax=axes, label=r"coefficient $\alpha$", pad=0.015, fraction=0.05, aspect=30
    ).outline.set_visible(False)
    footer(
        figure,
        "h from each specialist's estimate split; generic text at h_0. Rows in the order of a hierarchical "
        "clustering.\n"
        f"{view.title}",
    )
    return figure
