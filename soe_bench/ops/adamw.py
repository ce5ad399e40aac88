"""AdamW for banks of flat parameters whose gradient has low rank, the learning-rate schedule and clipping.

The loss of a step is the mean over its R draws. With g_r = dL/dTheta_r as rows of G (R, P) and the coefficients as
rows of A (R, n), the gradient of a bank (n, P) is A^T G: it is formed block by block inside the update and never
exists as an (n, P) buffer. Shared parameters are the bank of one row with A = 1. A block's update is torch's own fused
kernel, one pass over parameters and moments on CPU and GPU: as fast as a compiled update, with nothing to compile.
AdamW: Loshchilov and Hutter, https://arxiv.org/abs/1711.05101.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from soe_bench.ops.flat import Flat

BLOCK_NUMBERS = {"cpu": 2**20, "cuda": 2**26}  # of the bank updated at once: the gradient's block stays in the cache,
BLOCK_ROWS = {"cpu": 16, "cuda": 64}  # and its rows, for each of which the kernel calls all threads, are long

# Words moved per parameter of a bank and step: combination, dL/dA, and the three reads and writes of the update.
WORDS_PER_STEP = 8


@dataclass(frozen=True)
class Optimizer:
    """Settings of AdamW, of the schedule and of clipping: one for all methods.

    `warmup_ratio` is the share of the steps with a linearly growing rate, then a cosine down to `min_lr_ratio` times
    the peak. `max_grad_norm` bounds the global gradient norm."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    warmup_ratio: float
    min_lr_ratio: float
    max_grad_norm: float

    def schedule(self, step: int, steps: int) -> float:
        """Factor on the peak rate at `step` (from 0) of `steps`."""
        warmup = max(1, round(self.warmup_ratio * steps))
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    def step(self, loss: Tensor, gradients: Sequence[Gradient], step: int, lr: float) -> float:
        """Clips all gradients by their global norm, then updates every bank. `step` counts from 1.

        Returns the loss. Raises FloatingPointError, with nothing changed, unless loss and norm are finite.
        """
        value, scale = self.clip_scale(loss, torch.stack([x.squared_norm() for x in gradients]).sum())
        for x in gradients:
            x.bank.adamw_(scale * x.a, x.g, step, x.lr_ratio * lr, self)
        return value

    def clip_scale(self, loss: Tensor, squared_norm: Tensor) -> tuple[float, float]:
        """The loss as a number, and the factor that brings the global norm down to `max_grad_norm`: the only place of
        a step where the program waits for the device. Raises FloatingPointError if one of them is NaN or infinite."""
        value, squares = torch.stack((loss.to(squared_norm), squared_norm)).tolist()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}")
        if not math.isfinite(squares):
            raise FloatingPointError("the gradient is not finite")
        return value, min(1.0, self.max_grad_norm / (math.sqrt(max(0.0, squares)) + 1e-6))


@dataclass(frozen=True)
class Gradient:
    """The gradient A^T G of a bank (n, P), with A (R, n), G (R, P) and `gram` = G G^T (R, R); `lr_ratio` multiplies the
    learning rate."""

    bank: ParameterBank
    a: Tensor
    g: Tensor
    gram: Tensor
    lr_ratio: float = 1.0

    @classmethod
    def of_sum(cls, bank: ParameterBank, g: Tensor, lr_ratio: float = 1.0) -> Gradient:
        """The gradient of a bank of one row (1, P): the sum of the rows of g (R, P)."""
        return cls(bank, torch.ones_like(g[:, :1]), g, g @ g.T, lr_ratio)

    def squared_norm(self) -> Tensor:
        """||A^T G||_F^2 = sum((A A^T) * (G G^T)), without A^T G."""
        return ((self.a @ self.a.T) * self.gram).sum()


class ParameterBank:
    """n rows of P parameters with their AdamW moments, updated in one pass from the rank-R gradient A^T G.

    The moments are kept in the type `moments`, by default the parameters'; the arithmetic is in the parameters' type.
    """

    def __init__(self, value: Tensor, flat: Flat, moments: torch.dtype | None = None) -> None:
        self.value = value
        self.exp_avg = torch.zeros_like(value, dtype=moments)
        self.exp_avg_sq = torch.zeros_like(value, dtype=moments)
        self.spans = flat.spans

    @property
    def bytes(self) -> int:
        """Bytes of the parameters and moments."""
        return sum(x.nbytes for x in (self.value, self.exp_avg, self.exp_avg_sq))

    def row(self, i: int) -> ParameterBank:
        """Row i as a bank that shares its memory."""
        row = copy.copy(self)
        row.value, row.exp_avg, row.exp_avg_sq = (x[i : i + 1] for x in (self.value, self.exp_avg, self.exp_avg_sq))
        return row

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The parameters and moments under their names in a checkpoint."""
        return {f"{prefix}.{name}": getattr(self, name) for name in ("value", "exp_avg", "exp_avg_sq")}

    @torch.no_grad()
    def adamw_(self, coefficients: Tensor, gradients: Tensor, step: int, rate: float, optimizer: Optimizer) -> None:
        """One AdamW update (step counts from 1) with the gradient A^T G of A (R, n) and G (R, P)."""
        rows = len(self.value)
        if not rows:
            return
        height = min(rows, BLOCK_ROWS[self.value.device.type])
        width = BLOCK_NUMBERS[self.value.device.type] // height
        count = torch.full((), float(step), device=self.value.device)  # filled there: nothing is sent
        for start, stop, decays in self.spans:
            for left, top in product(range(start, stop, width), range(0, rows, height)):
                block = slice(top, top + height), slice(left, min(left + width, stop))
                gradient = coefficients.T[block[0]] @ gradients[:, block[1]]
                stored = [self.exp_avg[block], self.exp_avg_sq[block]]
                moments = [x.to(gradient.dtype) for x in stored]  # themselves, unless they are kept in another type
                values, slopes, first, second = (x.unbind() for x in (self.value[block], gradient, *moments))
                torch._fused_adamw_(  # the kernel of torch.optim.AdamW(fused=True)
                    values,
                    slopes,
                    first,
                    second,
                    [],
                    [count] * len(slopes),
                    lr=rate,
                    beta1=optimizer.beta1,
                    beta2=optimizer.beta2,
                    eps=optimizer.eps,
                    weight_decay=optimizer.weight_decay if decays else 0.0,
                    amsgrad=False,
                    maximize=False,
                )
                for kept, new in zip(stored, moments, strict=True):
                    if kept is not new:
                        kept.copy_(new)
