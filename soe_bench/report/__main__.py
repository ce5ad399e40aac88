"""`python -m soe_bench.report [RESULTS_DIR] [--check]`: every table and figure from the committed files."""

import argparse
import sys
from pathlib import Path

from soe_bench.errors import UserError
from soe_bench.report.load import load_results
from soe_bench.report.write import check, rewrite


def main(arguments: list[str] | None = None) -> int:
    """0: written, or up to date; 1: --check found a difference; 2: bad input."""
    parser = argparse.ArgumentParser(prog="python -m soe_bench.report", description=__doc__)
    parser.add_argument("folder", metavar="RESULTS_DIR", nargs="?", type=Path, default=Path("results"))
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if tables/ or figures/ are not up to date"
    )
    options = parser.parse_args(arguments)
    try:
        if not options.check:
            rewrite(options.folder)
            return 0
        stale = check(load_results(options.folder))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in stale:
        print(line)
    print(f"{options.folder}: {'run the report again' if stale else 'tables and figures are up to date'}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
