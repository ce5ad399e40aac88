"""One look for every figure: sizes, colours (a method has the same everywhere, colour-blind safe), saving."""

import io
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch

import matplotlib
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from soe_bench.report.view import View

GREY, RULE = "#6b6b6b", "#d9d9d9"
FIXED = {"generic": "#222222", "dense_on_pi": "#D55E00"}
# Okabe and Ito's palette without the two above and without the blue that the soups have.
OTHERS = (
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#8B6914",
    "#7A5195",
    "#A6D854",
    "#C44E52",
    "#999999",
    "#00B3A4",
    "#F2A2C0",
)
FAMILIES = ("merge_*", "*_expert")  # methods with one colour, of which a crowded figure shows the best
SOUP = LinearSegmentedColormap.from_list("soup", ["#a6dcef", "#2b8cc4", "#0b1d51"])  # few experts -> many experts
FOOTER_PER_INCH = 15  # characters
STYLES = ("-", "--", ":", "-.", (0, (3, 1, 1, 1, 1, 1)))  # of lines of one colour
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "*")
RC = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "soe-bench",
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Chart:
    """A figure to be: its name, the numbers in it (the CSV beside it), and how it is drawn."""

    name: str
    frame: pd.DataFrame
    draw: Callable[[], Figure]


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's own defaults plus RC: a user's matplotlibrc changes nothing."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def colours(view: View) -> dict[str, object]:
    """Label -> colour. Soups run from light to dark blue with log2 of the number of experts (1 to 128)."""
    rows = view.records.drop_duplicates("label").set_index("label")
    families = sorted({family(method) for method in rows.method} - {*FIXED, "soup"})
    by_family = {**FIXED, **{name: OTHERS[i % len(OTHERS)] for i, name in enumerate(families)}}
    return {
        label: soup_colour(rows.n_experts[label])
        if rows.method[label] == "soup"
        else by_family[family(rows.method[label])]
        for label in view.order
    }


def family(method: str) -> str:
    """The one of FAMILIES that a method belongs to, otherwise its own name."""
    return next((pattern for pattern in FAMILIES if fnmatch(method, pattern)), method)


def soup_colour(n_experts: int) -> tuple[float, ...]:
    """The colour of a soup with so many experts: the same in every figure and every version of it."""
    return SOUP(min(math.log2(max(n_experts, 1)) / 7, 1.0))


def markers(labels: Iterable[str]) -> dict[str, str]:
    """Label -> marker, in the order of the labels of a figure."""
    return {label: MARKERS[i % len(MARKERS)] for i, label in enumerate(labels)}


def line_styles(labels: Iterable[str], palette: dict[str, object], styles: tuple = STYLES) -> dict[str, str | tuple]:
    """Label -> line style (as matplotlib knows them): each label of one colour has another."""
    drawn: Counter[object] = Counter()
    found = {}
    for label in labels:
        found[label] = styles[drawn[palette[label]] % len(styles)]
        drawn[palette[label]] += 1
    return found


def with_seeds(label: str, *seeds: int) -> str:
    """A legend entry: the label and the numbers of seeds behind its points, the fewest and the most."""
    fewest, most = min(seeds), max(seeds)
    return f"{label} ({fewest if fewest == most else f'{fewest}-{most}'} seed{'s' if most > 1 else ''})"


def footer(figure: Figure, text: str) -> None:
    """Small grey lines under the figure, wrapped to its width: what the numbers rest on."""
    lines = [textwrap.fill(line, int(FOOTER_PER_INCH * figure.get_figwidth())) for line in text.splitlines()]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color=GREY)


def render(figure: Figure) -> dict[str, bytes]:
    """PNG and SVG bytes without dates or versions in them."""
    images = {}
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        with io.BytesIO() as buffer:
            figure.savefig(buffer, format=kind, metadata=metadata, facecolor="white")
            images[kind] = buffer.getvalue()
    return images
