"""Time of a training step: the soup's beside the dense one, the plain version and transformers' Trainer; the time that
drawing the data takes."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from soe_bench import checkpoint
from soe_bench.bench.measure import BenchSettings, Figure, interleaved, quartiles, rates
from soe_bench.bench.plain_soup import PlainSoup
from soe_bench.method import Method
from soe_bench.mixture import Mixture
from soe_bench.model import llama_config
from soe_bench.ops.flops import forward_flops
from soe_bench.ops.traced import compiled_backward, recorded_backward
from soe_bench.runs.build import build_method
from soe_bench.runs.run import Run
from soe_bench.soup import SoupOfExperts
from soe_bench.system.machine import prepare_process, seconds, synchronize
from soe_bench.train import send

RATE = 1e-3
WARM_UP = 3  # steps of the Trainer that are left out


class Steps:
    """A method with random text: calling it makes one step of the training loop, its data included."""

    def __init__(self, cfg: DictConfig) -> None:
        prepare_process(cfg.threads)
        self.cfg, self.count = cfg, itertools.count(1)
        self.method: Method = build_method(Run.of(cfg), None)
        # recorded at once, as it is in a run after its first steps
        self.method.context = replace(self.method.context, backward=recorded_backward(after=0))
        self.updated: Method | PlainSoup = self.method
        text = np.random.default_rng(0).integers(cfg.data.vocab_size, size=1_000_000, dtype=np.uint16)
        self.mixture = Mixture([text] * cfg.data.k, cfg.train.seq_len, seed=0)

    def data(self) -> tuple[torch.Tensor, torch.Tensor, int]:
        """The batch, its domain weights, and the number of the step."""
        t, step = self.cfg.train, next(self.count)
        rng = np.random.default_rng([0, step])
        weights = self.method.domain_weights(rng, step)
        batch = self.mixture.batch(rng, weights, t.batch_size // t.draws_per_step)
        return *send(batch, weights, self.cfg.device), step

    def __call__(self) -> None:
        tokens, weights, step = self.data()
        self.updated.update(tokens, weights, step, RATE)


def plain_steps(cfg: DictConfig) -> Steps:
    """The steps of the plain version of cfg's soup. The soup's own parameters are freed, so that they do not count as
    memory."""
    steps = Steps(cfg)
    steps.updated = PlainSoup(steps.method)
    steps.method.shared = steps.method.experts = None
    return steps


def bank_seconds(method: SoupOfExperts, settings: BenchSettings) -> float:
    """Least time of what the bank adds to a dense step: 8 n P words moved, 3 products of 2 R n P operations."""
    numbers = method.n_experts * method.flat.size
    return rates(settings).seconds(
        8 * numbers * method.experts.value.element_size(), 6 * method.context.draws_per_step * numbers
    )


def soup_step_ratio(settings: BenchSettings, n: int, goal: float) -> Figure:
    """Time of the soup's step over that of the dense one, with the same base model, tokens and draws."""
    soup = Steps(settings.compose(f"method.n_experts={n}"))
    times = interleaved({"dense": Steps(settings.compose("method=generic")), "soup": soup}, settings)
    dense = float(np.median(times["dense"]))
    return Figure(
        f"soup_step_ratio_n{n}",
        "soup step / dense step",
        **quartiles(times["soup"] / times["dense"]),
        limit=1 + bank_seconds(soup.method, settings) / dense,
        goal=goal,
        parts={"dense_seconds": dense, "soup_seconds": float(np.median(times["soup"]))},
    )


def plain_speedup(settings: BenchSettings) -> Figure:
    """Time of the plain version's step over that of ours. Limit: our forward and backward pass as measured, and the
    bank at the machine's rates."""
    cfg = settings.compose("method.n_experts=64")
    soup = Steps(cfg)
    times = interleaved(
        {"plain": plain_steps(cfg), "soup": soup, "dense": Steps(settings.compose("method=generic"))}, settings
    )
    plain, ours, dense = (float(np.median(times[name])) for name in ("plain", "soup", "dense"))
    return Figure(
        "plain_speedup_n64",
        "plain step / soup step",
        **quartiles(times["plain"] / times["soup"]),
        limit=plain / (dense + bank_seconds(soup.method, settings)),
        goal=3.0,
        bound="least",
        parts={"plain_seconds": plain, "soup_seconds": ours},
    )


