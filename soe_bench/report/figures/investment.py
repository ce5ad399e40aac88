"""FLOPs and hours against the number of specialists, a line per way, and where the soup begins to cost less."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from soe_bench.report.figures.pieces import log_axis
from soe_bench.report.figures.style import Chart, colours, line_styles, shortened
from soe_bench.report.ways import Investment, Way

PANELS = {"flops": ("FLOPs", 1, "{x:.0e}"), "seconds": ("hours, as measured", 3600, "{x:g}")}
DIGITS = (1, 2, 5)
LARGEST = 10**9  # specialists that an axis still shows


def investment_chart(found: Investment, specialists: int) -> Chart:
    """Drawn from one specialist to ten times those asked for, and at least to 100 and the break-even points."""
    last = max(100, 10 * specialists, *(2 * _start(found, way, unit) for way in found.ways[1:] for unit in PANELS))
    numbers = _numbers(min(last, LARGEST))
    frame = pd.DataFrame(
        [
            {"way": way.name, "specialists": n, "FLOPs": way.total("flops", n), "hours": way.total("seconds", n) / 3600}
            for way in found.ways
            for n in sorted({*numbers, specialists})
        ]
    )
    finding = _finding(found, specialists)
    caption = (
        "N specialists cost the training that serves all, and N times what is paid for each. A dot on a line, with its "
        f"N, is where the soup begins to cost less than that way. The grey line marks N = {specialists}."
        f"\n{found.view.title}"
    )
    return Chart("cost", finding, caption, frame, lambda: _draw(found, numbers, specialists))


def _finding(found: Investment, specialists: int) -> str:
    others = found.ways[1:]
    dearer = [way for way in others if way.total("flops", specialists) > found.soup.total("flops", specialists)]
    than = f"{len(dearer)} of the {len(others)} other ways here" if dearer else "none of the other ways here"
    return f"For {specialists} specialists {found.soup.name} takes fewer FLOPs than {than}"


def _start(found: Investment, way: Way, unit: str) -> int:
    """The break-even with the soup; 0 where there is none from which the soup costs less for good."""
    text = way.dearer_from(found.soup, unit)
    return int(text) if text.isdigit() else 0


def _numbers(last: int) -> list[int]:
    decades = range(math.ceil(math.log10(last)) + 1)
    return [digit * 10**decade for decade in decades for digit in DIGITS if digit * 10**decade <= last]


def _draw(found: Investment, numbers: list[int], specialists: int) -> Figure:
    figure = Figure(figsize=(11.5, 4.6))
    palette = colours(found.view)
    looks = {way.name: palette[way.label] for way in found.ways}
    styles = line_styles(looks, looks)
    x = np.array(numbers, dtype=float)
    for axes, (unit, (label, scale, ticks)) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        axes.axvline(specialists, color="#bbbbbb", linewidth=1)
        for way in found.ways:
            look = dict(color=looks[way.name], linestyle=styles[way.name])
            width = 2.4 if way is found.soup else 1.6
            axes.plot(x, way.total(unit, x) / scale, linewidth=width, label=shortened(way.name), **look)
            start = 0 if way is found.soup else _start(found, way, unit)
            if 0 < start <= x[-1]:
                place = (start, way.total(unit, start) / scale)
                axes.plot(*place, "o", color=looks[way.name], markersize=7)
                axes.annotate(
                    str(start), place, (4, -12), textcoords="offset points", color=looks[way.name], fontsize=9
                )
        axes.set(xscale="log", yscale="log", xlabel="specialists", ylabel=label)
        low, high = (math.log10(end) for end in axes.get_ylim())
        axes.set_ylim(10.0 ** math.floor(low), 10.0 ** math.ceil(high))  # whole decades, so that each end has a tick
        log_axis(axes.xaxis, "{x:g}", (1,))
        log_axis(axes.yaxis, ticks, (1,))
        axes.grid(axis="y")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")
    return figure
