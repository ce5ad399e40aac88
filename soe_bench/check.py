"""python -m soe_bench.check method=NAME [key=value ...]: does a method keep the contract of soe_bench/method.py?

Trains the method for a few steps on synthetic text (scale=test), with the code that trains every run, in a folder that
is removed afterwards. Prints a line for each rule: pass with what it asks for, or FAIL with what to do. Bad settings
are answered before anything heavy is imported.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable

from soe_bench.config import job_configs, make, quoted
from soe_bench.errors import UserError
from soe_bench.system.arguments import command

TOKENS = 16_384  # 16 steps for one model


@command
def main(arguments: list[str] | None = None) -> int:
    """0: the method keeps every rule; 1: it does not; 2: bad input."""
    parser = argparse.ArgumentParser(
        "python -m soe_bench.check", usage="%(prog)s [-h] method=NAME [key=value ...]", description=__doc__
    )
    given = parser.parse_known_args(arguments)[1]
    own = [quoted(argument) for argument in given]
    with tempfile.TemporaryDirectory(prefix="soe_bench_check_") as folder:
        fixed = ["evaluate.splits=[validation]", "threads=1", "wandb.mode=disabled", "train.validations=2"]
        paths = [quoted(f"home={folder}"), quoted(f"results_dir={folder}/results")]
        cfgs, _ = job_configs(["scale=test", f"train.tokens={TOKENS}", *own, *fixed, *paths])
        if len(cfgs) > 1 or (cfgs[0].scale_name, cfgs[0].data.name) != ("test", "synthetic"):
            raise UserError("one method at a time, at scale=test: give only method=NAME and its settings")
        rules = []
        from soe_bench.conformance import RULES, conformance

        for rule, wrong in conformance(cfgs[0]):
            print(f"FAIL  {rule.__name__}: {wrong}" if wrong else f"pass  {rule.__name__}: {meaning(rule)}", flush=True)
            rules.append(wrong)
    if missing := [rule.__name__ for rule in RULES[len(rules) :]]:
        print(f"not checked until that is fixed: {', '.join(missing)}")
    broken = sum(map(bool, rules))
    verdict = f"breaks {broken} of the rules" if broken else "keeps the contract"
    print(f"{make(cfgs[0].method).label} {verdict} (soe_bench/method.py)")
    return int(broken > 0)


def meaning(rule: Callable[..., None]) -> str:
    """What a rule asks for: the first sentence of its docstring, on one line."""
    return f"{' '.join((rule.__doc__ or '').split()).split('. ')[0].removesuffix('.')}."


if __name__ == "__main__":
    sys.exit(main())
