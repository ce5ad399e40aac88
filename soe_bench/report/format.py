"""Tables as CSV and Markdown text with fixed formats: the same records give the same bytes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Table:
    """A table whose cells are text already, with notes on what they rest on."""

    name: str
    title: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    json: str = ""  # the same for programs, if there is such a file

    def csv(self) -> str:
        """The table as CSV."""
        return to_csv(self.frame)

    def markdown(self) -> str:
        """Title, table, notes."""
        rules = ["---:" if number else "---" for number in self.numbers]
        rows = self.frame.itertuples(index=False)
        lines = [f"# {self.title}", "", _md_row(self.frame.columns), "|" + "|".join(rules) + "|", *map(_md_row, rows)]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]).rstrip("\n") + "\n"

    @property
    def numbers(self) -> list[bool]:
        """Whether each column holds numbers, which stand on its right. The first names the rows."""
        numbers = self.frame.apply(pd.to_numeric, errors="coerce").notna().any()
        return [place > 0 and bool(number) for place, number in enumerate(numbers)]


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


def short(value: float | None) -> str:
    """Three significant digits, without an exponent; empty for None."""
    if value is None:
        return ""
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
