"""Collects every table and figure of a results folder, writes them or compares them with what is on disk."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from filelock import FileLock

from soe_bench.report.figures.alpha import alpha_charts
from soe_bench.report.figures.budgets import budgets_chart
from soe_bench.report.figures.closeness import closeness_chart
from soe_bench.report.figures.curves import curves_chart
from soe_bench.report.figures.documents import documents_chart
from soe_bench.report.figures.domains import domains_charts
from soe_bench.report.figures.experts import experts_chart
from soe_bench.report.figures.sizes import sizes_chart
from soe_bench.report.figures.specialists import specialists_chart
from soe_bench.report.figures.support import support_chart
from soe_bench.report.format import Table, to_csv
from soe_bench.report.load import Results, load_results
from soe_bench.report.style import Chart, render, style
from soe_bench.report.tables.bench import bases_table, bench_table, growth_table, processes_table
from soe_bench.report.tables.budgets import budgets_difference_table, budgets_table
from soe_bench.report.tables.claims import claims_table
from soe_bench.report.tables.closeness import closeness_table
from soe_bench.report.tables.corpus import deviations_table, domains_table, specialists_table
from soe_bench.report.tables.costs import costs_table
from soe_bench.report.tables.documents import documents_table
from soe_bench.report.tables.main import MEASURES, controls_table, difference_table, main_table
from soe_bench.report.view import make_views
from soe_bench.system.files import write_bytes

IMAGES = ("png", "svg")


def write(results: Results, say: Callable[[str], None] = print) -> None:
    """Write tables/*.csv, *.md and figures/*.csv, *.png, *.svg; say one line for each that was skipped."""
    tables, charts, skipped = collect(results)
    for path, text in _texts(results.folder, tables, charts).items():
        write_bytes(path, text.encode())
    with style():
        for chart in charts:
            for kind, image in render(chart.draw()).items():
                write_bytes(results.folder / "figures" / f"{chart.name}.{kind}", image)
    for line in skipped:
        say(line)
    say(f"{results.folder}: wrote {len(tables)} tables and {len(charts)} figures")


def rewrite(folder: Path, say: Callable[[str], None] = print) -> None:
    """`write` of what a results folder holds; another process that changes the folder is waited for. Raises UserError
    where there is none."""
    with FileLock(folder / ".lock") if folder.is_dir() else nullcontext():
        write(load_results(folder), say)


def check(results: Results) -> list[str]:
    """One line for each table or figure CSV that differs, each file that is not there, each that nothing writes."""
    tables, charts, _ = collect(results)
    expected = _texts(results.folder, tables, charts)
    images = {results.folder / "figures" / f"{chart.name}.{kind}" for chart in charts for kind in IMAGES}
    lines = [
        f"differs: {path}" for path, text in expected.items() if path.is_file() and path.read_bytes() != text.encode()
    ]
    lines += [f"missing: {path}" for path in sorted({*expected, *images}) if not path.is_file()]
    found = {
        path
        for kind in ("tables", "figures")
        for path in (results.folder / kind).glob("*")
        if path.suffix in (".csv", ".md", ".png", ".svg")
    }
    return lines + [f"written by nothing, remove it: {path}" for path in sorted(found - {*expected, *images})]


def collect(results: Results) -> tuple[list[Table], list[Chart], list[str]]:
    """Every table and chart that has data, and a line for each that has none."""
    views = make_views(results)
    found: dict[str, list] = {} if views else {"tables and figures of results (no test record)": []}
    for view in views:
        for measure, (name, _) in MEASURES.items():
            found.setdefault(f"table {name}", []).append(main_table(view, measure, results.specialists))
        found.setdefault("table difference", []).append(difference_table(view))
        found.setdefault("table controls", []).append(controls_table(view))
        found.setdefault("table budgets", []).append(budgets_table(view))
        found.setdefault("table budgets_difference", []).append(budgets_difference_table(view))
        found.setdefault("table documents", []).append(documents_table(view, results.specialists))
        found.setdefault("table costs", []).append(costs_table(view))
        found.setdefault("figure experts", []).append(experts_chart(view))
        found.setdefault("figure alpha", []).extend(alpha_charts(view, results.alpha))
        found.setdefault("figure curves", []).append(curves_chart(view, results.curves))
        found.setdefault("figure specialists", []).append(specialists_chart(view))
        found.setdefault("figure budgets", []).append(budgets_chart(view))
        found.setdefault("figure documents", []).append(documents_chart(view))
        found.setdefault("figure support", []).append(support_chart(view))
    if views:
        found["table claims"] = [claims_table(views, results.distances, results.specialists)]
        found["figure sizes"] = [sizes_chart(views)]
    for name, make, rows in (
        ("domains", domains_table, results.domains),
        ("specialists", specialists_table, results.specialists),
        ("closeness", closeness_table, results.distances),
        ("deviations", deviations_table, results.deviations),
    ):
        found[f"table {name}"] = [make(rows) if rows is not None else None]
    bench = results.bench or {}
    for name, make, list_name in (
        ("bench", bench_table, "figures"),
        ("growth", growth_table, "growth"),
        ("bases", bases_table, "bases"),
        ("processes", processes_table, "processes"),
    ):
        found[f"table {name}"] = [make(bench) if bench.get(list_name) else None]
    found["figure closeness"] = [closeness_chart(results.distances)]
    found["figure domains"] = domains_charts(results.domains, results.specialists)
    made = [item for items in found.values() for item in items if item is not None]
    skipped = [f"skipped {name}: no data for it yet" for name, items in found.items() if not any(items)]
    return (
        [item for item in made if isinstance(item, Table)],
        [item for item in made if isinstance(item, Chart)],
        skipped,
    )


def _texts(folder: Path, tables: list[Table], charts: list[Chart]) -> dict[Path, str]:
    texts = {folder / "tables" / f"{table.name}.csv": table.csv() for table in tables}
    texts |= {folder / "tables" / f"{table.name}.md": table.markdown() for table in tables}
    return texts | {folder / "figures" / f"{chart.name}.csv": to_csv(chart.frame) for chart in charts}
