"""The one training loop, for every method (Algorithm 2 for the soup).

A step draws domain weights, samples a batch of their mixture, and hands both to the method. Every draw comes from a
generator seeded by (seeds.mix, step), so that a resumed run repeats an uninterrupted one exactly.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from soe_bench import checkpoint
from soe_bench.errors import UserError
from soe_bench.method import Method
from soe_bench.mixture import Mixture
from soe_bench.system import distributed
from soe_bench.system.files import refusals
from soe_bench.system.stop import Interrupted, stop_requested, stop_requests
from soe_bench.tracking import Tracker

log = logging.getLogger("soe_bench")
ROWS = 100  # rows of the learning curve
VALIDATED = ("validation_loss", "copying_gain")  # its columns that few rows have
PROGRESS_SECONDS = 10.0


@dataclass
class Progress:
    """What the loop has done so far, saved in each checkpoint. `losses` are those since the last row of the curve."""

    step: int = 0
    seconds: float = 0.0
    curve_bytes: int = 0
    losses: list[float] = field(default_factory=list)


class Curve:
    """metrics.jsonl, with one row per reporting interval, and the progress line. A resumed run cuts the file back to
    its checkpoint. Rank 0 writes; its disk errors are raised on every rank."""

    def __init__(self, path: Path, name: str, progress: Progress, steps: int, tracker: Tracker) -> None:
        self.path = path
        distributed.on_first(self._open, progress.curve_bytes)
        self.name, self.steps, self.tracker = name, steps, tracker
        self.first, self.begin = progress.step, time.perf_counter()
        self.last = self.first  # step of the last row, or of the start
        self.row_begin = self.shown = self.begin

    def _open(self, size: int) -> None:
        with refusals(self.path):
            self.file = open(self.path, "ab")  # noqa: SIM115 (open for the whole run)
            if self.file.tell() < size:
                raise UserError(
                    f"{self.path} is damaged (shorter than at the last checkpoint): delete the checkpoints there to "
                    "train this run from the start"
                )
            self.file.truncate(size)
            self.file.seek(size)  # truncate() does not move the position

    def append(self, step: int, row: dict) -> None:
        distributed.on_first(self._write, row)
        self.tracker.log({key: value for key, value in row.items() if value is not None}, step)
        self.row_begin = now = time.perf_counter()
        self.last = step
        if now - self.shown > PROGRESS_SECONDS or step == self.steps:
            left = (self.steps - step) * (now - self.begin) / (step - self.first)
            log.info(
                "%s  step %d/%d  loss %.3f  %s tokens/s  %s left",
                self.name,
                step,
                self.steps,
                row["train_loss"],
                f"{row['tokens_per_second']:,.0f}",
                timedelta(seconds=round(left)),
            )
            self.shown = now

    def _write(self, row: dict) -> None:
        with refusals(self.path):
            self.file.write(json.dumps(row).encode() + b"\n")

    def size(self) -> int:
        """Bytes of the rows so far. They are on the disk when this returns."""
        return distributed.on_first(self._flush)

    def _flush(self) -> int:
        with refusals(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
        return self.file.tell()


def train(
    cfg: DictConfig,
    name: str,
    method: Method,
    mixture: Mixture,
    folder: Path,
    tracker: Tracker,
    validate: Callable[[], dict[str, float | None]],
) -> Progress:
    """Trains `method` for `method.steps` steps, from the last checkpoint in `folder` if there is one.

    Writes metrics.jsonl and checkpoints to `folder`, but no checkpoint at the end, where the caller saves the
    parameters. `validate` is called train.validations times and gives the VALIDATED columns of the curve.

    Raises UserError, which names the step, if the loss or gradient is not finite (the last checkpoint is kept), and
    Interrupted on Ctrl-C or SIGTERM (after a checkpoint).
    """
    t, optimizer, steps = cfg.train, method.context.optimizer, method.steps
    every = max(1, steps // ROWS)
    validate_at = {round(steps * (i + 1) / t.validations) for i in range(t.validations)}
    device = next(method.context.base.parameters()).device
    progress = resume(method, mixture, folder)
    distributed.check_agreement(progress.step)
    before = progress.seconds
    curve = Curve(folder / "metrics.jsonl", name, progress, steps, tracker)

    def save() -> None:
        progress.seconds, progress.curve_bytes = before + time.perf_counter() - curve.begin, curve.size()
        state = {"progress": vars(progress), "taken": mixture.taken.tolist()}
        checkpoint.save_step(folder, progress.step, method.tensors(), state)

    with stop_requests():
        for step in range(progress.step, steps):
            rng = np.random.default_rng([cfg.seeds.mix, step])
            weights = method.domain_weights(rng, step + 1)
            batch = mixture.batch(rng, weights, t.batch_size // t.draws_per_step, step % method.n_models)
            tokens, h = send(batch, weights, device)
            rate = method.lr * optimizer.schedule(step, steps)
            try:
                loss = method.update(tokens, h, step + 1, rate)
                if not math.isfinite(loss):
                    raise FloatingPointError("update returned a loss that is not finite")
                progress.losses.append(loss)
            except FloatingPointError as error:
                raise UserError(f"{name} diverged at step {step + 1} of {steps}: {error}; lower method.lr") from error
            progress.step = done = step + 1
            if done % every == 0 or done in validate_at:
                speed = (done - curve.last) * tokens_per_step(cfg) / (time.perf_counter() - curve.row_begin)
                curve.append(
                    done,
                    {
                        "step": done,
                        "tokens": done * tokens_per_step(cfg),
                        "train_loss": float(np.mean(progress.losses)),
                        **(validate() if done in validate_at else dict.fromkeys(VALIDATED)),
                        "lr": rate,
                        "tokens_per_second": speed,
                    },
                )
                progress.losses = []
            stop = stop_requested()
            if done % t.checkpoint_every == 0 or stop:
                save()
            if stop and done < steps:
                raise Interrupted(f"stopped at step {done} of {steps}; the same command goes on from there")
    progress.seconds, progress.curve_bytes = before + time.perf_counter() - curve.begin, curve.size()
    return progress


def send(batch: np.ndarray, weights: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Tokens (int64) and their domain weights (float64), copied to the device in one transfer."""
    numbers = np.concatenate([batch.ravel(), np.asarray(weights, np.float64).ravel().view(np.int64)])
    tokens, bits = torch.from_numpy(numbers).to(device, non_blocking=True).split([batch.size, weights.size])
    return tokens.view(batch.shape), bits.view(torch.float64).view(weights.shape)


