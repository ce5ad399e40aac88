"""`python -m soe_bench.report.compare A B [results=FOLDER]`: method A minus method B, paired by specialist and seed.

A and B are labels of the tables ("soup n=16", "generic"), or the beginning of one. FOLDER is a results folder, or a
folder of several (default: results). Of several settings that have both methods, the one with most methods is used.
The first line names its scale, model and corpus. Nothing is trained.
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
from soe_bench.report.view import GENERIC_TEXT, View, make_views
from soe_bench.system.arguments import Kind, command, path, read, wants_help
from soe_bench.system.words import counted

KEYS: dict[str, Kind] = {"results": path}


def find(views: list[View], *names: str) -> tuple[View, list[str]]:
    """Of the views in which each name is a label or begins one, that with most methods (of equal ones the first), and
    these labels. Raises UserError for a name of several labels there, and if there is no such view."""
    if not views:
        raise UserError("there are no test records: run a sweep first")

    def fitting(view: View) -> list[list[str]]:
        return [
            [name] if name in view.order else [each for each in view.order if each.startswith(name)] for name in names
        ]

    view = max((view for view in views if all(fitting(view))), key=lambda view: len(view.order), default=views[0])
    for name, labels in zip(names, fitting(view), strict=True):
        if len(labels) != 1:
            what = f"{name!r} fits several methods" if labels else f"there is no record of {name!r}"
            what += ": give more of the name of one of these:" if labels else ": the methods with records are:"
            raise UserError("\n  ".join([what, *(labels or view.order)]))
    return view, [label for [label] in fitting(view)]


def specialists_table(view: View, one: str, other: str, difference: Difference) -> pd.DataFrame:
    """A row per specialist of the paired difference: `difference` (nats/token, mean over the seeds of both), `low`,
    `high` and `outcome`.

    better or worse: the whole interval is below or above 0, otherwise not separated. The interval is Student's over
    seeds (95 %); for one seed two standard errors over the test documents, those of both methods as if independent
    (wider than paired).
    """
    table = t_intervals(difference.by_cell).rename(columns={"mean": "difference"})
    if difference.over_seeds.n < 2:
        errors = view.cells().set_index(["label", "seed", "specialist"]).loss_se_documents.astype(float)
        first, second = (errors[label][difference.by_seed.index[0]].reindex(table.index) for label in (one, other))
        half = (2 * np.hypot(first, second)).fillna(math.inf)
        table = table.assign(low=table.difference - half, high=table.difference + half)
    table["outcome"] = np.select([table.high < 0, table.low > 0], ["better", "worse"], "not separated")
    return table.reset_index().sort_values(["difference", "specialist"], ignore_index=True)


def report(view: View, one: str, other: str) -> str:
    """The comparison in words and a table. The mean, its intervals and the counts leave out the specialists outside the
    corpus, as all tables do. Raises UserError where no specialist and seed has both methods."""
    each, difference, text = (
        paired_difference(view.losses(one, specialists=texts), view.losses(other, specialists=texts))
        for texts in (None, view.averaged, [GENERIC_TEXT])
    )
    if difference is None:
        raise UserError(f"no specialist has a record of both {one} and {other} with the same seed: run both")
    table = specialists_table(view, one, other, each)
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
    return "\n".join([*lines, *_equality(view, one, other)])


def _equality(view: View, one: str, other: str) -> list[str]:
    """How far training tokens, FLOPs and parameters are equal: a difference between unequal ones is not the method's
    alone. FLOPs are those of all training and of a model for each specialist; to 5 % they are equal."""
    lines, count = [], len(view.specialists)
    for field in ("training_tokens", "stored_parameters", "deployed_parameters"):
        a, b = view.methods[field][[one, other]]
        said = f"equal, {a:,}" if a == b else f"NOT equal, {a:,} and {b:,} ({fixed(a / b, 2)} x)"
        lines.append(f"{field.replace('_', ' ')}: {said}")
    a, b = flops = [total_flops(view, label, count) for label in (one, other)]
    said = "equal to 5 %" if abs(a / b - 1) <= 0.05 else f"NOT equal ({fixed(a / b, 2)} x)"
    said += f", {a:.3g} and {b:.3g}"
    if unknown := [label for label, each in zip((one, other), flops, strict=True) if math.isnan(each)]:
        said = f"not known, as the records of {' and '.join(dict.fromkeys(unknown))} do not have those of a specialist"
    return [*lines, f"FLOPs of training and of {counted(count, 'specialist')}: {said}"]


@command
def main(arguments: list[str] | None = None) -> int:
    """0: compared; 2: bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    if wants_help(given):
        print(__doc__)
        return 0
    names = [argument for argument in given if not argument.startswith("results=")]
    own = read([argument for argument in given if argument not in names], KEYS)
    if len(names) != 2:
        raise UserError("name two methods, as in: python -m soe_bench.report.compare crisp generic results=FOLDER")
    folders = results_folders(own.get("results", Path("results")))
    views = [view for folder in folders for view in make_views(load_results(folder))]
    view, labels = find(views, *names)
    print(report(view, *labels))
    return 0


if __name__ == "__main__":
    sys.exit(main())
