"""One look for every figure: sizes, fonts, colours (a method has the same everywhere, colour-blind safe), saving."""

import io
import math
import re
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from itertools import cycle

import matplotlib
import pandas as pd
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from soe_bench.report.format import from_to
from soe_bench.report.view import View

GREY, RULE = "#6b6b6b", "#d9d9d9"
FIXED = {"generic": "#222222", "dense_on_pi": "#D55E00"}
# Okabe and Ito's palette without the two above and without the blue that the soups have, and more of its kind.
OTHERS = [
    *("#009E73", "#CC79A7", "#E69F00", "#8B6914", "#7A5195", "#A6D854"),
    *("#C44E52", "#999999", "#00B3A4", "#F2A2C0", "#556B2F", "#E7298A"),
]
FAMILY_COLOURS = FIXED | dict(  # the same in every figure and results folder; of a family a crowded one has the best
    zip(
        ("*_expert", "crisp*", "domain_experts*", "merge_*", "separate_experts", "low_rank_soup", "hypernetwork")
        + ("projected", "dense_conditioned", "ensemble", "logit_adjustment*", "bigram_adjustment*"),
        OTHERS,
        strict=True,
    )
)
STRANGERS = ("#1B7837", "#5E3C99", "#8C2D04", "#01665E")  # methods of the reader's own, in the order of their names
SOUP = LinearSegmentedColormap.from_list("soup", ["#a6dcef", "#2b8cc4", "#0b1d51"])  # few experts -> many experts
CHARACTERS_PER_INCH = {"title": 8.7, "caption": 15}
BARE = "bare"  # an SVG without title and caption, for a page that has them as text
LONGEST_NAME = 44  # characters
STYLES = ("-", "--", ":", "-.", (0, (3, 1, 1, 1, 1, 1)))  # of lines of one colour
MARKERS = ("o", "s", "D", "^", "v", "<", ">", "p", "h", "*", "P", "X")
OWN_MARKERS = {  # the same in every figure
    "soup": "o",
    "soup n=64": "o",
    "soup n=16": "s",
    "soup n=4": "D",
    "generic": "X",
    "dense_on_pi": "P",
    "crisp": "^",
    "bigram_adjustment": "v",
}
# Fonts with Chinese, Japanese and Korean characters, and with emoji, by the systems that have them.
FALLBACK_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "IPAexGothic", "WenQuanYi Zen Hei"),  # Linux
    *("Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),  # macOS
    *("Yu Gothic", "Malgun Gothic", "Microsoft YaHei", "Segoe UI Emoji"),  # Windows
    *("Noto Emoji", "Symbola"),
)
RC = {  # what differs from matplotlib's own defaults
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "savefig.dpi": 150,
    "svg.hashsalt": "soe-bench",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # names are drawn as they are, dollar signs too
}


@dataclass(frozen=True)
class Chart:
    """A figure to be: its name, what it shows (its title), how to read it (its caption), the numbers in it (the CSV
    beside it), and how it is drawn."""

    name: str
    finding: str
    caption: str
    frame: pd.DataFrame
    draw: Callable[[], Figure]


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's own defaults plus RC and the fonts of this machine: a user's matplotlibrc changes nothing."""
    fonts = ["DejaVu Sans", *fallback_fonts()]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC | {"font.family": fonts})
        yield


@cache
def fallback_fonts() -> list[str]:
    """Those of FALLBACK_FONTS that are here. If none is, fonts that matplotlib's own list is too old for are added."""
    manager = font_manager.fontManager
    if not {font.name for font in manager.ttflist} & set(FALLBACK_FONTS):
        for path in {*font_manager.findSystemFonts()} - {font.fname for font in manager.ttflist}:
            with suppress(Exception):  # a font file may be damaged
                manager.addfont(path)
    here = {font.name for font in manager.ttflist}
    return [name for name in FALLBACK_FONTS if name in here]


