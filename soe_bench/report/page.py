"""report.html: claims, figures, tables and deviations as one self-contained file, made from a list of sections."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from soe_bench.report.figures.style import Chart
from soe_bench.report.format import Table, is_number
from soe_bench.system.files import write_bytes

PAGE = "report.html"
# Of the table of claims, what a reader asks first; a row for each deciding test.
CLAIMS = ["claim", "statement", "claim's verdict", "test", "in words", "seeds", "specialists", "verdict", "note"]
LONG = 40  # characters: a cell with more wraps


@dataclass(frozen=True)
class Picture:
    """An SVG image and how to read it."""

    svg: bytes
    caption: str

    @property
    def source(self) -> str:
        """The image itself as a URL: as an image, and not as a part of the page, it can run no script."""
        return f"data:image/svg+xml;base64,{b64encode(self.svg).decode()}"


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it, in this order: paragraphs, a figure, a table, further sections."""

    title: str
    text: tuple[str, ...] = ()
    figure: Picture | None = None
    table: Table | None = None
    sections: tuple["Section", ...] = ()


@dataclass(frozen=True)
class Cell:
    """A cell of a table on the page."""

    text: str
    number: bool
    bold: bool = False

    @property
    def kind(self) -> str:
        """Its class in the style sheet."""
        return "number" if self.number else "long" if len(self.text) > LONG else ""


def write_page(folder: Path, sections: Iterable[Section]) -> None:
    """Write the folder's report.html."""
    write_bytes(folder / PAGE, html(f"Results: {folder.resolve().name}", sections).encode())


def html(title: str, sections: Iterable[Section]) -> str:
    """The page. Everything that comes from the sections is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(title=title, sections=list(sections), grid=grid)


def results_sections(tables: Sequence[Table], figures: Sequence[tuple[Chart, bytes]]) -> list[Section]:
    """What a results folder's page shows, from its tables and its drawn figures (as SVG without title and caption)."""
    sections = [_claims(table) for table in tables if table.name == "claims"] or [
        Section("Claims", ("No record of a test split lies in this folder itself, so no claim has a verdict here.",))
    ]
    if figures:
        pictures = [Section(chart.finding, figure=Picture(svg, chart.caption)) for chart, svg in figures]
        sections.append(Section("Figures", sections=tuple(pictures)))
    if shown := [Section(table.name, table=table) for table in tables if table.name != "deviations"]:
        text = "The same tables lie beside this page as tables/*.csv and tables/*.md, under the names given here."
        sections.append(Section("Tables", (text,), sections=tuple(shown)))
    return sections + [Section("Deviations", table=table) for table in tables if table.name == "deviations"]


def sections_of_several(folder: Path, sections: dict[Path, list[Section]]) -> list[Section]:
    """A section for each results folder below `folder`, and last what lies in `folder` itself."""
    ordered = sorted(sections, key=lambda each: each == folder)
    names = {each: each.relative_to(folder).as_posix() if each != folder else folder.resolve().name for each in ordered}
    return [Section(names[each], sections=tuple(sections[each])) for each in ordered]


def _claims(table: Table) -> Section:
    """A row for each deciding test, and how many claims have which verdict."""
    frame, heads = table.frame.copy(), table.frame["statement"] != ""
    count = frame[heads]["claim's verdict"].value_counts(sort=False)
    for column in ("statement", "claim's verdict"):  # which only a claim's first row has
        frame[column] = frame[column].where(heads).ffill()
    decisive = frame[frame.decides == "yes"][CLAIMS].rename(columns={"in words": "effect"})
    text = (
        f"Of {heads.sum()} claims, {', '.join(f'{n} {verdict}' for verdict, n in sorted(count.items()))}.",
        "A row is a test that decides; a claim is replicated if all of its tests are. Effect (nats/token unless the "
        "test names another unit): lower means that the first of the two named has the lower loss. The table claims "
        "has the intervals, the rules and the other tests.",
    )
    return Section("Claims", text, table=replace(table, frame=decisive, notes=[]))


def grid(table: Table) -> tuple[list[str], list[list[Cell]]]:
    """Head and rows of a table, turned if it is to be, with its daggers."""
    rows = [list(map(str, table.frame.columns))]
    rows += [
        [f"{value}{'†' * ((i, j) in table.daggers)}" for j, value in enumerate(row)]
        for i, row in enumerate(table.frame.itertuples(index=False))
    ]
    bold = {(i + 1, j) for i, j in table.bold}
    if table.turned:
        rows, bold = list(map(list, zip(*rows, strict=True))), {(j, i) for i, j in bold}
    numbers = [j > 0 and any(map(is_number, column[1:])) for j, column in enumerate(zip(*rows, strict=True))]
    cells = [
        [Cell(text, numbers[j] and len(text) <= LONG, (i, j) in bold) for j, text in enumerate(row)]
        for i, row in enumerate(rows)
    ]
    return rows[0], cells[1:]
