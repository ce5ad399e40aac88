"""The corpus: size and main source of each domain, where each specialist lies among them, how much lies outside."""

import math
import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from soe_bench.errors import UserError
from soe_bench.report.style import FIXED, GREY, OTHERS, Chart, footer
from soe_bench.report.tables.corpus import MOST_BEYOND_Q99
from soe_bench.report.view import GENERIC_TEXT

SOURCES = ("#0072B2", FIXED["dense_on_pi"], *OTHERS[:-1])
MOST_TICKS = 80


def domains_charts(domains: pd.DataFrame | None, specialists: pd.DataFrame | None) -> list[Chart]:
    """One chart a corpus (the first in order has the plain name); no specialists, no lower panel."""
    charts = []
    for number, ((data, fingerprint), rows) in enumerate(
        domains.groupby(["data", "data_fingerprint"]) if domains is not None else []
    ):
        rows = rows.sort_values(["fraction", "domain"], ascending=[False, True])
        places = (
            None if specialists is None else _places(specialists[specialists.data_fingerprint == fingerprint], rows)
        )
        suffix = "" if number == 0 else "_" + re.sub(r"[^A-Za-z0-9.]+", "-", f"{data}-{fingerprint[:8]}")
        title = f"data {data} {fingerprint[:12]}"
        charts.append(
            Chart(
                "domains" + suffix,
                _frame(rows, places),
                lambda rows=rows, places=places, title=title: _draw(rows, places, title),
            )
        )
    return charts


def main_source(text: str) -> str:
    """The first name of `botocore 71%; django 12%`."""
    return re.sub(r"\s+[\d.]+\s*%?$", "", text.split(";")[0].strip())


def parse_pairs(text: str, specialist: str) -> dict[int, float]:
    """`12:0.61; 3:0.22` -> {12: 0.61, 3: 0.22}."""
    try:
        return {
            int(domain): float(share) for domain, share in (pair.split(":") for pair in text.split(";") if pair.strip())
        }
    except ValueError:
        raise UserError(
            f"specialists.csv: nearest_domains of {specialist!r} is {text!r}, not `12:0.61; 3:0.22`: restore the file"
        ) from None


def _places(specialists: pd.DataFrame, domains: pd.DataFrame) -> pd.DataFrame | None:
    """Specialists x domains in the order of `domains` (NaN where not among the nearest), `outside` last."""
    rows = specialists[(specialists.split == "estimate") & (specialists.specialist != GENERIC_TEXT)].set_index(
        "specialist"
    )
    if rows.empty:
        return None
    order = [int(domain) for domain in domains.domain]
    table = pd.DataFrame(
        [parse_pairs(text, name) for name, text in rows.nearest_domains.items()], index=rows.index
    ).reindex(columns=order)
    first = table.fillna(0).to_numpy().argmax(axis=1)
    table["outside"] = rows.fraction_beyond_q99
    return table.iloc[np.lexsort((np.arange(len(table)), first))]


def _frame(domains: pd.DataFrame, places: pd.DataFrame | None) -> pd.DataFrame:
    """One row a domain, one column a specialist (its share of h on the domain, empty where not among its nearest)."""
    frame = pd.DataFrame(
        {
            "domain": [int(domain) for domain in domains.domain],
            "h_0": list(domains.fraction),
            "main_source": [main_source(text) for text in domains.top_sources],
        }
    )
    shares = {} if places is None else {name: list(row) for name, row in places.drop(columns="outside").iterrows()}
    return frame.assign(**shares)


def _draw(domains: pd.DataFrame, places: pd.DataFrame | None, title: str) -> Figure:
    k = len(domains)
    width = min(max(5.5 + 0.15 * k, 8), 15)
    if places is None:
        figure = Figure(figsize=(width, 3.4))
        top = figure.subplots()
    else:
        figure = Figure(figsize=(width, 4.0 + 0.26 * len(places)))
        grid = figure.subplots(
            2, 2, width_ratios=(4.6, 1), height_ratios=(2.3, 0.26 * len(places)), sharex="col", sharey="row"
        )
        top = grid[0, 0]
        _legend_only(grid[0, 1], domains)
        _heat_map(figure, grid[1, 0], places)
        _outside(grid[1, 1], places)
    _sizes(top, domains)
    if places is None:
        top.legend(handles=_handles(domains), title="main source", loc="upper right", ncols=2)
    bottom = top if places is None else grid[1, 0]
    bottom.set_xlabel("domain, largest first")
    if k <= MOST_TICKS:
        bottom.set_xticks(range(k), [f"{domain:g}" for domain in domains.domain], fontsize=9 if k <= 32 else 6.5)
    footer(
        figure,
        "Shares by tokens; only a specialist's nearest domains are shown. "
        f"Outside the corpus: more than the dashed {100 * MOST_BEYOND_Q99:g} % beyond q99; of generic text 1 % is.\n"
        f"{title}",
    )
    return figure


def _palette(domains: pd.DataFrame) -> dict[str, str]:
    """Source -> colour, by total share; the rest is grey."""
    sources = domains.top_sources.map(main_source)
    totals = {source: math.fsum(group) for source, group in domains.fraction.groupby(sources)}
    ranked = sorted(totals, key=lambda source: (-totals[source], source))
    return {source: SOURCES[i] if i < len(SOURCES) else "#bdbdbd" for i, source in enumerate(ranked)}


def _handles(domains: pd.DataFrame) -> list[Patch]:
    palette = _palette(domains)
    named = [Patch(color=colour, label=source) for source, colour in palette.items()][: len(SOURCES)]
    return named + [Patch(color="#bdbdbd", label="other")] * (len(palette) > len(SOURCES))


def _sizes(axes: Axes, domains: pd.DataFrame) -> None:
    palette = _palette(domains)
    axes.bar(
        range(len(domains)),
        100 * domains.fraction,
        width=0.85,
        color=[palette[main_source(text)] for text in domains.top_sources],
    )
    axes.set_xlim(-0.6, len(domains) - 0.4)
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("share of the generic\ncorpus, $h_0$ (%)")
    axes.set_title("Domains: size and main source")


def _legend_only(axes: Axes, domains: pd.DataFrame) -> None:
    axes.set_axis_off()
    axes.legend(
        handles=_handles(domains), title="main source", loc="center left", ncols=1, fontsize=8.5, borderaxespad=0
    )


def _heat_map(figure: Figure, axes: Axes, places: pd.DataFrame) -> None:
    values = places.drop(columns="outside")
    image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="Blues", vmin=0, vmax=1)
    axes.set_yticks(range(len(places)), places.index)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(places) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_title("Specialists: their weights h on the domains")
    bar = figure.colorbar(image, ax=axes, location="left", label="weight in h", shrink=0.8, aspect=18, pad=0.02)
    bar.outline.set_visible(False)


def _outside(axes: Axes, places: pd.DataFrame) -> None:
    axes.barh(range(len(places)), 100 * places.outside, height=0.65, color=GREY)
    axes.axvline(100 * MOST_BEYOND_Q99, color="black", linestyle="--", linewidth=1)
    axes.set_xlim(0, max(20, 110 * places.outside.max()))
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.tick_params(axis="x", labelbottom=True)
    axes.grid(axis="x")
    axes.set_xlabel("passages beyond q99\nof the distances (%)")
    axes.set_title("Outside")
