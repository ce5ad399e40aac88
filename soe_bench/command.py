"""What `python -m soe_bench` does once its settings are accepted. Importing this imports torch, pandas and all else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from omegaconf import DictConfig

from soe_bench import pilot
from soe_bench.errors import UserError
from soe_bench.report import write as report
from soe_bench.report.tables.claims import load_claims
from soe_bench.runs.branched import branched
from soe_bench.runs.sweep import Plan, run_all
from soe_bench.system import distributed
from soe_bench.system.files import reason
from soe_bench.system.laps import Laps
from soe_bench.system.stop import STOP, stop_requests
from soe_bench.tracking import mirror_figures


def main(cfgs: list[DictConfig], launcher: DictConfig, launch: Callable[[], None]) -> int:
    """Plans and runs the jobs that `config.job_configs` gives; `launch` is Hydra's. Returns 0 if every job is done, 1
    if some are not, 2 for bad input, 130 after a stop request. One process of several does not return: it ends."""
    STOP.clear()
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    distributed.join()
    first = distributed.rank() == 0
    logging.getLogger("soe_bench").setLevel(logging.INFO if first else logging.ERROR)
    try:
        done = run(cfgs, launcher, launch)
        status = 130 if STOP.is_set() else 0 if done else 1
        if STOP.is_set() and first:
            print("stopped; the same command goes on", file=sys.stderr)
    except (UserError, OSError) as error:
        if first or isinstance(error, distributed.Lost):
            print(f"error: {reason(error)}", file=sys.stderr)
        status = 2
    if distributed.size() > 1:
        distributed.leave(status)
    return status


def run(cfgs: list[DictConfig], launcher: DictConfig, launch: Callable[[], None]) -> bool:
    """Plans and runs the jobs; returns whether every job is done. Raises UserError for bad input."""
    laps = Laps()
    laps.end("start")
    distributed.on_first(load_claims)  # the report reads them after the jobs: a mistake there is said before
    last = branched(cfgs)
    plan = distributed.on_first(Plan.of, cfgs + last, launcher)
    if cfgs[0].sweep_name == "pilot":
        distributed.on_first(pilot.check, plan.runs)
    try:
        with stop_requests(at_once=True):
            waiting = plan.prepare(laps)
        with stop_requests(at_once=True, waits=plan.launcher.obeys):
            if waiting and distributed.size() > 1:  # torchrun is the launcher
                run_all([run.cfg for run in plan.runs])
            elif waiting:
                launch()
                run_all(last)  # which starts from one of the others
    except KeyboardInterrupt:
        STOP.set()
    except SystemExit:  # the launcher failed, as Hydra has printed: the table says what is left to do
        pass
    laps.end("jobs")
    return distributed.on_first(finish, plan, laps)


def finish(plan: Plan, laps: Laps) -> bool:
    """Collects the records of the jobs, updates tables and figures, and says where the time went; returns whether every
    job is done."""
    results = plan.finish()
    laps.end("records")
    for folder, cfg in results.items():
        report.rewrite(folder)
        if cfg is not None:
            mirror_figures(cfg, folder)
    laps.end("tables and figures")
    laps.say(plan.spent())
    if plan.runs[0].cfg.sweep_name == "pilot" and plan.done:
        with distributed.apart():
            pilot.finish(plan.runs)
    return plan.done
