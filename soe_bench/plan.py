"""python -m soe_bench.plan [+sweep=NAME] [key=value ...]: what one run, or the runs of a sweep, would take.

For one run it prints memory, FLOPs, hours, and the largest number of experts that fits into memory. No parameter is
allocated, so `scale=paper` takes seconds too: only this machine's rates are measured. For a sweep it prints how many
runs are done, which are not, and the memory and time that these need, measured on a few steps of each kind of run.
Nothing is written.
"""

from __future__ import annotations

import logging
import sys

from soe_bench.config import job_configs, quoted
from soe_bench.data.sizing import sized
from soe_bench.system.arguments import command, wants_help


@command
def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if wants_help(arguments):
        print(__doc__)
        return 0
    cfgs, launcher = job_configs(sized([quoted(argument) for argument in arguments]))
    if len(cfgs) == 1:
        from soe_bench.runs.forecast import plan

        logging.basicConfig(level=logging.ERROR)
        print("\n".join(plan(cfgs[0])))
    else:
        from soe_bench.runs.branched import branched
        from soe_bench.runs.sweep import Plan

        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        Plan.of(cfgs + branched(cfgs), launcher).estimate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
