"""`python -m soe_bench.report.install [DEMO_DIR [METHOD ...]]`: does the demo give here what it gave elsewhere?

Each run's mean test loss over the specialists must lie in the interval where one more seed of the expected values
(results/demo.csv) falls with probability 0.99. So must its difference from generic pretraining and, for a method that
takes domain weights, how much it loses with those of another specialist. That last one is far above zero at each seed,
and about zero where training or evaluation mixes up the domain weights. `make check-install` runs the whole demo first,
and `make reproduce` one method of it, which it names. `--write` makes a demo of several seeds the expected values.
"""

import argparse
import math
import sys
from pathlib import Path

import pandas as pd
from scipy.special import stdtrit

from soe_bench.errors import UserError
from soe_bench.report.format import to_csv
from soe_bench.report.load import load_results, read_csv
from soe_bench.report.stats import mean, variance
from soe_bench.report.view import make_views
from soe_bench.system.arguments import command
from soe_bench.system.files import write_text

EXPECTED = Path(__file__).parents[2] / "results" / "demo.csv"
COLUMNS = dict(data_fingerprint="text", method="text", seed="text", loss="number", loss_shuffled="number?")
REFERENCE = "generic"
LEVEL = 0.99
LEAST_SEEDS = 3


def demo_losses(folder: Path) -> pd.DataFrame:
    """Mean test loss over the specialists, one row per (method, seed), of the results folder of a demo, and
    `loss_shuffled` with the domain weights of another specialist (NaN for a method without any). Raises UserError where
    a record is missing."""
    views = make_views(load_results(folder))
    if len(views) != 1:
        raise UserError(f"{folder} does not hold the records of one demo: run make demo in a folder without it")
    view, rows = views[0], []
    for label in view.order:
        losses, shuffled = (
            view.seed_means(view.losses(label, source), view.specialists) for source in (None, "shuffled")
        )
        if losses.empty:
            raise UserError(f"{folder}: {label} lacks records: run make demo again, it goes on from where it stopped")
        rows += [(view.setting["data_fingerprint"], label, *row, shuffled.get(row[0])) for row in losses.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def quantities(losses: pd.DataFrame) -> pd.DataFrame:
    """What is compared: seeds x (each method's loss, each other method minus generic, what another's h costs)."""
    table, shuffled = (losses.pivot(index="seed", columns="method", values=name) for name in ("loss", "loss_shuffled"))
    others = [table[[]]]  # none without a generic run
    if REFERENCE in table:
        others = [table.drop(columns=REFERENCE).sub(table[REFERENCE], axis=0).add_suffix(f" minus {REFERENCE}")]
    return table.join([*others, shuffled.sub(table).add_suffix(", another's h")]).dropna(axis=1, how="all")


def prediction_interval(values: pd.Series) -> tuple[float, float]:
    """Where one more value of the same normal law falls with probability LEVEL."""
    n, centre = len(values), mean(values)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * math.sqrt(variance(values) * (1 + 1 / n))
    return centre - half, centre + half


def compare(found: pd.DataFrame, expected: pd.DataFrame, methods: list[str]) -> list[tuple[str, bool]]:
    """A line for each quantity of the methods (default: all expected ones) and each seed found, and whether it passes.
    Raises UserError if nothing can be compared."""
    if set(found.data_fingerprint) != set(expected.data_fingerprint):
        raise UserError(
            "the demo's corpus is not the one of the expected values (results/demo.csv): "
            "undo the change to conf/data/wheels_demo.yaml, or write new expected values with --write"
        )
    methods = methods or list(expected.method.unique())
    if unknown := set(methods) - set(expected.method):
        raise UserError(f"no expected values for {min(unknown)!r}: there are {', '.join(expected.method.unique())}")
    mine, theirs = (quantities(losses[losses.method.isin(methods)]) for losses in (found, expected))
    if lacking := [name for name in theirs if name not in mine]:
        raise UserError(f"the demo lacks {lacking[0]!r}: run make demo again, it goes on from where it stopped")
    lines = []
    for name in theirs:
        low, high = prediction_interval(theirs[name])
        for seed, value in mine[name].dropna().items():  # a run of a seed that the reference lacks has no difference
            inside = low <= value <= high
            words = f"{value:7.3f} nats  expected {low:7.3f} to {high:7.3f}  {'pass' if inside else 'FAIL'}"
            lines.append((f"{name:<28} seed {seed}  {words}", inside))
    return lines


@command
def main(arguments: list[str] | None = None) -> int:
    """0: everything passes, or written; 1: something fails; 2: bad input."""
    parser = argparse.ArgumentParser(prog="python -m soe_bench.report.install", description=__doc__)
    parser.add_argument("folder", metavar="DEMO_DIR", nargs="?", type=Path, default=Path("demo"))
    parser.add_argument("methods", metavar="METHOD", nargs="*", help="what to compare; default: all that is expected")
    parser.add_argument("--write", action="store_true", help="make DEMO_DIR (several seeds) the expected values")
    options = parser.parse_args(arguments)
    if not EXPECTED.parent.is_dir():
        raise UserError("the expected values (results/demo.csv) are not installed: run this in a checkout")
    found = demo_losses(options.folder)
    if options.write:
        if found.seed.nunique() < LEAST_SEEDS:
            raise UserError(
                f"{options.folder} has {found.seed.nunique()} seeds: {LEAST_SEEDS} or more are needed "
                "(python -m soe_bench +sweep=demo seed=0,1,2)"
            )
        write_text(EXPECTED, to_csv(found))
        return 0
    expected = read_csv(EXPECTED, COLUMNS)
    if expected.empty:
        raise UserError(f"{EXPECTED} is missing: restore the committed file")
    lines = compare(found, expected, options.methods)
    passed = all(inside for _, inside in lines)
    failure = "FAIL: this installation does not compute what it should; `make setup` installs the right versions"
    print(*(line for line, _ in lines), "PASS" if passed else failure, sep="\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
