"""How time and memory of a step grow with n, P, R and k."""

from __future__ import annotations

import numpy as np
from omegaconf import DictConfig

from soe_bench.bench.measure import BenchSettings, in_fresh_process, interleaved
from soe_bench.bench.memory import resident
from soe_bench.bench.steps import RATE, Steps
from soe_bench.ops.gradient import gradient
from soe_bench.system.machine import peak_memory, prepare_process

AXES = {  # what varies, and the settings that vary it; the others stay at n = 16, R = 8, k = 64, P = 0.28M: no setting
    "n": {4: "method.n_experts=4", 16: "", 64: "method.n_experts=64", 256: "method.n_experts=256"},
    "P": {name: f"model={name}" for name in ("d32", "d64", "d128")},
    "R": {2: "train.draws_per_step=2", 8: "", 32: "train.draws_per_step=32"},
    "k": {64: "", 512: "data.k=512", 4096: "data.k=4096"},
}
ROUNDS = 9
MEASURES = ("step_seconds", "soup_seconds", "peak_bytes")


def point(settings: BenchSettings, override: str) -> dict[str, float]:
    """One row: n, P, R, k, the median seconds of a step and of its part beyond forward and backward, the peak bytes."""
    cfg: DictConfig = settings.compose("method.n_experts=16", *filter(None, [override]))
    prepare_process(cfg.threads)
    before = resident(settings.device)
    steps = Steps(cfg)
    method, (tokens, weights, _) = steps.method, steps.data()
    theta = method.instantiate(method.coefficients(weights).detach())

    def update() -> None:
        method.update(tokens, weights, 1, RATE)

    def passes() -> None:
        gradient(method.context.base, method.flat, theta, tokens, "float32", run=method.context.backward)

    times = interleaved({"step": update, "passes": passes}, settings, ROUNDS)
    return {
        "n": method.n_experts,
        "P": method.flat.size,
        "R": cfg.train.draws_per_step,
        "k": cfg.data.k,
        "step_seconds": float(np.median(times["step"])),
        "soup_seconds": float(np.median(times["step"] - times["passes"])),
        "peak_bytes": peak_memory(settings.device) - before,
    }


def growth(settings: BenchSettings) -> list[dict]:
    """One row per point: `axis`, what `point` gives, and the exponents fitted along its axis (`<measure>_exponent`).
    The point that all axes share is measured once."""
    chosen = {axis: list(given.values())[: 2 if settings.quick else None] for axis, given in AXES.items()}
    different = dict.fromkeys(override for given in chosen.values() for override in given)
    found = {override: in_fresh_process(point, settings, override) for override in different}
    return [
        {"axis": axis} | row
        for axis, given in chosen.items()
        for row in with_exponents([found[override] for override in given], axis, MEASURES)
    ]


def with_exponents(points: list[dict], axis: str, measures: tuple[str, ...]) -> list[dict]:
    """The points, each with the exponents of the measures along the axis."""
    x = [p[axis] for p in points]
    exponents = {f"{name}_exponent": fitted_exponent(x, [p[name] for p in points]) for name in measures}
    return [p | exponents for p in points]


def fitted_exponent(x: list[float], y: list[float]) -> float | None:
    """b of y = a x^b by least squares on the logarithms; None where a value is not positive."""
    if min(y) <= 0:
        return None
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
