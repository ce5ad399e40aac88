"""report.html: claims, figures, tables and deviations as one self-contained file, made from a list of sections."""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from soe_bench.report.figures.style import Chart
from soe_bench.report.format import Table
from soe_bench.system.files import write_bytes

PAGE = "report.html"


@dataclass(frozen=True)
class Picture:
    """An SVG image and how to read it. `shrinks`: it is still readable at the width of a phone; others scroll there."""

    svg: bytes
    caption: str
    shrinks: bool = False

    @property
    def source(self) -> str:
        """The image itself as a URL: as an image, and not as a part of the page, it can run no script."""
        return f"data:image/svg+xml;base64,{b64encode(self.svg).decode()}"


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it, in this order: paragraphs, text with its own line breaks, a figure, a table,
    further sections."""

    title: str
    text: tuple[str, ...] = ()
    quote: str = ""
    figure: Picture | None = None
    table: Table | None = None
    sections: tuple["Section", ...] = ()


def write_page(folder: Path, sections: Iterable[Section]) -> None:
    """Write the folder's report.html."""
    write_bytes(folder / PAGE, html(f"Report: {folder.resolve().name}", sections).encode())


def html(title: str, sections: Iterable[Section]) -> str:
    """The page. Everything that comes from the sections is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment.get_template("page.html").render(title=title, sections=list(sections))


def _code(text: str) -> Markup:
    """Escaped, with what stands between two backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def results_sections(tables: Sequence[Table], figures: Sequence[tuple[Chart, bytes]]) -> list[Section]:
    """What a results folder's page shows, from its tables and its drawn figures (as SVG without title and caption)."""
    claims = next((table for table in tables if table.name == "claims"), None)
    none = "No record of a test split lies in this folder itself, so no claim has a verdict here."
    first = Section("Claims", (none,)) if claims is None else _claims(claims)
    decided = claims is not None and claims.frame.verdict.isin(["replicated", "contradicted"]).any()
    sections = [first] if decided else []  # of a demo nothing is decided: its figures say more
    if figures:
        pictures = [Section(chart.finding, figure=Picture(svg, chart.caption)) for chart, svg in figures]
        sections.append(Section("Figures", sections=tuple(pictures)))
    if shown := [Section(table.name, table=table) for table in tables if table.name != "deviations"]:
        text = "The same tables lie in the results folder as tables/*.csv and tables/*.md, under the names given here."
        sections.append(Section("Tables", (text,), sections=tuple(shown)))
    sections += [] if decided else [first]
    return sections + [Section("Deviations", table=table) for table in tables if table.name == "deviations"]


def sections_of_several(folder: Path, sections: dict[Path, list[Section]]) -> list[Section]:
    """A section for each results folder below `folder`, the one with most verdicts first, and last what lies in
    `folder` itself."""
    ordered = sorted(sections, key=lambda each: (each == folder, -_verdicts(sections[each])))
    names = {each: each.relative_to(folder).as_posix() if each != folder else folder.resolve().name for each in ordered}
    return [Section(names[each], sections=tuple(sections[each])) for each in ordered]


def _verdicts(sections: list[Section]) -> int:
    """How many claims have a verdict in the sections of a results folder."""
    tables = [section.table for section in sections if section.title == "Claims" and section.table]
    return sum(int((table.frame.verdict != "not run").sum()) for table in tables)


def _claims(table: Table) -> Section:
    """A row for each claim, with its verdict and what its deciding tests say, and how many have which verdict."""
    rows = table.frame.to_dict("records")
    deciding = [row for row in rows if row["decides"]]
    claims = [
        {"claim": row["claim"], "verdict": row["claim's verdict"], "statement": row["statement"]}
        | {"tests that decide": "\n".join(_in_words(test, row) for test in deciding if test["claim"] == row["claim"])}
        for row in rows
        if row["statement"]  # a claim's first row, which has its verdict
    ]
    count = sorted(Counter(claim["verdict"] for claim in claims).items())
    text = (
        f"Verdicts: {', '.join(f'{n} {verdict}' for verdict, n in count)}. A test without a verdict shares that "
        "of its claim.",
        "Lower means that the first of the two named has the lower loss (nats/token where the test names no other "
        "unit). The table claims below has the intervals, the rules and the tests that decide nothing.",
    )
    return Section("Claims", text, table=replace(table, frame=pd.DataFrame(claims), notes=[]))


def _in_words(test: dict[str, str], claim: dict[str, str]) -> str:
    """`soup n=4 minus generic: 0.34 lower (3 seeds, 14 of 16 specialists)`, and a verdict that is not the claim's."""
    if not test["in words"]:
        return f"{test['test']}: {test['note']}"
    seeds = f"{test['seeds']} seed{'s' if test['seeds'] != '1' else ''}"
    specialists = test["specialists"] + (" specialists" if " of " in test["specialists"] else "")
    other = f", {test['verdict']}" if test["verdict"] != claim["claim's verdict"] else ""
    return f"{test['test']}: {test['in words']} ({seeds}, {specialists}){other}"
