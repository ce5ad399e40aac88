"""python -m soe_bench.cost specialists=N [gpu_hour=PRICE] [flops_per_second=RATE] [results=FOLDER] [out=FOLDER]

What N specialists cost by the soup, by generic pretraining and fine-tuning, by CRISP and by merging: tokens, FLOPs,
hours as measured, money where a price is given, and how good the models are. From records alone; nothing is trained.
`gpu_hour` is the price of an hour, of those measured or, with `flops_per_second`, of the FLOPs at that rate. `results`
is a results folder or a folder of them (default: results, in a checkout). `out` gets cost.md, cost.csv, cost.png, and
in cost_by_number.csv the numbers of the figure.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from soe_bench.errors import UserError
from soe_bench.system import arguments
from soe_bench.system.files import check_writable, write_bytes, write_text

KEYS: dict[str, arguments.Kind] = {
    "specialists": arguments.count,
    "gpu_hour": arguments.positive,
    "flops_per_second": arguments.positive,
    "results": arguments.path,
    "out": arguments.path,
}


def check(given: list[str]) -> dict[str, Any]:
    """The value of every key of the command line, None where none is given. Raises UserError for all that is wrong."""
    values = dict.fromkeys(KEYS) | {"results": Path("results")} | arguments.read(given, KEYS)
    if values["specialists"] is None:
        raise UserError("say how many specialists: python -m soe_bench.cost specialists=50")
    if not values["results"].is_dir():
        raise UserError(f"{values['results']} is no folder: give one with records, as results=FOLDER")
    if values["out"]:
        check_writable("out", values["out"])
    return values


@arguments.command
def main(given: list[str] | None = None) -> int:
    """Returns 0, or 2 for bad input."""
    given = sys.argv[1:] if given is None else given
    if arguments.wants_help(given):
        print(__doc__)
        return 0
    run(**check(given))
    return 0


def run(
    specialists: int, gpu_hour: float | None, flops_per_second: float | None, results: Path, out: Path | None
) -> None:
    """Prints the table, and writes it and the figure where `out` says."""
    from soe_bench.report.figures.investment import investment_chart  # what is refused needs no pandas
    from soe_bench.report.figures.style import render
    from soe_bench.report.format import to_csv
    from soe_bench.report.tables.investment import investment_table
    from soe_bench.report.ways import investment

    found = investment(results)
    table = investment_table(found, specialists, gpu_hour, flops_per_second)
    print(f"from the records in {found.folder}, the folder with most of the ways below", end="\n\n")
    print(table.markdown())
    if out:
        chart = investment_chart(found, specialists)
        images, _ = render(chart)
        write_text(out / "cost.md", table.markdown())
        write_text(out / "cost.csv", table.csv())
        write_text(out / "cost_by_number.csv", to_csv(chart.frame))
        write_bytes(out / "cost.png", images["png"])
        print(f"{out}: wrote cost.md, cost.csv, cost_by_number.csv and cost.png")


if __name__ == "__main__":
    sys.exit(main())
