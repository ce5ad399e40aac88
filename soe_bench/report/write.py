"""Collects every table and figure of a results folder, writes them or compares them with what is on disk."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from filelock import FileLock

from soe_bench.report.figures.alpha import alpha_charts
from soe_bench.report.figures.budgets import budgets_chart
from soe_bench.report.figures.curves import curves_chart
from soe_bench.report.figures.distances import closeness_chart
from soe_bench.report.figures.documents import documents_chart
from soe_bench.report.figures.domains import domains_charts
from soe_bench.report.figures.experts import experts_chart
from soe_bench.report.figures.gain import gain_chart
from soe_bench.report.figures.granularity import granularity_chart
from soe_bench.report.figures.portfolio import portfolio_chart
from soe_bench.report.figures.sizes import sizes_chart
from soe_bench.report.figures.specialists import specialists_chart
from soe_bench.report.figures.style import BARE, Chart, no_font, render
from soe_bench.report.figures.support import support_chart
from soe_bench.report.format import Table, to_csv
from soe_bench.report.load import Results, folders_with_runs, load_results
from soe_bench.report.page import PAGE, Section, results_sections, write_page
from soe_bench.report.tables.bench import LISTS, bench_table, list_table
from soe_bench.report.tables.budgets import budgets_table
from soe_bench.report.tables.claims import claims_table, models_table
from soe_bench.report.tables.corpus import deviations_table, domains_table, specialists_table
from soe_bench.report.tables.costs import costs_table
from soe_bench.report.tables.distances import closeness_table
from soe_bench.report.tables.documents import documents_table
from soe_bench.report.tables.main import controls_table, difference_table, main_table
from soe_bench.report.view import View, make_views
from soe_bench.system.files import write_bytes

IMAGES = ("png", "svg")
WRITTEN = (".csv", ".md", ".json", ".png", ".svg")
Item = Table | Chart


def rewrite(folder: Path) -> list[Section]:
    """Writes tables/*.csv, *.md, figures/*.csv, *.png, *.svg and report.html of what a folder holds, and returns its
    sections. Prints one line for all that have no data, one for each figure that fails, one for each file that nothing
    writes any more, and one for all characters that no font has. Waits for another process that changes the folder."""
    with FileLock(folder / ".lock"):
        return _write(load_results(folder))


def _write(results: Results) -> list[Section]:
    tables, charts, empty, problems = collect(results)
    written = texts(results.folder, tables, charts)
    for path, text in written.items():
        write_bytes(path, text.encode())
    problems += _strangers(results.folder, {*written, *_images(results.folder, charts)})
    drawn, warnings = [], []
    for chart in charts:
        try:
            images, said = render(chart)
        except Exception as error:
            problems.append(_failure(f"figure {chart.name}", error))
            continue
        drawn.append((chart, images.pop(BARE)))
        warnings += said
        for kind, image in images.items():
            write_bytes(results.folder / "figures" / f"{chart.name}.{kind}", image)
    problems += no_font(warnings)
    if empty:
        print(f"no data yet for: {', '.join(empty)}")
    for line in problems:
        print(line)
    sections = results_sections(tables, drawn)
    write_page(results.folder, sections)
    print(f"{results.folder}: wrote {len(tables)} tables and {len(drawn)} figures; a browser shows them in {PAGE}")
    return sections


def check(results: Results) -> list[str]:
    """One line for each table or figure CSV that differs, each file that is not there, each that nothing writes, and
    each figure that fails."""
    tables, charts, _, failures = collect(results)
    expected = texts(results.folder, tables, charts)
    images = _images(results.folder, charts)
    lines = failures + [
        f"differs: {path}" for path, text in expected.items() if path.is_file() and path.read_bytes() != text.encode()
    ]
    lines += [f"missing: {path}" for path in sorted({*expected, *images}) if not path.is_file()]
    return lines + _strangers(results.folder, {*expected, *images})


def _images(folder: Path, charts: list[Chart]) -> set[Path]:
    return {folder / "figures" / f"{chart.name}.{kind}" for chart in charts for kind in IMAGES}


def _strangers(folder: Path, expected: set[Path]) -> list[str]:
    """A line for each table and figure that nothing writes (any more)."""
    found = {path for kind in ("tables", "figures") for path in (folder / kind).glob("*") if path.suffix in WRITTEN}
    return [f"written by nothing, remove it: {path}" for path in sorted(found - expected)]


def collect(results: Results) -> tuple[list[Table], list[Chart], list[str], list[str]]:
    """Every table and chart that has data, the names of those that have none, and a line for each chart that fails."""
    found: dict[str, list[Item]] = {}
    failures = []
    for name, make in _makers(results):
        try:
            made = make()
        except Exception as error:
            if not name.startswith("figure"):
                raise
            failures.append(_failure(name, error))
            continue
        found.setdefault(name, []).extend(made if isinstance(made, list) else [made] if made is not None else [])
    items = [item for each in found.values() for item in each]
    return (
        [item for item in items if isinstance(item, Table)],
        [item for item in items if isinstance(item, Chart)],
        [name for name, each in found.items() if not each],
        failures,
    )


def _failure(name: str, error: Exception) -> str:
    return f"warning: {name} failed, the others go on: {type(error).__name__}: {' '.join(str(error).split())}"


def _makers(results: Results) -> Iterator[tuple[str, Callable[[], Item | list[Item] | None]]]:
    """What there may be, and what makes it: the figures that say most come first."""
    views = make_views(results)
    several = views or _views_below(results.folder)
    for view in views:
        yield "figure portfolio", partial(portfolio_chart, view)
        yield "figure specialists", partial(specialists_chart, view)
    yield "figure experts", partial(experts_chart, several)
    yield "figure sizes", partial(sizes_chart, several)
    for view in views:
        yield from _of_view(view, results)
    if views:
        yield "table claims", partial(claims_table, views, results.distances)
    elif several:
        yield "table claims", partial(models_table, several)
    elif results.records is not None:
        yield "tables and figures of results (no test record)", list
    yield "figure granularity", partial(granularity_chart, views, results.domains)
    for name, make, rows in (
        ("domains", domains_table, results.domains),
        ("specialists", specialists_table, results.specialists),
        ("closeness", closeness_table, results.distances),
        ("deviations", deviations_table, results.deviations),
    ):
        yield f"table {name}", partial(make, rows) if len(rows) else list
    if bench := results.bench:
        yield "table bench", partial(bench_table, bench) if bench["figures"] else list
        for name in LISTS:
            yield f"table {name}", partial(list_table, name, bench) if bench.get(name) else list
    yield "figure closeness", partial(closeness_chart, results.distances, views)
    yield "figure domains", partial(domains_charts, results.domains, results.specialists)


def _of_view(view: View, results: Results) -> Iterator[tuple[str, Callable[[], Item | list[Item] | None]]]:
    yield "table main", partial(main_table, view)
    yield "table difference", partial(difference_table, view)
    yield "table controls", partial(controls_table, view)
    yield "table budgets", partial(budgets_table, view)
    yield "table documents", partial(documents_table, view)
    yield "table costs", partial(costs_table, view)
    yield "figure gain", partial(gain_chart, view)
    yield "figure budgets", partial(budgets_chart, view)
    yield "figure documents", partial(documents_chart, view)
    yield "figure support", partial(support_chart, view)
    yield "figure curves", partial(curves_chart, view, results.curves)
    yield "figure alpha", partial(alpha_charts, view, results.alpha)


def _views_below(folder: Path) -> list[View]:
    """The first view of each results folder below a folder of several, for what compares scales; most records first. Of
    those with one scale, model and corpus the first alone: another folder may have a few of its records too."""
    folders = folders_with_runs(folder)
    views = [make_views(load_results(each)) for each in folders] if len(folders) > 1 else []
    firsts: dict[str, View] = {}
    for view in sorted((each[0] for each in views if each), key=lambda view: -len(view.records)):
        firsts.setdefault(view.title, view)
    return list(firsts.values())


def texts(folder: Path, tables: list[Table], charts: list[Chart]) -> dict[Path, str]:
    texts = {folder / "tables" / f"{table.name}.csv": table.csv() for table in tables}
    texts |= {folder / "tables" / f"{table.name}.md": table.markdown() for table in tables}
    texts |= {folder / "tables" / f"{table.name}.json": table.json for table in tables if table.json}
    texts |= {folder / "figures" / f"{chart.name}.csv": to_csv(chart.frame) for chart in charts}
    return texts | ({folder / "figures" / "README.md": _gallery(charts)} if charts else {})


def _gallery(charts: list[Chart]) -> str:
    """Every figure with its finding and its caption, as Markdown."""
    parts = [f"## {chart.name}\n\n{chart.finding}.\n\n![]({chart.name}.png)\n\n{chart.caption}\n" for chart in charts]
    return "# Figures\n\n" + "\n".join(parts)
