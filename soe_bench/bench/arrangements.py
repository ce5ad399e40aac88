"""What to do with two cores: two jobs of one thread each, one job of two threads, or one job of two processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from soe_bench.bench.measure import FORKSERVER, BenchSettings
from soe_bench.bench.steps import Steps
from soe_bench.system import distributed

MODELS, ROUNDS, STEPS, WARM_UP = ("d32", "d64", "d128"), 5, 4, 2
ARRANGEMENTS = {  # jobs, processes of each, threads of each of these
    "2 jobs, 1 thread each": (2, 1, 1),
    "1 job, 2 threads": (1, 1, 2),
    "1 job, 2 processes of 1 thread": (1, 2, 1),
}


def work(rank: int, processes: int, threads: int, settings: BenchSettings, store: str, orders: Connection) -> None:
    """One process of a job: makes as many steps of a base model as it is told, and says when they are done."""
    if processes > 1:
        distributed.connect(False, rank, init_method=f"file://{store}", rank=rank, world_size=processes)
    steps: dict[str, Steps] = {}
    while (order := orders.recv()) is not None:
        model, count = order
        if model not in steps:
            steps[model] = Steps(settings.compose(f"model={model}", f"threads={threads}"))
        for _ in range(count):
            steps[model]()
        orders.send("done")
    distributed.leave(0)


@contextmanager
def worker(*arguments: Any) -> Iterator[Connection]:
    """A process at `work` with these arguments, as the end of a pipe that takes orders."""
    ours, theirs = FORKSERVER.Pipe()
    process = FORKSERVER.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()  # so that a process that fails ends the pipe
    try:
        yield ours
        ours.send(None)
        process.join()
    finally:
        process.kill()


def together(workers: list[Connection], model: str, count: int) -> float:
    """Seconds until all workers of an arrangement have made `count` steps of a base model, side by side."""
    start = time.perf_counter()
    for each in workers:
        each.send((model, count))
    for each in workers:
        each.recv()
    return time.perf_counter() - start


def arrangements(settings: BenchSettings) -> list[dict]:
    """One row per base model and arrangement: `base`, `arrangement`, `tokens_per_second` of all jobs together, as the
    median over rounds in which the arrangements take turns. A job trains a soup with 16 experts and R = 8 draws. It is
    about the cores of a CPU."""
    if settings.device != "cpu":
        return []
    models, rounds, count = (MODELS[:1], 1, 1) if settings.quick else (MODELS, ROUNDS, STEPS)
    train, rows = settings.compose().train, []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers = {
            name: [
                stack.enter_context(worker(rank, processes, threads, settings, f"{folder}/store"))
                for _ in range(jobs)
                for rank in range(processes)
            ]
            for name, (jobs, processes, threads) in ARRANGEMENTS.items()
        }
        for model in models:
            for each in workers.values():
                together(each, model, WARM_UP)
            taken = np.array([[together(each, model, count) for each in workers.values()] for _ in range(rounds)])
            for (name, (jobs, _, _)), seconds in zip(ARRANGEMENTS.items(), np.median(taken, 0), strict=True):
                speed = jobs * count * train.batch_size * train.seq_len / seconds
                rows.append({"base": model, "arrangement": name, "tokens_per_second": float(speed)})
    return rows
