"""The corpus: size and main source of each domain, where each specialist lies among them, how much lies outside."""

import math
import re
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from soe_bench.records import MOST_BEYOND_Q99
from soe_bench.report.figures.pieces import MOST_TICKS, heat_map
from soe_bench.report.figures.style import FIXED, GREY, OTHERS, Chart, shortened
from soe_bench.report.format import slug
from soe_bench.report.tables.corpus import nearest_domains
from soe_bench.report.view import GENERIC_TEXT

REST = "#bdbdbd"
# Without the grey, which would look like the rest, and without the second pink.
SOURCES = ("#0072B2", FIXED["dense_on_pi"], *OTHERS[:7], OTHERS[8])
LONGEST_WORD = 14  # characters below the axis
CAPTION = (
    "The domain weights h are fractions of tokens. Of a specialist's weights only the four largest are shown. Colours "
    "of sources are those of this figure alone. A passage is far from all domains if it is farther from the centre of "
    "its own than 99 % of the generic passages are. "
    f"A specialist with more than {100 * MOST_BEYOND_Q99:g} % of such passages lies outside the corpus."
)
LINE = f" The dashed line is at {100 * MOST_BEYOND_Q99:g} %."


def domains_charts(domains: pd.DataFrame, specialists: pd.DataFrame) -> list[Chart]:
    """One chart per corpus (the first in order has the plain name); no specialists, no lower panel."""
    charts = []
    for number, ((data, fingerprint), rows) in enumerate(domains.groupby(["data", "data_fingerprint"])):
        rows = rows.sort_values(["fraction", "domain"], ascending=[False, True])
        places = _places(specialists[specialists.data_fingerprint == fingerprint], rows)
        name = "domains" + (f"_{slug(f'{data}-{fingerprint[:8]}')}" if number else "")
        caption = f"{CAPTION}{LINE * bool(places.outside.any())}\ncorpus {data} {fingerprint[:12]}"
        draw = partial(_draw, rows, places)
        charts.append(Chart(name, _finding(rows, places), caption, _frame(rows, places), draw))
    return charts


def main_source(text: str) -> str:
    """The first name of `botocore 71%; django 12%`."""
    return re.sub(r"\s+[\d.]+\s*%?$", "", text.split(";")[0].strip())


def _places(specialists: pd.DataFrame, domains: pd.DataFrame) -> pd.DataFrame:
    """Specialists x domains in the order of `domains` (NaN where not among the nearest), `outside` last."""
    rows = specialists[(specialists.split == "estimate") & (specialists.specialist != GENERIC_TEXT)]
    rows = rows.set_index("specialist")
    weights = [nearest_domains(text, name) for name, text in rows.nearest_domains.items()]
    table = pd.DataFrame(weights, index=rows.index).reindex(columns=[int(domain) for domain in domains.domain])
    first = table.fillna(0).to_numpy().argmax(axis=1)
    table["outside"] = rows.fraction_beyond_q99
    return table.iloc[np.lexsort((np.arange(len(table)), first))]


def _frame(domains: pd.DataFrame, places: pd.DataFrame) -> pd.DataFrame:
    """One row per domain, one column per specialist (its weight on the domain, empty where not among its nearest)."""
    facts = {
        "domain": [int(domain) for domain in domains.domain],
        "h_0": list(domains.fraction),
        "main_source": [main_source(text) for text in domains.top_sources],
    }
    return pd.concat([pd.DataFrame(facts), places.drop(columns="outside").T.reset_index(drop=True)], axis=1)


