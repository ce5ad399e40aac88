"""python -m soe_bench [+sweep=NAME] [key=value ...]: plans the jobs, runs them, prints what became of them."""

from __future__ import annotations

import logging
import sys
import traceback

import hydra
from omegaconf import DictConfig

from soe_bench import runs
from soe_bench.errors import UserError
from soe_bench.sweep import CONF, Plan, quoted, with_references

log = logging.getLogger("soe_bench")
HYDRA_FLAGS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    """One job and its references. A failure is written to the run's folder and does not stop the other jobs."""
    for each in with_references([cfg]):
        try:
            runs.execute(each)
        except UserError as error:
            log.error("%s", error)
        except Exception:  # noqa: BLE001 (the table after the jobs tells; the trace is for the log)
            log.error("%s", traceback.format_exc())


def main() -> int:
    """Returns 0 if every job is done, 1 if some are not, 2 for bad input, 130 after a stop request."""
    sys.argv[1:] = arguments = [quoted(argument) for argument in sys.argv[1:]]
    if any(argument.split("=")[0] in HYDRA_FLAGS for argument in arguments):
        job()
        return 0
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    try:
        plan = Plan.of(arguments)
        stopped = False
        try:
            if plan.prepare():
                job()
        except KeyboardInterrupt:
            stopped = True
        done = plan.finish()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 130 if stopped else 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
