"""A training step in bfloat16 beside one in float32, and the loss after some hundred steps of each."""

from __future__ import annotations

import tempfile

import numpy as np
import torch

from soe_bench.bench.bases import least_seconds
from soe_bench.bench.measure import Settings, in_fresh_process, interleaved
from soe_bench.bench.moments import validation_loss
from soe_bench.bench.steps import Steps

MODELS, PRECISIONS, ROUNDS = ("d64", "d128"), ("float32", "bfloat16"), 9


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies in bfloat16: every CUDA device of today, and a CPU with avx512_bf16 or amx."""
    return device != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def point(settings: Settings, model: str) -> list[dict]:
    """The rows of one base model, one for each precision: `base`, `precision`, `P`; `step_seconds`, taken in turns, of
    a soup with 16 experts; `least_seconds`, at the machine's rates in that precision; `loss` (nats per token of
    validation text) after `steps` steps at scale=test."""
    given = (f"model={model}", "method.n_experts=16")
    steps = {name: Steps(settings.compose(*given, f"train.precision={name}")) for name in PRECISIONS}
    times = interleaved(steps, settings, ROUNDS)
    count, rows = 20 if settings.quick else 300, []
    with tempfile.TemporaryDirectory() as home:
        tokens = f"train.tokens={count * 16 * 64}"
        loss = {name: validation_loss(settings, home, *given, tokens, f"train.precision={name}") for name in PRECISIONS}
    for name in PRECISIONS:
        rows.append(
            {
                "base": model,
                "precision": name,
                "P": steps[name].method.flat.size,
                "step_seconds": float(np.median(times[name])),
                "least_seconds": least_seconds(settings, steps[name].cfg),
                "steps": count,
                "loss": loss[name],
            }
        )
    return rows


def precision(settings: Settings) -> list[dict]:
    """The rows of every base model; none on a processor without bfloat16."""
    if not has_bfloat16(settings.device):
        return []
    models = ("d32",) if settings.quick else MODELS
    return [row for model in models for row in in_fresh_process(point, settings, model)]