def _finding(domains: pd.DataFrame, places: pd.DataFrame) -> str:
    """How far the specialists lie in single domains, and in the corpus; without specialists the sizes of domains."""
    if n := len(places):
        one = (places.drop(columns="outside") > 0.5).any(axis=1).sum()
        far = (places.outside > MOST_BEYOND_Q99).sum()
        return (
            f"{one} of {n} specialist{'s' * (n > 1)} {'has' if 1 in (one, n) else 'have'} more than half of the weight "
            f"on a single domain; {far} of {n} {'lies' if 1 in (far, n) else 'lie'} outside the corpus"
        )
    half = int((domains.fraction.cumsum() < 0.5 * domains.fraction.sum()).sum()) + 1
    largest = f"the largest holds {100 * domains.fraction.iloc[0]:.0f} %"
    verb = "hold" if half > 1 else "holds"
    return f"{half} of {len(domains)} domains {verb} half of the generic text; {largest}"


def _draw(domains: pd.DataFrame, places: pd.DataFrame) -> Figure:
    k, palette = len(domains), source_colours(domains.top_sources, domains.fraction)
    named = [Patch(color=colour, label=shortened(source)) for source, colour in palette.items() if colour != REST]
    handles = named + [Patch(color=REST, label="other")] * (len(palette) > len(named))
    width = min(max(5.5 + 0.15 * k, 9), 15)
    if places.empty:
        figure = Figure(figsize=(width, 4.0))
        top = bottom = figure.subplots()
        figure.legend(handles=handles, title="main source", loc="outside right center")
    else:
        figure = Figure(figsize=(width, 4.4 + 0.26 * len(places)))
        heights = (2.3, max(0.26 * len(places), 0.6))
        grid = figure.subplots(2, 2, width_ratios=(4.6, 1), height_ratios=heights, sharex="col", sharey="row")
        top, bottom = grid[:, 0]
        grid[0, 1].set_axis_off()
        grid[0, 1].legend(handles=handles, title="main source", loc="center left", fontsize=8.5, borderaxespad=0)
        bar = dict(location="right", label="weight in h", shrink=0.8, aspect=18, pad=0.01)
        heat_map(bottom, places.drop(columns="outside"), bar, cmap="Blues", vmin=0, vmax=1)
        bottom.set_title("Specialists: their weights h on the domains")
        if places.outside.any():
            _outside(grid[1, 1], places)
        else:
            grid[1, 1].set_axis_off()
    _sizes(top, domains, palette)
    named = k <= MOST_TICKS
    words = [f"{row.domain:g} {' '.join(row.top_terms.split()[:1])}" for row in domains.itertuples() if named]
    bottom.set_xlabel("domain and its most typical word, largest first" if named else "domains, largest first")
    short = [shortened(word, LONGEST_WORD) for word in words]
    bottom.set_xticks(range(len(words)), short, fontsize=9 if k <= 32 else 6.5, rotation=90)
    return figure


def source_colours(sources: pd.Series, fractions: pd.Series) -> dict[str, str]:
    """Main source -> colour, by the total size of its domains; the rest is grey."""
    totals = fractions.groupby(sources.map(main_source)).agg(math.fsum)
    ranked = totals.sort_index().sort_values(ascending=False, kind="stable").index
    return {source: SOURCES[i] if i < len(SOURCES) else REST for i, source in enumerate(ranked)}


def _sizes(axes: Axes, domains: pd.DataFrame, palette: dict[str, str]) -> None:
    colours = domains.top_sources.map(main_source).map(palette)
    axes.bar(range(len(domains)), 100 * domains.fraction, width=0.85, color=colours)
    axes.set_xlim(-0.6, len(domains) - 0.4)
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="fraction of the generic\ntext, h_0 (%)", title="Domains: size and main source")


def _outside(axes: Axes, places: pd.DataFrame) -> None:
    axes.barh(range(len(places)), 100 * places.outside, height=0.65, color=GREY)
    axes.axvline(100 * MOST_BEYOND_Q99, color="black", linestyle="--", linewidth=1)
    axes.set_xlim(0, max(20, 110 * places.outside.fillna(0).max()))
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.tick_params(axis="x", labelbottom=True)
    axes.grid(axis="x")
    axes.set(xlabel="passages far from\nall domains (%)", title="Outside the corpus?")
