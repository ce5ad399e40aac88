"""Made-up records of generic pretraining and soups, and the claims table of them."""

import csv

from made_up_records import run, write_records

from soe_bench.report.load import load_results
from soe_bench.report.tables.claims import claims_table
from soe_bench.report.view import make_views
from soe_bench.report.write import collect, texts
from soe_bench.system.files import write_text

SPREAD = (0.1, 0.11, 0.09)  # by seed; a t-interval over such values has half width 4.302653 * 0.01 / sqrt(3) = 0.02484


def generic(seed: int, **changes) -> list[dict]:
    """Generic pretraining: 3 on a, 4 on b, 3.5 on generic text."""
    return run("generic", 0, seed, {"a": 3.0, "b": 4.0, "generic": 3.5}, "none", **changes)


def soup(n: int, seed: int, gain: float, text: float = 0.0, **changes) -> list[dict]:
    """A soup better than generic by 1.9 * `gain` on a and 2.1 * `gain` on b, worse by `text` on generic text."""
    rows = run("soup", n, seed, {"a": 3.0 - 1.9 * gain, "b": 4.0 - 2.1 * gain}, "estimate", **changes)
    return rows + run("soup", n, seed, {"generic": 3.5 + text}, "h_0", **changes)


def claims(folder, rows: list[dict]) -> dict[str, dict[str, dict[str, str]]]:
    """The claims table of these records: claim -> test -> row."""
    frame = claims_table(make_views(load_results(write_records(folder, rows)))).frame
    return {name: group.set_index("test").to_dict("index") for name, group in frame.groupby("claim")}


def overall(tests: dict[str, dict[str, str]]) -> str:
    """A claim's verdict."""
    return "".join(row["claim's verdict"] for row in tests.values())


def table(folder, name: str, key: str = "method") -> dict[str, dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return {row[key]: row for row in csv.DictReader(file)}


def report(folder, rows: list[dict]):
    """The tables and the figures' CSV files of these records. To draw takes much longer, and is tested elsewhere."""
    tables, charts, _, _ = collect(load_results(write_records(folder, rows)))
    for path, text in texts(folder, tables, charts).items():
        write_text(path, text)
    return folder
