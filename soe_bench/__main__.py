"""python -m soe_bench [+sweep=NAME] [key=value ...]: plans the jobs, runs them, and prints a table of their outcome.

torchrun --nproc-per-node=W -m soe_bench ... does the same with W processes, which share one job after the other.
"""

from __future__ import annotations

import logging
import sys

import hydra
from omegaconf import DictConfig

from soe_bench.config import CONF, quoted
from soe_bench.errors import UserError
from soe_bench.report import write as report
from soe_bench.runs.sweep import Plan, run_all, run_job
from soe_bench.system import distributed
from soe_bench.system.stop import STOP, stop_requests
from soe_bench.tracking import mirror_figures

HYDRA_FLAGS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    """One job, in this process or in a worker. It must not name a global that cannot be sent to a worker."""
    run_job(cfg)


def main() -> int:
    """Returns 0 if every job is done, 1 if some are not, 2 for bad input, 130 after a stop request."""
    sys.argv[1:] = arguments = [quoted(argument) for argument in sys.argv[1:]]
    if any(argument.split("=")[0] in HYDRA_FLAGS for argument in arguments):
        job()
        return 0
    STOP.clear()
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    distributed.join()
    first = distributed.rank() == 0
    logging.getLogger("soe_bench").setLevel(logging.INFO if first else logging.ERROR)
    try:
        done = run(arguments)
    except UserError as error:
        if first or isinstance(error, distributed.Lost):
            print(f"error: {error}", file=sys.stderr)
        return 2
    return 130 if STOP.is_set() else 0 if done else 1


def run(arguments: list[str]) -> bool:
    """Plans and runs the jobs; returns whether every job is done. Raises UserError for bad input."""
    plan = distributed.on_first(Plan.of, arguments)
    try:
        with stop_requests(at_once=True):
            waiting = plan.prepare()
        with stop_requests(at_once=not plan.launcher.obeys):
            if waiting and distributed.size() > 1:  # torchrun is the launcher
                run_all([run.cfg for run in plan.runs])
            elif waiting:
                job()
    except KeyboardInterrupt:
        STOP.set()
    except SystemExit:  # the launcher failed, as Hydra has printed: the table says what is left to do
        pass
    return distributed.on_first(finish, plan)


def finish(plan: Plan) -> bool:
    """Collects the records of the jobs and updates tables and figures; returns whether every job is done."""
    for folder, cfg in plan.finish().items():
        report.rewrite(folder)
        if cfg is not None:
            mirror_figures(cfg, folder)
    return plan.done


if __name__ == "__main__":
    distributed.leave(main())
