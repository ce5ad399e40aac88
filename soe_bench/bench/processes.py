"""The soup's step in several processes: what each sends in it, and how long it takes."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp

from soe_bench.bench.measure import BenchSettings, interleaved
from soe_bench.bench.steps import Steps
from soe_bench.system import distributed
from soe_bench.system.files import write_text

EXPERTS, PROCESSES, ROUNDS = (16, 256), (1, 2), 9


def work(rank: int, processes: int, settings: BenchSettings, n: int, folder: Path) -> None:
    """The work of one process, on one thread. The first process writes its row to the folder."""
    distributed.connect(
        settings.device.startswith("cuda"), rank, init_method=f"file://{folder}/store", rank=rank, world_size=processes
    )
    steps = Steps(settings.compose(f"method.n_experts={n}", "threads=1"))
    distributed.sent.clear()
    steps()
    sent: Counter[str] = distributed.sent.copy()
    times = interleaved({"step": steps}, settings, ROUNDS)["step"]
    if rank == 0:
        row = {
            "n": n,
            "processes": processes,
            "P": steps.method.flat.size,
            "R": steps.cfg.train.draws_per_step,
            "parameters_sent": sent["all_to_all"],
            "sums_sent": sent["all_reduce"],
            "step_seconds": float(np.median(times)),
        }
        write_text(folder / "row.json", json.dumps(row))
    distributed.leave(0)


def processes(settings: BenchSettings) -> list[dict]:
    """One row per number of experts and of processes (on GPUs, at most as many processes as there are GPUs).
    `parameters_sent` and `sums_sent`: bytes that one process gives to the all-to-all and the all-reduce of a step."""
    most = torch.cuda.device_count() if settings.device.startswith("cuda") else max(PROCESSES)
    rows = []
    for n in EXPERTS:
        for count in PROCESSES:
            if count <= most:
                with tempfile.TemporaryDirectory() as folder:
                    mp.start_processes(work, (count, settings, n, Path(folder)), count, start_method="forkserver")
                    rows.append(json.loads((Path(folder) / "row.json").read_text(encoding="utf-8")))
    return rows
