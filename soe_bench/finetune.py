"""Fine-tuning of a specialist on its own text: the same for every method, with the rate chosen on validation text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from soe_bench.evaluate import mean_loss, shuffled, windows
from soe_bench.method import with_parameters
from soe_bench.ops.adamw import Gradient, Optimizer, ParameterBank
from soe_bench.ops.flat import Flat
from soe_bench.ops.flops import forward_flops
from soe_bench.ops.gradient import gradient


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model, its learning rate, and the cost: `tokens` trained on and `flops`, which include all rates
    tried and their evaluations. A `rate` of 0 means that no rate improved the validation loss and the model is as it
    was."""

    model: nn.Module
    rate: float
    tokens: int
    flops: int


def fine_tune(model: nn.Module, tokens: np.ndarray, validation: np.ndarray, cfg: DictConfig, seed: int) -> FineTuned:
    """Trains on `tokens` (N,) by AdamW at each of the fine-tuning rates, and keeps the parameters with the lowest loss
    on `validation` (M,), the specialist's validation tokens: those of some rate after some epoch, or the given ones.

    `cfg` is the run's configuration: evaluate.fine_tuning has the settings, train.seq_len and train.optimizer are those
    of pretraining. `seed` decides the order of the text. A rate that diverges ends there.
    """
    settings, optimizer = cfg.evaluate.fine_tuning, Optimizer(**cfg.train.optimizer)
    inputs = _windows(tokens, cfg.train.seq_len)
    batch = min(settings.batch_size, len(inputs))
    steps = max(1, min(settings.epochs * len(inputs), settings.max_tokens // cfg.train.seq_len) // batch)
    evaluate_at = {steps, *(epoch * len(inputs) // batch for epoch in range(1, settings.epochs))}
    flat, device = Flat(model), next(model.parameters()).device
    start = flat.flatten(model)
    best = (mean_loss(model, [validation], cfg.train.seq_len), 0.0, start)
    trained, evaluated = 0, 1
    order = shuffled(len(inputs), steps * batch, seed)
    for rate in settings.lrs:
        theta = ParameterBank(start[None].clone(), flat)
        for step in range(steps):
            rows = torch.from_numpy(inputs[order[step * batch : (step + 1) * batch]]).to(device)
            loss, grad = gradient(model, flat, theta.value, rows[None], cfg.train.precision)
            try:
                optimizer.step(loss, [Gradient.of_sum(theta, grad)], step + 1, rate * optimizer.schedule(step, steps))
            except FloatingPointError:  # this rate diverged, another may not
                break
            trained += batch * cfg.train.seq_len
            if step + 1 in evaluate_at:
                loss = mean_loss(with_parameters(model, flat, theta.value[0]), [validation], cfg.train.seq_len)
                evaluated += 1
                if loss < best[0]:
                    best = (loss, rate, theta.value[0].clone())
    read = evaluated * len(windows([validation], cfg.train.seq_len)[0])
    flops = (3 * trained // cfg.train.seq_len + read) * forward_flops(model, cfg.train.seq_len)
    return FineTuned(with_parameters(model, flat, best[2]), best[1], trained, flops)


def _windows(tokens: np.ndarray, length: int) -> np.ndarray:
    """(W, length + 1) int64: consecutive windows, each with its last target. A text shorter than one window is repeated
    to fill it."""
    count = max(1, (len(tokens) - 1) // length)
    tokens = np.resize(tokens, max(len(tokens), length + 1))
    return np.stack([tokens[i * length : (i + 1) * length + 1] for i in range(count)]).astype(np.int64)
