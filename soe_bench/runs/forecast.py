"""What one run takes, before it is made: memory, FLOPs and hours, the most experts that fit, and each part of its time.

Nothing is trained and no parameter is allocated, so `scale=paper` takes seconds too.
"""

from __future__ import annotations

import glob
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import torch
from omegaconf import DictConfig, open_dict
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from soe_bench.config import make
from soe_bench.data.builder import specialist_rules
from soe_bench.data.corpus import Corpus, folder, load
from soe_bench.data.sources.local import Local
from soe_bench.data.splits import GENERIC
from soe_bench.errors import UserError
from soe_bench.estimate import COEFFICIENTS_STEPS, H_STEPS, TUNING_WINDOWS
from soe_bench.method import Method
from soe_bench.ops.adamw import WORDS_PER_STEP
from soe_bench.ops.gradient import sequences_at_once
from soe_bench.runs.build import build_method
from soe_bench.runs.resources import state_bytes
from soe_bench.runs.run import Run
from soe_bench.system.machine import Rates, machine_rates
from soe_bench.train import tokens_per_step

BUILD_SECONDS, BUILD_SECONDS_PER_BYTE = 5, 2e-6  # of a corpus: 50 s for the 24 MB of wheels_demo on two cores


@dataclass(frozen=True)
class Machine:
    """A machine that a run is planned for: `device` as torch names it, memory in bytes, and the source of the rates."""

    name: str
    device: str
    memory: float
    rates: Rates
    source: str


GPU = Machine(
    "GPU",
    "cuda",
    139e9,
    Rates(bandwidth=0.4 * 4.8e12, matmul=0.4 * 989e12),
    "H200 SXM datasheet (989 TFLOP/s bfloat16 dense, 4.8 TB/s), 40 % of both assumed",
)


def plan(cfg: DictConfig) -> list[str]:
    """The lines of the plan, at the rates of this machine. Raises UserError for settings that are refused."""
    run, cpu = Run.of(cfg), machine_rates("cpu")
    method = build_method(run, None, device="meta")
    cost, steps, t = method.cost(), method.steps, cfg.train
    parent = f"; the {method.parent['method']} run that it starts from is not counted" if method.parent else ""
    size = cost["deployed_parameters"]
    here = Machine(
        "CPU",
        "cpu",
        psutil.virtual_memory().total,
        cpu,
        f"this machine, threads: {torch.get_num_threads()}, rates measured now "
        f"({cpu.matmul / 1e9:.0f} GFLOP/s float32, {cpu.bandwidth / 1e9:.1f} GB/s)",
    )
    machines = here, GPU
    activations = {m.name: activation_bytes(cfg, sequences_at_once(m.device, t.seq_len)) for m in machines}
    name = method.label + (f", n = {method.n_experts} experts" if method.n_experts else "")
    head = (
        f"{name}, scale={cfg.scale_name}: P = {size / 1e6:.2f}M parameters to deploy, "
        f"{cost['stored_parameters'] / 1e6:.2f}M to store"
    )
    if not steps:
        return [head, f"nothing is trained{parent}"]
    lines = [
        head,
        f"{steps:,} steps of {tokens_per_step(cfg):,} tokens: {t.batch_size} sequences of {t.seq_len}, "
        f"R = {t.draws_per_step} draws{parent}",
        f"memory   parameters, moments, gradients {cost['state_bytes'] / 1e9:.2f} GB; activations of a pass in float32 "
        f"{activations['CPU'] / 1e9:.2f} GB on a CPU, {activations['GPU'] / 1e9:.2f} GB on a GPU",
        f"FLOPs    {cost['flops_per_step']:.3g} per step, {steps * cost['flops_per_step']:.3g} in all",
    ]
    lines += [f"{m.name}      {in_time(steps * step_seconds(cost, m.rates))}: {m.source}" for m in machines]
    if "n_experts" not in cfg.method:
        return lines
    for m in machines:
        alone, trained = (largest_n(cfg, m.memory - used) for used in (0, activations[m.name]))
        lines.append(
            f"{m.memory / 1e9:<6.0f}GB ({m.name}) train up to n = {trained} experts (n = {alone} without activations)"
        )
    return lines


def in_time(seconds: float) -> str:
    """Seconds in words: in hours, or in seconds below a tenth of an hour."""
    return f"{seconds / 3600:,.2f} hours" if seconds >= 360 else f"{seconds:.0f} seconds"