def resume(method: Method, mixture: Mixture, folder: Path) -> Progress:
    """Loads the last checkpoint of `folder` into method and mixture; returns its Progress, or a new one without any."""
    last = checkpoint.load_last(folder)
    if last is None:
        return Progress()
    tensors, state = last
    for name, tensor in method.tensors().items():
        tensor.copy_(tensors[name])
    mixture.taken[:] = state["taken"]
    progress = Progress(**state["progress"])
    log.info("resuming at step %d (%s)", progress.step, folder.name)
    return progress


def tokens_per_step(cfg: DictConfig) -> int:
    """Number of tokens that one step predicts."""
    return cfg.train.batch_size * cfg.train.seq_len


def total_steps(cfg: DictConfig, method: Method) -> int:
    """Number of steps in the token budget, without those of the method's parent. If the models of the method do not
    share the budget, it is counted for each model."""
    t = cfg.train
    share = method.parent["fraction"] if method.parent else 0
    before = 0
    if share:  # the parent takes one step at least, and both together take as many steps as one run
        before = max(1, round(share * t.tokens) // tokens_per_step(cfg))
    tokens, models = (t.tokens, 1) if method.tokens_each is None else (method.tokens_each * t.tokens, method.n_models)
    return models * max(int(share < 1), int(tokens) // tokens_per_step(cfg) - before)
