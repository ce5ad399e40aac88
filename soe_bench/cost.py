"""python -m soe_bench.cost specialists=N [gpu_hour=PRICE] [flops_per_second=RATE] [results=FOLDER] [out=FOLDER]

Prints for each method, fine-tuned or not, what N specialists cost: tokens, FLOPs, hours, and money where a price is
given. It also prints how good the models are, and from how many specialists on the soup costs less. All comes from
records, and nothing is trained. `gpu_hour` is the price of an hour. The hours are those measured or, with
`flops_per_second`, those of the FLOPs at that rate. `results` is a results folder, or a folder of several (default:
results). `out` gets cost.md and cost.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from soe_bench.errors import UserError
from soe_bench.system import arguments
from soe_bench.system.files import check_writable, write_text

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
    """Prints the table of the setting that has a soup and most methods, and writes it where `out` says. Raises
    UserError where none has a soup whose costs were measured."""
    from soe_bench.report.load import load_results, results_folders  # what is refused needs no pandas
    from soe_bench.report.tables.costs import cost_table, has_costs
    from soe_bench.report.view import make_views

    views = [(folder, view) for folder in results_folders(results) for view in make_views(load_results(folder))]
    found = [(folder, view) for folder, view in views if has_costs(view)]
    if not found:
        raise UserError(f"{results}: no record of a soup with its cost: run python -m soe_bench +sweep=experts")
    folder, view = max(found, key=lambda each: len(each[1].methods))
    table = cost_table(view, specialists, gpu_hour, flops_per_second)
    print(f"from the records in {folder}, the folder with most methods", end="\n\n")
    print(table.markdown())
    if out:
        write_text(out / "cost.md", table.markdown())
        write_text(out / "cost.csv", table.csv())
        print(f"{out}: wrote cost.md and cost.csv")


if __name__ == "__main__":
    sys.exit(main())
