"""Peak memory. Each figure is measured in a process of its own, above what that process held before."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from soe_bench.bench.measure import BenchSettings, Figure, in_fresh_process
from soe_bench.bench.steps import Steps, plain_steps
from soe_bench.ops.flat import forward_at
from soe_bench.ops.gradient import gradient
from soe_bench.runs.build import build_method
from soe_bench.runs.run import Run
from soe_bench.system.machine import peak_memory, prepare_process, reset_peak_memory

# 64 experts of 1.58M parameters: n P = 101M
LARGE = (
    "model=d128",
    "model.base.hidden_size=160",
    "model.base.num_attention_heads=5",
    "model.base.intermediate_size=440",
    "method.n_experts=64",
)


def resident(device: str) -> int:
    """Bytes held now: of the accelerator, else of this process. Resets the peak."""
    reset_peak_memory()
    return peak_memory(device)


def peak_of_steps(settings: BenchSettings, overrides: tuple[str, ...], plain: bool) -> tuple[int, int]:
    """Peak bytes of building a method and of two steps, and the bytes of state that its cost() counts."""
    cfg = settings.compose(*overrides)
    prepare_process(cfg.threads)
    before = resident(settings.device)
    steps = plain_steps(cfg) if plain else Steps(cfg)
    for _ in range(2):
        steps()
    return peak_memory(settings.device) - before, build_method(Run.of(cfg), None, device="meta").cost()["state_bytes"]


def plain_memory_ratio(settings: BenchSettings) -> Figure:
    """Our peak over the plain version's at n P >= 100M. Limit: only our parameters, moments and gradients."""
    overrides = ("method.n_experts=64",) if settings.quick else LARGE
    ours, state = in_fresh_process(peak_of_steps, settings, overrides, False)
    plain, _ = in_fresh_process(peak_of_steps, settings, overrides, True)
    return Figure(
        "plain_memory_ratio_n64",
        "soup peak / plain peak",
        ours / plain,
        limit=state / plain,
        goal=0.7,
        parts={"soup_bytes": ours, "plain_bytes": plain, "state_bytes": state},
    )


def peak_of_loss(settings: BenchSettings, vocabulary: int, chunks: bool) -> int:
    """Peak bytes of one gradient of the dense model with a large vocabulary; without `chunks`, of torch's own loss."""
    cfg = settings.compose("method=generic", f"data.vocab_size={vocabulary}")
    prepare_process(cfg.threads)
    dense = build_method(Run.of(cfg), None)
    tokens = torch.randint(vocabulary, (1, cfg.train.batch_size, cfg.train.seq_len + 1), device=cfg.device)
    theta, base, flat = dense.models.value, dense.context.base, dense.flat
    before = resident(settings.device)
    if chunks:
        gradient(base, flat, theta, tokens, "float32")
    else:
        theta = theta.detach().requires_grad_()
        logits = forward_at(base, flat, theta, tokens[..., :-1])
        torch.autograd.grad(cross_entropy(logits.flatten(0, -2), tokens[..., 1:].flatten()), theta)
    return peak_memory(settings.device) - before


def loss_memory_ratio(settings: BenchSettings) -> Figure:
    """The gradient's peak with the loss in chunks over that with torch's cross_entropy, at a vocabulary of 32,768."""
    vocabulary = 1024 if settings.quick else 32_768
    ours, theirs = (in_fresh_process(peak_of_loss, settings, vocabulary, chunks) for chunks in (True, False))
    return Figure(
        "loss_memory_ratio",
        "peak in chunks / peak at once",
        ours / theirs,
        parts={"chunks_bytes": ours, "whole_bytes": theirs, "vocabulary": vocabulary},
    )
