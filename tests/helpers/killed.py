"""One run twice: in one go, and killed by SIGKILL 20 times before it may end. test_faults.py compares them.

`python tests/helpers/killed.py SEED WHOLE_HOME KILLED_HOME`: each attempt is a fork of this process, which has all
imports.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from soe_bench.config import job_configs
from soe_bench.data import builder  # noqa: F401 (imported here, else in every attempt)
from soe_bench.runs.execute import execute
from soe_bench.soup import SoupOfExperts

# 30 steps, 10 checkpoints, 4 evaluation. Of each kill: where, and the latest moment of it; the moment is drawn.
KILLS = [("corpus", 9)] * 5 + [("training", 6), ("checkpoint", 6)] * 4 + [("model", 6)] * 3 + [("records", 3)] * 4
SMALL = [
    "scale=test",
    "wandb.mode=disabled",
    "threads=1",
    "method.n_experts=3",
    "method.parent=null",
    "train.tokens=15360",
    "train.batch_size=8",
    "train.checkpoint_every=3",
    "evaluate.splits=[validation]",
]
EVENTS = ("open", "os.rename", "os.remove")


def place(path: str, home: str) -> str | None:
    """What a file belongs to; None if it is not below `home`."""
    if not path.startswith(home) or path.endswith(".lock"):
        return None
    name = Path(path).name.lstrip(".").partition("-")[0].partition(".")[0]
    return "corpus" if "/data/" in path else "model" if name in ("alpha", "training") else name


def kill_at(where: str, moment: int, home: str) -> None:
    """This process ends at the `moment`-th training step, or change of a file, of `where`; a file that is being written
    at that moment is left torn."""
    left = moment

    def happens(here: str | None, torn: str | None = None) -> None:
        nonlocal left
        left -= here == where
        if left == 0 and here == where:
            if torn and os.path.isfile(torn):
                with open(os.open(torn, os.O_RDWR), "rb+") as file:
                    file.truncate(os.path.getsize(torn) * 2 // 3)
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple) -> None:
        if event in EVENTS and isinstance(arguments[0], (str, Path)) and not (event == "open" and arguments[1] is None):
            path = str(arguments[0])
            if event != "open" or str(arguments[1])[0] in "wa":
                happens(place(path, home), path if event == "os.rename" or path.endswith(".partial") else None)

    update = SoupOfExperts.update

    def counted(*arguments):
        happens("training")
        return update(*arguments)

    SoupOfExperts.update = counted
    sys.addaudithook(hook)


def attempt(cfg: DictConfig, *kill: object) -> int:
    """The wait status of a process that executes the run."""
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # so that the corpus is built in this process
    torch.set_num_threads(1)
    if kill:
        kill_at(*kill, cfg.home)
    execute(cfg)
    os._exit(0)


if __name__ == "__main__":
    rng = np.random.default_rng(int(sys.argv[1]))
    whole, killed = (job_configs([*SMALL, f"home={home}"])[0][0] for home in sys.argv[2:])
    assert attempt(whole) == 0
    for where, latest in KILLS:
        status = attempt(killed, where, int(rng.integers(latest)) + 1)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"{where}: not killed ({status})"
    assert attempt(killed) == 0
