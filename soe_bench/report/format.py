"""Tables as CSV and Markdown text with fixed formats: the same records give the same bytes."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import pandas as pd

WIDEST = 9  # columns of numbers


@dataclass(frozen=True)
class Table:
    """A table whose cells are text already. `bold` and `daggers` hold (row, column) positions that the Markdown prints
    bold or with a dagger. It has one column a row of the table if `turned`, in several parts below each other if there
    are more than WIDEST (a page is long, not wide)."""

    name: str
    title: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    bold: frozenset[tuple[int, int]] = frozenset()
    daggers: frozenset[tuple[int, int]] = frozenset()
    turned: bool = False
    json: str = ""  # the same for programs, if there is such a file

    def csv(self) -> str:
        """The table as CSV."""
        return to_csv(self.frame)

    def markdown(self) -> str:
        """Title, table, notes."""
        rows = [
            [self._marked(i, j, value) for j, value in enumerate(row)]
            for i, row in enumerate(self.frame.itertuples(index=False))
        ]
        heads = list(self.frame.columns)
        parts = [_lines([heads, *part], self.turned) for part in (_split(rows) if self.turned else [rows])]
        lines = [f"# {self.title}", *(line for part in parts for line in ("", *part)), ""]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)]).rstrip("\n") + "\n"

    def _marked(self, i: int, j: int, value: str) -> str:
        return f"**{value}**" if (i, j) in self.bold else value + "†" * ((i, j) in self.daggers)


def _split(rows: list) -> list[list]:
    """The rows in as few parts of at most WIDEST as can be, as equal as can be."""
    n = max(math.ceil(len(rows) / WIDEST), 1)
    ends = [round(i * len(rows) / n) for i in range(n + 1)]
    return [rows[start:end] for start, end in pairwise(ends)]


def _lines(rows: list[list[str]], turned: bool) -> list[str]:
    """The lines of a Markdown table, its head first; columns of numbers to the right."""
    columns = rows if turned else list(zip(*rows, strict=True))
    rules = ["---:" if j and any(is_number(cell) for cell in column) else "---" for j, column in enumerate(columns)]
    head, *body = zip(*columns, strict=True)
    return [_md_row(head), "|" + "|".join(rules) + "|", *(_md_row(row) for row in body)]


def to_csv(frame: pd.DataFrame) -> str:
    """CSV text: text as it stands, floats with six decimals, line ends \\n."""
    return frame.map(lambda value: fixed(value, 6) if isinstance(value, float) else value).to_csv(
        index=False, lineterminator="\n"
    )


def fixed(value: float | None, decimals: int = 4, missing: str = "") -> str:
    """A number with fixed decimals, never -0; `missing` for None and NaN."""
    if value is None or value != value:
        return missing
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}"


def short(value: float) -> str:
    """Three significant digits, without an exponent."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:g}" if value < 1e5 else f"{rounded:.0f}"


def from_to(counts: Iterable[int]) -> str:
    """The fewest and the most of some counts: `2-3`, or `3` where they are equal; `0` for none."""
    found = sorted(counts) or [0]
    return "-".join(str(count) for count in dict.fromkeys((found[0], found[-1])))


def in_words(difference: float, other: str = "") -> str:
    """A difference without a sign to explain: `0.34 lower than generic`, `the same as generic`, `0.34 lower`."""
    text = f"{abs(difference):.{2 if abs(difference) >= 0.0995 else 3}f}"
    if not float(text):
        return "the same" + f" as {other}" * bool(other)
    return f"{text} {'lower' if difference < 0 else 'higher'}" + f" than {other}" * bool(other)


def _md_row(cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def slug(text: str) -> str:
    """Text as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text)


def is_number(text: str) -> bool:
    """Whether a cell, its marks aside, is a number."""
    try:
        float(text.strip("*†"))
    except ValueError:
        return False
    return True
