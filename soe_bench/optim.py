"""AdamW for banks of flat parameters whose gradient has low rank, the learning-rate schedule and clipping.

The loss of a step is the mean over its R draws. With g_r = dL/dTheta_r as rows of G (R, P) and the coefficients as
rows of A (R, n), the gradient of a bank (n, P) is A^T G: it is formed block by block inside the update and never
exists as an (n, P) buffer. Shared parameters are the bank of one row with A = 1.
AdamW: Loshchilov and Hutter, https://arxiv.org/abs/1711.05101.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from soe_bench.flat import Flat

BLOCK_NUMBERS = 2**20  # numbers of the bank updated at once: the block and its moments stay in the processor's cache


@dataclass(frozen=True)
class Optimizer:
    """Settings of AdamW, of the schedule and of clipping: one for all methods.

    `warmup` is the share of the steps with a linearly growing rate, then a cosine down to `final_rate` times the peak.
    `clip` bounds the global gradient norm.
    """

    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    warmup: float
    final_rate: float
    clip: float

    def schedule(self, step: int, steps: int) -> float:
        """Factor on the peak rate at `step` (from 0) of `steps`."""
        warmup = max(1, round(self.warmup * steps))
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        return self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * progress))

    def clip_scale(self, squared_norm: Tensor) -> float:
        """Factor that brings the global norm down to `clip`. Raises FloatingPointError for a NaN or infinite norm."""
        squares = squared_norm.item()
        if not math.isfinite(squares):
            raise FloatingPointError("the gradient is not finite")
        return min(1.0, self.clip / (math.sqrt(max(0.0, squares)) + 1e-6))


def squared_norm(coefficients: Tensor, gram: Tensor) -> Tensor:
    """||A^T G||_F^2 = sum((A A^T) * (G G^T)) for A (R, n) and the Gram matrix G G^T (R, R)."""
    return ((coefficients @ coefficients.T) * gram).sum()


class Bank:
    """n rows of P parameters with their AdamW moments, updated in one pass from the rank-R gradient A^T G."""

    def __init__(self, value: Tensor, flat: Flat) -> None:
        self.value = value
        self.exp_avg = torch.zeros_like(value)
        self.exp_avg_sq = torch.zeros_like(value)
        self.decay = flat.decay_mask(value)

    def row(self, i: int) -> Bank:
        """Row i as a bank that shares its memory."""
        row = copy.copy(self)
        row.value, row.exp_avg, row.exp_avg_sq = (x[i : i + 1] for x in (self.value, self.exp_avg, self.exp_avg_sq))
        return row

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The parameters and moments under their names in a checkpoint."""
        return {f"{prefix}.{name}": getattr(self, name) for name in ("value", "exp_avg", "exp_avg_sq")}

    def adamw_(self, coefficients: Tensor, gradients: Tensor, step: int, rate: float, optimizer: Optimizer) -> None:
        """One AdamW update (step counts from 1) with the gradient A^T G of A (R, n) and G (R, P)."""
        rows, size = self.value.shape
        width = max(1, BLOCK_NUMBERS // max(1, rows))
        o = optimizer
        step_size = rate / (1 - o.beta1**step)
        correction = math.sqrt(1 - o.beta2**step)
        keep = 1 - rate * o.weight_decay * self.decay
        for start in range(0, size if rows else 0, width):
            block = slice(start, start + width)
            value, exp_avg, exp_avg_sq = (x[:, block] for x in (self.value, self.exp_avg, self.exp_avg_sq))
            gradient = coefficients.T @ gradients[:, block]
            exp_avg.lerp_(gradient, 1 - o.beta1)
            exp_avg_sq.mul_(o.beta2).addcmul_(gradient, gradient, value=1 - o.beta2)
            if o.weight_decay:
                value.mul_(keep[block])
            torch.sqrt(exp_avg_sq, out=gradient)
            value.addcdiv_(exp_avg, gradient.div_(correction).add_(o.eps), value=-step_size)
