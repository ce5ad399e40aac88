"""python -m soe_bench.cost specialists=N [gpu_hour=PRICE] [flops_per_second=RATE] [results=FOLDER] [out=FOLDER]

What N specialists cost by the soup, by generic pretraining and fine-tuning, by CRISP and by merging: tokens, FLOPs,
hours as measured, money where a price is given, and how good the models are. From records alone; nothing is trained.
`gpu_hour` is the price of an hour, of those measured or, with `flops_per_second`, of the FLOPs at that rate. `results`
is a results folder or a folder of them (default: results). `out` gets cost.md, cost.csv, cost.png, and in
cost_by_number.csv the numbers of the figure.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from soe_bench.errors import UserError
from soe_bench.settings import nearest
from soe_bench.system.files import check_writable, reason, show_every_character, user_path, write_bytes, write_text

MOST = 10**9  # specialists


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    specialists: int
    gpu_hour: float | None
    flops_per_second: float | None
    results: Path
    out: Path | None

    @classmethod
    def of(cls, arguments: list[str]) -> Options:
        """Raises UserError for an unknown or repeated key and for a value that is not of its kind."""
        given: dict[str, str] = {}
        known = [field.name for field in fields(cls)]
        for argument in arguments:
            key, equals, value = argument.partition("=")
            if key not in known:
                raise UserError(f"there is no setting {key}: did you mean {nearest(key, known)[0]}=...?")
            if not equals or not value or key in given:
                raise UserError(f"{argument}: give {key}=VALUE, once")
            given[key] = value
        if "specialists" not in given:
            raise UserError("say how many specialists: python -m soe_bench.cost specialists=50")
        specialists = _number("specialists", given["specialists"])
        if specialists != int(specialists) or specialists > MOST:
            raise UserError(f"specialists={given['specialists']}: give a whole number from 1 to {MOST:,}")
        rates = {key: _number(key, given[key]) if key in given else None for key in ("gpu_hour", "flops_per_second")}
        results = user_path(given.get("results", "results")) or Path()
        return cls(int(specialists), **rates, results=results, out=user_path(given.get("out")))


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise UserError(f"{key}={text}: give a number above 0")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 for bad input."""
    show_every_character()
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(argument in ("-h", "--help") for argument in arguments):
        print(__doc__)
        return 0
    try:
        options = Options.of(arguments)
        if not options.results.is_dir():
            raise UserError(f"{options.results} is no folder: give one with records, as results=FOLDER")
        if options.out:
            check_writable("out", options.out)
        # Here and not above: what is refused needs no pandas.
        run(options)
    except (UserError, OSError) as error:
        print(f"error: {reason(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 2
    return 0


def run(options: Options) -> None:
    """Prints the table, and writes it and the figure where `out` says."""
    from soe_bench.report.figures.investment import investment_chart
    from soe_bench.report.figures.style import render, style
    from soe_bench.report.format import to_csv
    from soe_bench.report.investment import investment
    from soe_bench.report.tables.investment import investment_table

    found = investment(options.results)
    table = investment_table(found, options.specialists, options.gpu_hour, options.flops_per_second)
    print(f"records: {found.folder}, of all in {options.results} those that have most of these ways", end="\n\n")
    print(table.markdown())
    if options.out:
        chart = investment_chart(found, options.specialists)
        with style():
            images, _ = render(chart)
        write_text(options.out / "cost.md", table.markdown())
        write_text(options.out / "cost.csv", table.csv())
        write_text(options.out / "cost_by_number.csv", to_csv(chart.frame))
        write_bytes(options.out / "cost.png", images["png"])
        print(f"{options.out}: wrote cost.md, cost.csv, cost_by_number.csv and cost.png")


if __name__ == "__main__":
    sys.exit(main())
