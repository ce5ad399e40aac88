"""A map of the domains: the projection of their centroids on a plane, with the place of each specialist's h."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from soe_bench.report.figures.domains import REST, SOURCES, main_source, source_colours
from soe_bench.report.figures.pieces import write_names
from soe_bench.report.figures.style import GREY, MARKERS, Chart, shortened

CAPTION = (
    "A circle is a domain, coloured by the source of most of its text; its area is its share of the text. Neighbours "
    "hold similar text, as far as two dimensions can show it. An open mark is a specialist, at the mean of the "
    "domains, weighted by its h, and lines lead to the domains with at least 5 % of it. A name or number "
    "that would lie on another is left out."
)
LINE = 0.05  # the least weight in h that has a line
FEW = 3  # specialists that the title has room for
BESIDE = ((9, 7), (9, -7), (-9, 7), (-9, -7))  # points from a specialist to its name, in the order of trial
WIDTH = 5.0  # inches: a phone shows it without scrolling


def map_chart(domains: list[dict[str, Any]], specialists: list[dict[str, Any]]) -> Chart:
    """From domains (domain, x, y, fraction, sources) and specialists (name, x, y, h), as pilot.json has them."""
    named = [{"name": f"domain {each['domain']}", "x": each["x"], "y": each["y"]} for each in domains]
    frame = pd.DataFrame(named + [{key: each[key] for key in ("name", "x", "y")} for each in specialists])
    return Chart("map", _finding(domains, specialists), CAPTION, frame, lambda: _draw(domains, specialists))


def _finding(domains: list[dict[str, Any]], specialists: list[dict[str, Any]]) -> str:
    """Where each of few specialists lies, or how many of many lie in one domain for the most part."""
    if not specialists:
        return f"The {len(domains)} domains of the folder"
    if len(specialists) > FEW:
        most = sum(max(each["h"]) > 0.5 for each in specialists)
        return f"{most} of {len(specialists)} specialists have more than half of their h in one domain"
    places = [(shortened(each["name"]), max(each["h"]), each["h"].index(max(each["h"]))) for each in specialists]
    return "Map of the domains: " + ", ".join(f"{name} has {h:.0%} of its h in domain {i}" for name, h, i in places)


def _draw(domains: list[dict[str, Any]], specialists: list[dict[str, Any]]) -> Figure:
    table = pd.DataFrame(domains)
    colours = source_colours(table.sources, table.fraction)
    figure = Figure(figsize=(WIDTH, WIDTH + 0.25 * (min(len(colours), len(SOURCES) + 1) + len(specialists))))
    axes = figure.subplots()
    for each in domains:
        colour = colours[main_source(each["sources"])]
        axes.scatter(each["x"], each["y"], s=20 + 1500 * each["fraction"], color=colour, alpha=0.75, linewidth=0)
    for number, each in enumerate(specialists):
        for domain, weight in zip(domains, each["h"], strict=True):
            if weight >= LINE:
                ends = (each["x"], domain["x"]), (each["y"], domain["y"])
                axes.plot(*ends, color="black", linewidth=0.5 + 2.5 * weight, alpha=0.5, zorder=1)
        marker, halo = MARKERS[number % len(MARKERS)], [withStroke(linewidth=3, foreground="white")]
        look = dict(markersize=15, markeredgecolor="black", markeredgewidth=1.6, path_effects=halo)
        look |= dict(markerfacecolor="none")  # so that the domain below it is seen
        axes.plot(each["x"], each["y"], marker, label=shortened(each["name"]), **look)
    for source, colour in list(colours.items())[: len(SOURCES)]:
        axes.scatter([], [], s=60, color=colour, label=f"source {shortened(source)}")
    if len(colours) > len(SOURCES):
        axes.scatter([], [], s=60, color=REST, label="other sources")
    axes.set(xticks=[], yticks=[])
    axes.margins(0.1)
    axes.spines[:].set(visible=True, color=GREY)
    figure.legend(loc="outside lower left", fontsize=9, markerscale=0.7)
    figure.draw_without_rendering()  # puts the places where they stay
    _names(axes, domains, specialists)
    return figure


def _names(axes: Axes, domains: list[dict[str, Any]], specialists: list[dict[str, Any]]) -> None:
    """The names of the specialists, then the numbers of the domains, those of most weight in an h or h_0 first."""
    halo, taken = [withStroke(linewidth=2.5, foreground="white")], []
    names = [((each["x"], each["y"]), shortened(each["name"])) for each in specialists]
    weights = [max(each["fraction"], *(own["h"][i] for own in specialists), 0) for i, each in enumerate(domains)]
    order = sorted(range(len(domains)), key=lambda i: -weights[i])
    numbers = [((domains[i]["x"], domains[i]["y"]), str(domains[i]["domain"])) for i in order]
    write_names(axes, names, BESIDE, taken, fontsize=9, path_effects=halo)
    write_names(axes, numbers, [(0, 0)], taken, fontsize=7)