def compiled_speedup(settings: BenchSettings) -> Figure:
    """Time of the dense step over that with train.compile, which is compiled before the clock starts."""
    dense, compiled = (Steps(settings.compose("method=generic")) for _ in range(2))
    compiled.method.context = replace(compiled.method.context, backward=compiled_backward())
    times = interleaved({"dense": dense, "compiled": compiled}, settings)
    return Figure(
        "compiled_speedup",
        "dense step / compiled step",
        **quartiles(times["dense"] / times["compiled"]),
        parts={name: float(np.median(seconds)) for name, seconds in times.items()},
    )


def data_share(settings: BenchSettings) -> Figure:
    """The fraction of a dense step's time in which its batch is drawn."""
    steps = Steps(settings.compose("method=generic"))
    times = interleaved({"data": steps.data, "step": steps}, settings)
    return Figure(
        "data_share",
        "of a dense step",
        **quartiles(times["data"] / times["step"]),
        goal=0.03,
        parts={"data_seconds": float(np.median(times["data"]))},
    )


def checkpoint_share(settings: BenchSettings) -> Figure:
    """Time to write a checkpoint of a soup with 16 experts over that of the steps from one checkpoint to the next."""
    steps = Steps(settings.compose("method.n_experts=16"))
    with tempfile.TemporaryDirectory() as folder:

        def write() -> None:
            checkpoint.save_step(Path(folder), next(steps.count), steps.method.tensors(), {})

        times = interleaved({"write": write, "step": steps}, settings, 5)
    return Figure(
        "checkpoint_share",
        "of the training",
        **quartiles(times["write"] / (steps.cfg.train.checkpoint_every * times["step"])),
        parts={f"{name}_seconds": float(np.median(each)) for name, each in times.items()},
    )


def trainer_speedup(settings: BenchSettings, compiled: bool) -> Figure:
    """Time of a step of transformers' Trainer over that of our dense step, taken in turns: the same Llama, batch size,
    AdamW and clipping on both sides. `compiled`: with torch_compile on theirs and train.compile on ours."""
    name, unit = "trainer_speedup" + "_compiled" * compiled, "Trainer step / dense step"
    if not (find_spec("transformers") and find_spec("accelerate")):
        note = "transformers or accelerate is not installed: run make bench"
        return Figure(name, unit, None, goal=1.2, bound="least", note=note)
    steps = Steps(settings.compose("method=generic"))
    if compiled:
        steps.method.context = replace(steps.method.context, backward=compiled_backward())
    theirs, ours = np.array(_turns(steps, settings.rounds, compiled)).T
    t, base = steps.cfg.train, steps.method.context.base
    least = rates(settings).seconds(0, 3 * t.batch_size * forward_flops(base, t.seq_len))
    return Figure(
        name,
        unit,
        **quartiles(theirs / ours),
        limit=float(np.median(theirs)) / least,
        goal=1.2,
        bound="least",
        parts={
            "trainer_seconds": float(np.median(theirs)),
            "dense_seconds": float(np.median(ours)),
            "dense_least_seconds": least,
        },
    )


def _turns(steps: Steps, rounds: int, compiled: bool) -> list[tuple[float, float]]:
    """Seconds of a step of transformers' Trainer, from the end of one to the end of the next, and of our step, which is
    made in between and is no part of them; one pair per round, those of WARM_UP left out."""
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    cfg = steps.cfg
    t, o = cfg.train, cfg.train.optimizer
    config = llama_config(steps.method.context.base)
    model = LlamaForCausalLM(LlamaConfig(**config, use_cache=False, attn_implementation="sdpa"))
    tokens = torch.randint(cfg.model.base.vocab_size, (t.batch_size * (WARM_UP + rounds), t.seq_len))
    pairs: list[tuple[float, float]] = []

    class Turns(TrainerCallback):
        start = 0.0

        def on_step_end(self, *_: object, **__: object) -> None:
            synchronize(cfg.device)
            theirs = time.perf_counter() - self.start
            pairs.append((theirs, seconds(steps, cfg.device)))
            self.start = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=t.batch_size,
            max_steps=WARM_UP + rounds,
            learning_rate=RATE,
            adam_beta1=o.beta1,
            adam_beta2=o.beta2,
            weight_decay=o.weight_decay,
            max_grad_norm=o.max_grad_norm,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=cfg.device == "cpu",
            torch_compile=compiled,
        )
        data = [{"input_ids": row, "labels": row} for row in tokens]
        Trainer(model, arguments, train_dataset=data, callbacks=[Turns()]).train()
    return pairs[WARM_UP:]
