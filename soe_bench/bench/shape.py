"""The paper's shape: how the parts of the pipeline grow with the number of domains k and of experts n, up to k = 4096
and n = 128, on the largest base model that fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psutil
import torch

from soe_bench.bench.growth import with_exponents
from soe_bench.bench.measure import BenchSettings, Figure, in_fresh_process, interleaved, quartiles
from soe_bench.bench.memory import resident
from soe_bench.bench.steps import Steps
from soe_bench.data.domains import cluster, nearest, weights
from soe_bench.runs.resources import state_bytes
from soe_bench.runs.run import Run
from soe_bench.system.machine import peak_memory, prepare_process, seconds

MODELS = ("d256", "d128", "d64", "d32")  # the largest first
OF_FREE = 0.7  # of the memory that is free, a soup's parameters and moments may take
DOMAINS, EXPERTS = (64, 512, 4096), (8, 32, 128)
DRAWS = 512  # of h in a step of the paper's batch, one for each sequence
PASSAGES, DIMENSIONS, DOCUMENTS = 8192, 32, 64  # clustered, of their vectors, and those that h is estimated from
ROUNDS = 3
MEASURES = ("seconds", "peak_bytes")
STAGES = {  # by axis; the others do not depend on n
    "k": ("draws of h", "batch", "router", "clusters", "h of documents", "step"),
    "n": ("router", "step"),
}


def sampling_share(settings: BenchSettings) -> Figure:
    """The fraction of a soup's step in which its domain weights and its batch are drawn, with the most domains and
    experts and DRAWS draws of one sequence."""
    k, n, draws = (64, 8, 16) if settings.quick else (DOMAINS[-1], EXPERTS[-1], DRAWS)
    batch = (f"train.draws_per_step={draws}", f"train.batch_size={draws}")
    steps = Steps(settings.compose(f"data.k={k}", f"method.n_experts={n}", *batch))
    for _ in range(10 * k // draws):  # the first sequence of a domain draws the order of all, once in an epoch
        steps.data()
    times = interleaved({"data": steps.data, "step": steps}, settings, 5)
    return Figure(
        f"sampling_share_k{DOMAINS[-1]}",
        "of a soup's step",
        **quartiles(times["data"] / times["step"]),
        goal=0.03,
        parts={f"{name}_seconds": float(np.median(each)) for name, each in times.items()},
    )


def point(settings: BenchSettings, model: str, k: int, n: int, stages: tuple[str, ...]) -> list[dict]:
    """A row for each of the stages: `stage`, `k`, `n`, `P`, the median `seconds`, and `peak_bytes` above those before
    the stage (for `step`, of 8 sequences, before the soup was built)."""
    cfg = settings.compose(f"model={model}", f"data.k={k}", f"method.n_experts={n}", "train.batch_size=8")
    prepare_process(cfg.threads)
    before, rng = resident(settings.device), np.random.default_rng(0)
    steps = Steps(cfg)
    steps()
    built = peak_memory(settings.device) - before
    soup, h_0 = steps.method, np.full(k, 1 / k)
    drawn = soup.pi.sample(rng, DRAWS, h_0)
    vectors = rng.normal(size=(2 * k if settings.quick else PASSAGES, DIMENSIONS))
    tokens = np.full(len(vectors), cfg.train.seq_len)
    calls: dict[str, Callable[[], object]] = {
        "draws of h": lambda: soup.pi.sample(rng, DRAWS, h_0),
        "batch": lambda: steps.mixture.batch(rng, drawn, 1),
        "router": lambda: soup.coefficients(drawn),
        "clusters": lambda: cluster(vectors, tokens, k, 0, 0),
        "h of documents": lambda: weights(nearest(vectors[:DOCUMENTS], vectors[-k:])[0], tokens[:DOCUMENTS], k),
        "step": steps,
    }
    rows = []
    for name in stages:
        own = resident(settings.device)
        taken = [seconds(calls[name], settings.device) for _ in range(1 if name == "clusters" else ROUNDS)]
        peak = built if name == "step" else peak_memory(settings.device) - own
        row = {"stage": name, "k": k, "n": n, "P": soup.flat.size}
        rows.append(row | {"seconds": float(np.median(taken)), "peak_bytes": peak})
    return rows


def shape(settings: BenchSettings) -> list[dict]:
    """One row per axis (k or n, the other at its most), stage and value, with the exponents fitted along its axis."""
    model = "d32" if settings.quick else largest(settings)
    domains, experts = ((8, 16), (2, 4)) if settings.quick else (DOMAINS, EXPERTS)
    rows = [row for k in domains for row in in_fresh_process(point, settings, model, k, experts[-1], STAGES["k"])]
    along_n = [
        row for n in experts[:-1] for row in in_fresh_process(point, settings, model, domains[-1], n, STAGES["n"])
    ]
    along_n += [row for row in rows if row["k"] == domains[-1] and row["stage"] in STAGES["n"]]  # measured already
    return [
        {"axis": axis} | row
        for axis, points in (("k", rows), ("n", along_n))
        for stage in STAGES[axis]
        for row in with_exponents([p for p in points if p["stage"] == stage], axis, MEASURES)
    ]


def largest(settings: BenchSettings) -> str:
    """The name of the largest base model that fits into the free memory with the most domains and experts."""
    free = torch.cuda.mem_get_info()[0] if settings.device != "cpu" else psutil.virtual_memory().available

    def fits(model: str) -> bool:
        given = (f"model={model}", f"data.k={DOMAINS[-1]}", f"method.n_experts={EXPERTS[-1]}")
        return state_bytes(Run.of(settings.compose(*given))) < OF_FREE * free

    return next((model for model in MODELS if fits(model)), MODELS[-1])
