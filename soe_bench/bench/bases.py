"""A training step on two base models with 0, 16 and 64 experts, beside the least time that the machine allows."""

from __future__ import annotations

import numpy as np
import torch
from omegaconf import DictConfig

from soe_bench.bench.measure import BenchSettings, in_fresh_process, interleaved, rates
from soe_bench.bench.memory import resident
from soe_bench.bench.steps import Steps
from soe_bench.ops.adamw import WORDS_PER_STEP
from soe_bench.runs.build import build_method
from soe_bench.runs.run import Run
from soe_bench.system.machine import peak_memory, prepare_process

EXPERTS, ROUNDS = (0, 16, 64), 9
LARGE = ("model=d768", "data.vocab_size=32000", "train.seq_len=1024", "train.precision=bfloat16")
BASES = {  # by kind of device; R = 8 draws of 4 sequences
    "cpu": {"0.28M": (), "1.1M": ("model=d128",)},
    "cuda": {
        "30M": (
            *LARGE,
            "model.base.hidden_size=384",
            "model.base.num_hidden_layers=10",
            "model.base.num_attention_heads=6",
            "model.base.intermediate_size=1024",
        ),
        "110M": LARGE,
    },
}


def point(settings: BenchSettings, overrides: tuple[str, ...], n: int) -> dict[str, float | None]:
    """One row: n, P, tokens and precision of a step, its median seconds and peak bytes, and the least seconds.

    Seconds and bytes are None if the device has too little memory."""
    cfg = settings.compose(f"method.n_experts={n}" if n else "method=dense_on_pi", *overrides)
    prepare_process(cfg.threads)
    before = resident(settings.device)
    cost = build_method(Run.of(cfg), None, device="meta").cost()
    row: dict = {
        "n": n,
        "P": cost["deployed_parameters"],
        "tokens": cfg.train.batch_size * cfg.train.seq_len,
        "precision": cfg.train.precision,
        "step_seconds": None,
        "peak_bytes": None,
    }
    try:
        row["step_seconds"] = float(np.median(interleaved({"step": Steps(cfg)}, settings, ROUNDS)["step"]))
        row["peak_bytes"] = peak_memory(settings.device) - before
    except torch.OutOfMemoryError:
        pass
    return row | {"least_seconds": least_seconds(settings, cfg)}  # after the steps: it takes memory of its own


def least_seconds(settings: BenchSettings, cfg: DictConfig) -> float:
    """Of a step: all counted FLOPs at the machine's matmul rate in its precision, or moving all parameters and moments
    at the copy bandwidth, whichever takes longer."""
    cost = build_method(Run.of(cfg), None, device="meta").cost()
    moved = WORDS_PER_STEP * 4 * cost["stored_parameters"]
    return rates(settings, cfg.train.precision).seconds(moved, cost["flops_per_step"])


def bases(settings: BenchSettings) -> list[dict]:
    """One row per base model and number of experts."""
    chosen = BASES["cuda" if settings.device.startswith("cuda") else "cpu"]
    return [
        {"base": name} | in_fresh_process(point, settings, overrides, n)
        for name, overrides in (list(chosen.items())[:1] if settings.quick else chosen.items())
        for n in (EXPERTS[:2] if settings.quick else EXPERTS)
    ]
