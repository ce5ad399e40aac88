"""What a run needs and what the machine has: devices, memory, and the time per step."""

from __future__ import annotations

import logging
import time

import numpy as np
import psutil
import torch

from soe_bench.config import make
from soe_bench.errors import UserError
from soe_bench.evaluate import check_vocabulary, document_losses
from soe_bench.runs.build import build_method
from soe_bench.runs.launchers import Launcher
from soe_bench.runs.run import Run
from soe_bench.system import distributed
from soe_bench.system.machine import prepare_process
from soe_bench.train import send

log = logging.getLogger("soe_bench")
TIMED_STEPS = 2
TIMED_WINDOWS = 16


def check_device(device: str, launcher: Launcher) -> None:
    """Raises UserError unless torch sees one CUDA device for each process of torchrun, or as many as the number in
    `device` needs. It does not count the devices if the jobs run on other machines."""
    kind, _, index = device.partition(":")
    count, wanted = torch.cuda.device_count(), max(distributed.on_this_machine(), int(index or 0) + 1)
    if kind == "cuda" and count < wanted and not launcher.elsewhere:
        raise UserError(
            f"device is {device}, but torch sees {count} CUDA devices, not {wanted}: set device=cpu"
            + (", or start fewer processes" if count else "")
        )


def check_parallel(run: Run | None) -> None:
    """Raises UserError if torchrun started several processes and a run or its parent cannot be divided among them."""
    processes = distributed.size()
    while run is not None and processes > 1:
        if not make(run.cfg.method).parallel:
            raise UserError(
                f"torchrun works for the soup and dense models: run {run.cfg.method.name} in one process "
                "(python -m soe_bench ...)"
            )
        if run.cfg.train.draws_per_step % processes:
            raise UserError(
                f"train.draws_per_step ({run.cfg.train.draws_per_step}) must be a multiple of the {processes} "
                "processes of torchrun"
            )
        run = run.parent


def check_memory(runs: list[Run], parallel: int, launcher: Launcher) -> None:
    """Raises UserError unless the `parallel` largest runs fit into the free memory side by side. Under torchrun on CPU
    that is one run in all processes of this machine. If the jobs run on other machines, the largest run must fit into
    the memory that a job asks for."""
    each = {run.recipe: 0 for run in runs}
    for run in {run.recipe: run for run in runs}.values():  # alike for all seeds
        try:
            each[run.recipe] = state_bytes(run)
        except UserError:
            raise
        except Exception:  # it takes no memory, as it will fail there too: the estimate says so
            continue
    needs = sorted((each[run.recipe] for run in runs), reverse=True)[: 1 if launcher.elsewhere else parallel]
    need, free = sum(needs) / 1e9, launcher.gigabytes
    if not launcher.elsewhere and runs[0].cfg.device == "cpu":
        need, free = need * distributed.on_this_machine(), psutil.virtual_memory().available / 1e9
    elif not launcher.elsewhere:
        free = torch.cuda.mem_get_info()[0] / 1e9
    log.info(
        "memory for parameters, moments and gradients: %.2f GB at most%s",
        need,
        " for each job" if launcher.elsewhere else f", {free:.1f} GB free",
    )
    if need > free:
        raise UserError(
            f"{len(needs)} runs at once need {need:.1f} GB, but {free:.1f} GB are free: "
            "lower method.n_experts, take a smaller model, or start fewer runs at once (launcher=single)"
            if not launcher.elsewhere
            else f"a job needs {need:.1f} GB and asks for {free:.1f}: raise hydra.launcher.mem_gb"
        )


def state_bytes(run: Run) -> int:
    """Bytes of parameters, moments and gradients of a training in one process, computed without allocating them."""
    return build_method(run, None, device="meta").cost()["state_bytes"]


def speeds(run: Run) -> tuple[float, float]:
    """Seconds per training step, and per token of an evaluation, both measured on random tokens after a warm-up. A
    method that trains nothing takes no step, and the base model stands for its specialists. Raises UserError if the
    specialists predict over another vocabulary than that of the corpus."""
    cfg = run.cfg
    prepare_process(cfg.threads)
    method = build_method(run, None)
    shape = (cfg.train.draws_per_step, cfg.train.batch_size // cfg.train.draws_per_step, cfg.train.seq_len + 1)
    rng = np.random.default_rng(0)
    batch = rng.integers(cfg.data.vocab_size, size=shape)
    trains = method.steps > 0
    h = np.full(cfg.data.k, 1 / cfg.data.k) if method.takes_h else None
    model = method.specialist(h, [batch[0, 0]]) if trains else method.context.base
    check_vocabulary(model, cfg.data.vocab_size)
    text = [rng.integers(cfg.data.vocab_size, size=cfg.train.seq_len + 1) for _ in range(TIMED_WINDOWS)]
    document_losses(model, text, cfg.train.seq_len)
    start = time.perf_counter()
    document_losses(model, text, cfg.train.seq_len)
    token = (time.perf_counter() - start) / (TIMED_WINDOWS * cfg.train.seq_len)
    if not trains:
        return 0.0, token
    tokens, weights = send(batch, method.domain_weights(rng, 1), cfg.device)
    for step in range(1 + TIMED_STEPS):
        if step == 1:
            start = time.perf_counter()
        method.update(tokens, weights, step + 1, 0.0)
    return (time.perf_counter() - start) / TIMED_STEPS, token
