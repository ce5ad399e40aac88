"""`python -m soe_bench.report.compare A B [results=FOLDER]`: method A minus method B, paired by specialist and seed.

A and B are labels of the tables ("soup n=16", "generic"), or the beginning of one, or what the table `costs` calls
them after fine-tuning ("generic, fine-tuned on 10k"). FOLDER is a results folder, or a folder of several (default:
results). Of several settings that have both methods, the one with most methods is used. The first line names its
scale, model and corpus. Nothing is trained.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from soe_bench.errors import UserError
from soe_bench.report.format import fixed
from soe_bench.report.load import load_results, results_folders
from soe_bench.report.spending import total_flops
from soe_bench.report.stats import Difference, paired_difference, t_intervals
from soe_bench.report.tables.budgets import with_budget
from soe_bench.report.tables.costs import delivered
from soe_bench.report.view import GENERIC_TEXT, View, make_views
from soe_bench.system.arguments import Kind, command, path, read, wants_help
from soe_bench.system.words import counted

KEYS: dict[str, Kind] = {"results": path}
Side = tuple[str, int]  # a label, and the tokens that it was fine-tuned on


def find(views: list[View], *names: str) -> tuple[View, list[Side]]:
    """Of the views in which each name is a label or begins one, that with most methods (of equal ones the first), and
    what is meant. Raises UserError for a name of several labels there, and if there is no such view."""
    if not views:
        raise UserError("there are no test records: run a sweep first")

    def fitting(view: View) -> list[list[Side]]:
        sides = {with_budget(*side): side for side in delivered(view, view.order)}
        return [
            [sides[name]] if name in sides else [(each, 0) for each in view.order if each.startswith(name)]
            for name in names
        ]

    view = max((view for view in views if all(fitting(view))), key=lambda view: len(view.order), default=views[0])
    for name, sides in zip(names, fitting(view), strict=True):
        if len(sides) != 1:
            what = f"{name!r} fits several methods" if sides else f"there is no record of {name!r}"
            what += ": give more of the name of one of these:" if sides else ": the methods with records are:"
            raise UserError("\n  ".join([what, *([label for label, _ in sides] or view.order)]))
    return view, [side for [side] in fitting(view)]


def specialists_table(view: View, one: Side, other: Side, difference: Difference) -> pd.DataFrame:
    """A row per specialist of the paired difference: `difference` (nats/token, mean over the seeds of both), `low`,
    `high` and `outcome`.

    better or worse: the whole interval is below or above 0, otherwise not separated. The interval is Student's over
    seeds (95 %); for one seed two standard errors over the test documents, those of both methods as if independent
    (wider than paired).
    """
    table = t_intervals(difference.by_cell).rename(columns={"mean": "difference"})
    if difference.over_seeds.n < 2:
        first, second = (
            view.cells(budget=budget)
            .set_index(["label", "seed", "specialist"])
            .loss_se_documents.astype(float)[label][difference.by_seed.index[0]]
            .reindex(table.index)
            for label, budget in (one, other)
        )
        half = (2 * np.hypot(first, second)).fillna(math.inf)
        table = table.assign(low=table.difference - half, high=table.difference + half)
    table["outcome"] = np.select([table.high < 0, table.low > 0], ["better", "worse"], "not separated")
    return table.reset_index().sort_values(["difference", "specialist"], ignore_index=True)


def report(view: View, first: Side, second: Side) -> str:
    """The comparison in words and a table. The mean, its intervals and the counts leave out the specialists outside the
    corpus, as all tables do. Raises UserError where no specialist and seed has both methods."""
    one, other = with_budget(*first), with_budget(*second)
    each, difference, text = (
        paired_difference(*(view.losses(label, budget=budget, specialists=on) for label, budget in (first, second)))
        for on in (None, view.averaged, [GENERIC_TEXT])
    )
    if difference is None:
        raise UserError(f"no specialist has a record of both {one} and {other} with the same seed: run both")
    table = specialists_table(view, first, second, each)
    averaged = table.specialist.isin(difference.by_specialist.index)
    seeds = len(difference.by_seed)
    width = max(len(name) for name in table.specialist)
    lines = [f"{one} minus {other}, nats/token, {view.title}; below 0: {one} is better", ""]
    lines += [
        f"  {row.specialist:<{width}}  {row.difference:+.4f}  {row.low:+.4f} to {row.high:+.4f}  {row.outcome}"
        + ", outside the corpus" * (not within)
        for row, within in zip(table.itertuples(), averaged, strict=True)
    ]
    how = "95 % t-interval over seeds"
    if seeds == 1:
        how = "one seed: two standard errors over documents, so for these trained models; another seed may differ"
    count = table.outcome[averaged].value_counts()
    lines += [
        "",
        f"{one} is better on {count.get('better', 0)}, worse on {count.get('worse', 0)}, not separated on "
        f"{count.get('not separated', 0)} ({how})",
        f"mean {difference.mean:+.4f} over {averaged.sum()} of {len(view.specialists)} specialists and "
        f"{counted(seeds, 'seed')}; {difference.verdict}",
    ]
    for over, interval in difference.intervals.items():
        if interval.n > 1:
            n = "" if over == "both" else f" (n = {interval.n})"
            lines.append(f"  95 % over {over}{n}: {interval.low:+.4f} to {interval.high:+.4f}")
    lines.append(f"{GENERIC_TEXT} text: " + (f"{text.mean:+.4f}" if text else "no record of both"))
    return "\n".join([*lines, *_equality(view, first, second)])


def _equality(view: View, one: Side, other: Side) -> list[str]:
    """How far training tokens, FLOPs and parameters are equal: a difference between unequal ones is not the method's
    alone. FLOPs are those of all training and of a model for each specialist; to 5 % they are equal."""
    lines, count = [], len(view.specialists)
    for field in ("training_tokens", "stored_parameters", "deployed_parameters"):
        a, b = view.methods[field][[one[0], other[0]]]
        said = f"equal, {a:,}" if a == b else f"NOT equal, {a:,} and {b:,} ({fixed(a / b, 2)} x)"
        lines.append(f"{field.replace('_', ' ')}: {said}")
    a, b = flops = [total_flops(view, label, count, budget) for label, budget in (one, other)]
    said = "equal to 5 %" if abs(a / b - 1) <= 0.05 else f"NOT equal ({fixed(a / b, 2)} x)"
    said += f", {a:.3g} and {b:.3g}"
    if unknown := [with_budget(*side) for side, each in zip((one, other), flops, strict=True) if math.isnan(each)]:
        said = f"not known, as the records of {' and '.join(dict.fromkeys(unknown))} do not have those of a specialist"
    return [*lines, f"FLOPs of training and of {counted(count, 'specialist')}: {said}"]


def names_and_folder(given: list[str]) -> tuple[list[str], Path]:
    """The names of a command line, and its results folder. Raises UserError as `read` does."""
    names = [argument for argument in given if not argument.startswith("results=")]
    own = read([argument for argument in given if argument not in names], KEYS)
    return names, own.get("results", Path("results"))


@command
def main(arguments: list[str] | None = None) -> int:
    """0: compared; 2: bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    if wants_help(given):
        print(__doc__)
        return 0
    names, results = names_and_folder(given)
    if len(names) != 2:
        raise UserError("name two methods, as in: python -m soe_bench.report.compare crisp_branched dense_on_pi")
    views = [view for folder in results_folders(results) for view in make_views(load_results(folder))]
    view, sides = find(views, *names)
    print(report(view, *sides))
    return 0


if __name__ == "__main__":
    sys.exit(main())
