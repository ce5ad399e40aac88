"""`python -m soe_bench.report.judge METHOD [results=FOLDER]`: the tests of all claims, with METHOD as the soup.

METHOD is a method with experts, such as a soup of your own. FOLDER is a results folder, or a folder of several
(default: results). Of several settings that have the method, the one with most records is used; effects across model
sizes look at the others too. The rules are those of conf/claims.yaml. Nothing is trained, and nothing is written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from soe_bench.errors import UserError
from soe_bench.report.compare import names_and_folder
from soe_bench.report.format import fixed
from soe_bench.report.load import load_results, results_folders
from soe_bench.report.tables.claims import claims_table
from soe_bench.report.view import make_views
from soe_bench.system.arguments import command, wants_help
from soe_bench.system.words import counted


def judged(method: str, folder: Path) -> str:
    """A line for each test, with the outermost ends of its intervals, and last those that lack a record. Raises
    UserError where no run of the method has experts."""
    found = [load_results(each) for each in results_folders(folder)]
    views = {view: results.distances for results in found for view in make_views(results)}
    own = [view for view in views if ((view.runs.method == method) & (view.runs.n_experts > 0)).any()]
    if not own:
        known = sorted({name for view in views for name in view.runs[view.runs.n_experts > 0].method})
        raise UserError(
            f"there is no record of a method {method!r} with experts: there are {', '.join(known) or 'none'}"
        )
    first = max(own, key=lambda view: len(view.records))
    table = claims_table([first, *(view for view in views if view is not first)], views[first], method)
    lines = [f"The claims for {method}, {first.title}, in nats/token. A star: the test decides its claim."]
    tests = zip(json.loads(table.json), table.frame.note, strict=True)
    lines += [_line(test, note) for test, note in sorted(tests, key=lambda pair: pair[0]["effect"] is None)]
    return "\n".join(lines)


def _line(test: dict, note: str) -> str:
    name = f"  {test['id']}{'*' * test['decides']}  {test['test']}: "
    if test["effect"] is None:
        return f"{name}not run, {note}"
    interval = "no interval" if test["low"] is None else f"{fixed(test['low'], 3)} to {fixed(test['high'], 3)}"
    rests_on = f"{counted(test['n'], 'seed')}, {test['specialists']}"
    return f"{name}{fixed(test['effect'], 3)} ({interval}; {rests_on}), {test['verdict']}"


@command
def main(arguments: list[str] | None = None) -> int:
    """0: printed; 2: bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    if wants_help(given):
        print(__doc__)
        return 0
    names, results = names_and_folder(given)
    if len(names) != 1:
        raise UserError("name one method, as in: python -m soe_bench.report.judge low_rank_soup results=FOLDER")
    print(judged(names[0], results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