def built_corpus(cfg: DictConfig) -> Corpus | None:
    """The corpus of a run, if it is there and whole."""
    try:
        return load(folder(cfg.data, Path(cfg.home), cfg.seeds.kmeans))
    except UserError:
        return None


def corpus_time(cfg: DictConfig) -> str:
    """How long the corpus takes to build, in words: what the last build of a corpus of that name took here, or what a
    folder of text of that size takes."""
    if built_corpus(cfg):
        return "built before"
    source = make(cfg.data.source)
    if isinstance(source, Local):
        seconds = BUILD_SECONDS + BUILD_SECONDS_PER_BYTE * min(source.size(), source.characters)
        return f"about {timedelta(seconds=round(seconds))}"
    built = Path(cfg.home).glob(f"data/{glob.escape(cfg.data.name)}-*/audit.json")
    for path in sorted(built, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(OSError, ValueError, KeyError, AttributeError):
            seconds = sum(json.loads(path.read_text(encoding="utf-8"))["seconds"].values())
            return f"about {timedelta(seconds=round(seconds))} (as an earlier build of {cfg.data.name})"
    return "not known"


def evaluation_tokens(cfg: DictConfig, method: Method, corpus: Corpus | None) -> float:
    """About how many tokens an evaluation passes through a model, a training step counting three times (forward and
    backward). Without a corpus: of the specialists that the configuration or the folder names, each as long as
    data.splits allows. It is inf if neither names any.

    The time to make the specialists' parameters is left out, and so is that of estimating h.
    """
    e, fine = cfg.evaluate, cfg.evaluate.fine_tuning
    source = make(cfg.data.source)
    names = corpus.specialists if corpus else list(specialist_rules(source, cfg.data))
    if not names and not isinstance(source, Local):
        return math.inf

    def text(name: str, split: str) -> int:
        return int(corpus.rows(name, split).tokens.sum()) if corpus else cfg.data.splits[split].tokens

    groups = [*names, GENERIC][: -1 if method.per_specialist else None]
    total = sum(text(name, split) for name in groups for split in e.splits)
    if "test" not in e.splits:
        return total
    tuning_step = TUNING_WINDOWS * cfg.train.seq_len * 3
    for name in names:
        test = text(name, "test")
        for budget in e.budgets if method.deployable else ():
            total += test + 3 * len(fine.lrs) * min(fine.epochs * budget, fine.max_tokens)
        if method.takes_h:
            controls = [control for control in method.controls if control in e.controls]
            total += len(controls) * test + ("tuned" in controls) * H_STEPS * tuning_step
            for estimator in e.estimators:
                tuning = COEFFICIENTS_STEPS * tuning_step if estimator == "tuned_coefficients" else 0
                total += len(e.documents) * e.draws * (test + tuning)
    return total


def step_seconds(cost: dict[str, int], machine: Rates) -> float:
    """Seconds per step if all operations run at the machine's rate and then all parameters and moments are moved."""
    return cost["flops_per_step"] / machine.matmul + WORDS_PER_STEP * 4 * cost["stored_parameters"] / machine.bandwidth


def largest_n(cfg: DictConfig, memory: float) -> str:
    """The most experts whose parameters, moments and gradients fit into `memory` bytes; "none" if one does not fit."""

    def at(n: int) -> int:
        other = cfg.copy()
        with open_dict(other):
            other.method.n_experts = n
        return state_bytes(Run.of(other))

    first = at(1)
    n = math.floor((memory - first) / (at(2) - first)) + 1  # the state grows by as much with each expert
    return f"{n:,}" if n > 0 else "none"


def activation_bytes(cfg: DictConfig, sequences: int) -> int:
    """Bytes that a forward pass on at most `sequences` of a step's sequences keeps for the backward pass, with the
    logits (whose gradient takes their place). The draws do not change it. Computed on tensors without memory."""
    with FakeTensorMode():
        base = make(cfg.model.base).eval()
        own = {parameter.untyped_storage()._cdata for parameter in base.parameters()}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = base(torch.zeros(min(sequences, cfg.train.batch_size), cfg.train.seq_len, dtype=torch.long))
        saved = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
        return saved + logits.untyped_storage().nbytes()