def no_font(messages: Iterable[str]) -> list[str]:
    """A warning of the characters that, as matplotlib says, no font has; or nothing."""
    codes = {int(found[1]) for message in messages if (found := re.match(r"Glyph (\d+) ", message))}
    glyphs = "".join(map(chr, sorted(codes)))
    warning = f"warning: no font here has {glyphs}: boxes stand for them in the figures (install a font that has them)"
    return [warning] if glyphs else []


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name as it fits into a figure, on one line; a legend would leave out one that begins with an underscore."""
    name = " ".join(name.split()) or name
    name = "\N{ZERO WIDTH SPACE}" + name if name.startswith("_") else name
    end = longest // 4
    return name if len(name) <= longest else f"{name[: longest - end - 1]}…{name[-end:]}"


def colours(*views: View) -> dict[str, object]:
    """Label -> colour. Soups run from light to dark blue with log2 of the number of experts (1 to 128)."""
    rows = pd.concat([view.records for view in views]).drop_duplicates("label").set_index("label")
    strangers = sorted({family(method) for method in rows.method} - {*FAMILY_COLOURS, "soup"})
    by_family = FAMILY_COLOURS | dict(zip(strangers, cycle(STRANGERS), strict=False))
    return {
        label: soup_colour(rows.n_experts[label]) if method == "soup" else by_family[family(method)]
        for label, method in rows.method.items()
    }


def family(method: str) -> str:
    """The one of FAMILY_COLOURS that a method belongs to, otherwise its own name."""
    return next((pattern for pattern in FAMILY_COLOURS if fnmatch(method, pattern)), method)


def soup_colour(n_experts: int) -> tuple[float, ...]:
    """The colour of a soup with so many experts: the same in every figure and every version of it."""
    return SOUP(min(math.log2(max(n_experts, 1)) / 7, 1.0))


def markers(labels: Iterable[str]) -> dict[str, str]:
    """Label -> marker: its own, or the next one that is nobody's own in this figure."""
    own = {label: OWN_MARKERS.get(label) for label in labels}
    free = cycle([marker for marker in MARKERS if marker not in own.values()])
    return {label: marker or next(free) for label, marker in own.items()}


def line_styles(labels: Iterable[str], palette: dict[str, object]) -> dict[str, str | tuple]:
    """Label -> line style (as matplotlib knows them): each label of one colour has another."""
    styles: dict[object, Iterator] = defaultdict(lambda: cycle(STYLES))
    return {label: next(styles[palette[label]]) for label in labels}


def legend(figure: Figure, handles: Mapping[str, object], seeds: Mapping[str, Collection[int]]) -> None:
    """The legend of a figure, on its right: label -> what stands for it, and the numbers of seeds behind its points.
    The fewest and the most stand above all labels where they are alike, otherwise behind each."""
    counts = {label: f"{from_to(n)} seed{'s' if max(n) > 1 else ''}" for label, n in seeds.items()}
    alike = set(counts.values()) if len(set(counts.values())) == 1 else set()
    names = [shortened(each) + ("" if alike or each not in counts else f" ({counts[each]})") for each in handles]
    figure.legend(list(handles.values()), names, loc="outside right center", title=next(iter(alike), None))


def render(chart: Chart) -> tuple[dict[str, bytes], list[str]]:
    """PNG and SVG bytes without dates or versions in them (SVG also BARE), and what matplotlib warns of."""
    with style(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = chart.draw()
        FigureCanvasAgg(figure)
        title = figure.suptitle(
            _wrapped(chart.finding, figure, "title"), x=0.01, ha="left", fontweight="bold", fontsize=12
        )
        text = "\n".join(_wrapped(line, figure, "caption") for line in chart.caption.splitlines())
        caption = figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color=GREY)
        images = {"png": _saved(figure, "png", Software=None), "svg": _saved(figure, "svg", Date=None, Creator=None)}
        for each in (title, caption):
            each.set(visible=False, in_layout=False)
        images[BARE] = _saved(figure, "svg", Date=None, Creator=None)
    return images, [str(each.message) for each in caught]


def _saved(figure: Figure, kind: str, **metadata: None) -> bytes:
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format=kind, metadata=metadata, facecolor="white")
        return buffer.getvalue()


def _wrapped(text: str, figure: Figure, kind: str) -> str:
    return textwrap.fill(text, int(CHARACTERS_PER_INCH[kind] * figure.get_figwidth()))
