"""`python -m soe_bench.report [DIR] [--check]`: every table and figure from the committed files, and report.html, a
page of them all.

DIR is a results folder, or a folder of several (default: results). A deviations.csv and a bench.json in it get tables
too.
"""

import argparse
import sys
from pathlib import Path

from soe_bench.errors import UserError
from soe_bench.system.arguments import command


@command
def main(arguments: list[str] | None = None) -> int:
    """0: written, or up to date; 1: --check found a difference; 2: bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m soe_bench.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path, default=Path("results"))
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if tables/ or figures/ are not up to date"
    )
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        raise UserError(f"{options.folder} is no folder: run this in the repository, or name a folder of results")
    # Here and not above: what is refused needs no pandas and no matplotlib.
    from soe_bench.report.load import load_results, results_folders
    from soe_bench.report.page import sections_of_several, write_page
    from soe_bench.report.pilot_page import DATA, write_pilot
    from soe_bench.report.write import check, rewrite

    folders = list(dict.fromkeys([options.folder, *results_folders(options.folder)]))
    if not options.check:
        sections = {folder: rewrite(folder) for folder in folders}
        for folder in folders:
            if (folder / DATA).is_file():
                write_pilot(folder)
        if len(folders) > 1:
            write_page(options.folder, sections_of_several(options.folder, sections))
        return 0
    stale = {folder: check(load_results(folder)) for folder in folders}
    for folder, lines in stale.items():
        print(*lines, f"{folder}: {'run the report again' if lines else 'tables and figures are up to date'}", sep="\n")
    return 1 if any(stale.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
