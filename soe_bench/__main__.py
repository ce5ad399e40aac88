"""python -m soe_bench [+sweep=NAME] [key=value ...]: plans the runs, makes them, and prints a table of the outcome.

torchrun --nproc-per-node=W -m soe_bench ... does the same with W processes, which share one run after the other.

Bad settings are answered here, before `soe_bench.command` is imported, because torch takes seconds to import.
"""

from __future__ import annotations

import os
import signal
import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from soe_bench.config import CONF, MULTIRUN, check_folders, job_configs, quoted, refusal
from soe_bench.data.sizing import sized
from soe_bench.errors import UserError
from soe_bench.system.files import show_every_character

HYDRA_FLAGS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    """One job, in this process or in a worker. It must not name a global that cannot be sent to a worker."""
    from soe_bench.runs.sweep import run_all
    from soe_bench.system.stop import outlive_stops

    outlive_stops()
    show_every_character()  # its file also has what conf/config.yaml needs in a worker
    run_all([cfg])


def main() -> int:
    """Returns 0 if every job is done, 1 if some are not, 2 for bad input, 130 after a stop request."""
    show_every_character()
    try:
        return begin()
    except KeyboardInterrupt:  # before the first run, or after the last one: the runs themselves stop by their own rule
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


def begin() -> int:
    """Checks the settings, then plans and makes the runs; returns as `main` does."""
    try:
        given = sorted(
            sys.argv[1:], key=lambda argument: argument not in MULTIRUN
        )  # Hydra reads these at the front only
        sys.argv[1:] = arguments = [quoted(argument) for argument in given]
        if any(argument.split("=")[0] in HYDRA_FLAGS for argument in arguments):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends without a traceback
            show(arguments)
            return 0
        sys.argv[1:] = arguments = sized(arguments, writes=True)  # Hydra's workers read them too
        cfgs, launcher = job_configs(arguments)
        for cfg in cfgs:
            check_folders(cfg)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":  # of the processes of torchrun, one says it
            print(f"error: {error}", file=sys.stderr)
        return 2
    from soe_bench import command

    return command.main(cfgs, launcher, job)


def show(arguments: list[str]) -> None:
    """What Hydra shows of the configuration for one of its flags. Raises UserError for what Hydra or we refuse."""
    settings = [argument for argument in arguments if argument in MULTIRUN or "=" in argument and argument[0] != "-"]
    if settings:
        job_configs(settings)  # Hydra itself would answer a mistake with a traceback
    try:
        job()
    except (HydraException, ValueError) as error:
        raise UserError(refusal(error)) from error


if __name__ == "__main__":
    sys.exit(main())
