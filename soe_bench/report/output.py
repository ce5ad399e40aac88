"""Tables as CSV and Markdown text with fixed formats: the same records give the same bytes."""

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Table:
    """A table whose cells are text already. `marked` holds (row, column) positions printed bold in the Markdown, which
    has one column a row of the table if `turned` (a page is long, not wide)."""

    name: str
    title: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    marked: frozenset[tuple[int, int]] = frozenset()
    turned: bool = False

    def csv(self) -> str:
        """The table as CSV."""
        return to_csv(self.frame)

    def markdown(self) -> str:
        """Title, table, notes."""
        rows = [
            [f"**{value}**" if (i, j) in self.marked else value for j, value in enumerate(row)]
            for i, row in enumerate(self.frame.itertuples(index=False))
        ]
        columns = [list(column) for column in zip(self.frame.columns, *rows, strict=True)]
        if self.turned:
            columns = [list(column) for column in zip(*columns, strict=True)]
        rules = [
            "---:" if j and any(_is_number(cell) for cell in column) else "---" for j, column in enumerate(columns)
        ]
        head, *body = zip(*columns, strict=True)
        lines = [f"# {self.title}", "", _md_row(head), "|" + "|".join(rules) + "|", *(_md_row(row) for row in body)]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]).rstrip("\n") + "\n"


def to_csv(frame: pd.DataFrame) -> str:
    """CSV text: text as it stands, floats with six decimals, line ends \\n."""
    return frame.map(lambda value: fixed(value, 6) if isinstance(value, float) else value).to_csv(
        index=False, lineterminator="\n"
    )


def fixed(value: float | None, decimals: int = 4, missing: str = "") -> str:
    """A number with fixed decimals, never -0; `missing` for None and NaN."""
    if value is None or value != value:
        return missing
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def _md_row(cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _is_number(text: str) -> bool:
    try:
        float(text.strip("*"))
    except ValueError:
        return False
    return True
