"""Many specialists at once, from a soup in memory and from its file, beside one reading of the bank."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from soe_bench.bench.instantiate import PeakAnonymous, combine_file, write_soup
from soe_bench.bench.measure import BenchSettings, in_fresh_process, interleaved, rates
from soe_bench.bench.memory import LARGE
from soe_bench.soup import combine
from soe_bench.system.machine import prepare_process

COUNTS = (1, 8, 64, 100, 512)
ROUNDS = 7


def points(settings: BenchSettings, source: str, path: Path) -> list[dict]:
    """A row for each number of specialists made at once of the soup in the file `path`: `source` (memory, where the
    soup is loaded before, or disk), `count`, `n`, `P`; `seconds`; `reading_seconds`, to read every number of the bank
    once; `least_seconds`, at the machine's rates; `peak_bytes`, of memory that holds no file, beyond what was there
    before (None where the system does not tell)."""
    prepare_process(None)
    with safe_open(path, framework="pt") as file:
        shared, experts = (file.get_tensor(f"{name}.value") for name in ("shared", "experts"))
    make = partial(combine_file, path)
    if source == "memory":
        shared, experts = shared.clone(), experts.clone()
        make = partial(combine, shared, experts)
    (n, size), rows = experts.shape, []
    linux = Path("/proc/self/status").exists()
    start = PeakAnonymous.now() if linux else 0
    for count in COUNTS[:2] if settings.quick else COUNTS:  # growing: what a call frees, the next one uses again
        alpha = torch.rand(count, n)
        peak_bytes = None
        if linux:
            with PeakAnonymous() as peak:
                made = make(alpha)
            peak_bytes = peak.before + peak.bytes - start
            del made
        times = interleaved({"make": partial(make, alpha), "read": experts.sum}, settings, ROUNDS)
        seconds = {name: float(np.median(each)) for name, each in times.items()}
        row = {"source": source, "count": count, "n": n, "P": size, "seconds": seconds["make"]}
        rows.append(row | {"reading_seconds": seconds["read"], "peak_bytes": peak_bytes})
    machine = rates(settings)  # after the calls: it takes memory of its own
    return [
        row | {"least_seconds": machine.seconds(4 * (n + 1 + row["count"]) * size, 2 * row["count"] * n * size)}
        for row in rows
    ]


def many(settings: BenchSettings) -> list[dict]:
    """The rows of both sources. They are for CPU, where a soup's file is read."""
    if settings.device != "cpu":
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "soup"
        in_fresh_process(write_soup, settings, ("method.n_experts=4",) if settings.quick else LARGE, path)
        return [row for source in ("memory", "disk") for row in in_fresh_process(points, settings, source, path)]
