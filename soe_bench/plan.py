"""python -m soe_bench.plan [key=value ...]: memory, FLOPs and hours of one run, and the most experts that fit.

Nothing is trained and no parameter is allocated, so `scale=paper` takes seconds too. Only this machine's rates are
measured. Bad settings are answered before anything heavy is imported.
"""

from __future__ import annotations

import logging
import sys

from soe_bench.config import job_configs, quoted
from soe_bench.errors import UserError
from soe_bench.system.arguments import command


@command
def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(argument in ("-h", "--help") for argument in arguments):
        print(__doc__)
        return 0
    logging.basicConfig(level=logging.ERROR)
    cfgs, _ = job_configs([quoted(argument) for argument in arguments])
    if len(cfgs) > 1:
        raise UserError("one run at a time: give no sweep and no list of values")
    from soe_bench.runs.forecast import plan

    print("\n".join(plan(cfgs[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
