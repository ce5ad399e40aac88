"""A training step in bfloat16 beside one in float32, and the loss after some hundred steps of each."""

from __future__ import annotations

import tempfile

import numpy as np
import torch

from soe_bench.bench.bases import least_seconds
from soe_bench.bench.measure import BenchSettings, in_fresh_process, interleaved
from soe_bench.bench.moments import validation_loss
from soe_bench.bench.steps import Steps

MODELS, PRECISIONS, ROUNDS = ("d64", "d128"), ("float32", "bfloat16"), 9


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies in bfloat16: every CUDA device of today, and a CPU with avx512_bf16 or amx."""
    return device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def step_times(settings: BenchSettings, given: tuple[str, ...]) -> dict[str, dict]:
    """By precision: `P`; `step_seconds`, taken in turns; `least_seconds`, at the machine's rates in that precision."""
    steps = {name: Steps(settings.compose(*given, f"train.precision={name}")) for name in PRECISIONS}
    times = interleaved(steps, settings, ROUNDS)
    return {
        name: {
            "P": each.method.flat.size,
            "step_seconds": float(np.median(times[name])),
            "least_seconds": least_seconds(settings, each.cfg),
        }
        for name, each in steps.items()
    }


def precision(settings: BenchSettings) -> list[dict]:
    """One row per base model and precision: `base`, `precision`, what `step_times` says of a soup with 16 experts, and
    its `loss` (nats per token of validation text) after `steps` steps at scale=test. No row on a processor without
    bfloat16."""
    if not has_bfloat16(settings.device):
        return []
    models, count, rows = (("d32",), 5, []) if settings.quick else (MODELS, 200, [])
    with tempfile.TemporaryDirectory() as home:
        for model in models:
            given = (f"model={model}", "method.n_experts=16")
            for name, times in in_fresh_process(step_times, settings, given).items():
                more = (f"train.precision={name}", f"train.tokens={count * 16 * 64}")  # a step has 16 times 64
                loss = validation_loss(settings, home, *given, *more)
                rows.append({"base": model, "precision": name} | times | {"steps": count, "loss": loss})
    return rows
