"""Flat parameters sharded along P: each process holds the same columns of every row, and the W slices make the whole.

Each process has R / W of the R draws per step. It combines its slice of every Theta; an all-to-all gives each process
the whole Thetas of its own draws, and their gradients return the same way. That is 2 R P / W numbers per process and
step, however many experts there are. A single process holds all columns and sends nothing.

torch's DTensor, redistributed from Shard(1) to Shard(0), does the same, but on CPU (torch 2.13) by an all-gather, which
sends W times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from soe_bench.ops.flat import Flat
from soe_bench.system import distributed

GradientAt = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Slices(Flat):
    """A module's parameters as a flat vector of which each process holds `width` columns; those past P are zero."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.width = -(-self.size // distributed.size())

    def own(self, whole: Tensor) -> Tensor:
        """This process's columns: (..., P) -> (..., width); `whole` itself in one process."""
        if distributed.size() == 1:
            return whole
        start = distributed.rank() * self.width
        part = whole[..., start : start + self.width]
        return F.pad(part, (0, self.width - part.shape[-1]))

    @cached_property
    def spans(self) -> list[tuple[int, int, bool]]:
        first = distributed.rank() * self.width
        own = [(max(start - first, 0), min(stop - first, self.width), decays) for start, stop, decays in super().spans]
        return [(start, stop, decays) for start, stop, decays in own if start < stop]

    def to_draws(self, theta: Tensor) -> Tensor:
        """A slice of every draw's parameters (R, width) -> all parameters of this process's draws (R / W, P)."""
        if distributed.size() == 1:
            return theta
        return self._join(_all_to_all(theta))

    def to_slices(self, gradient: Tensor) -> Tensor:
        """All parameters of this process's draws (R / W, P) -> a slice of every draw's (R, width)."""
        if distributed.size() == 1:
            return gradient
        padded = F.pad(gradient, (0, distributed.size() * self.width - self.size))
        return _all_to_all(padded.unflatten(1, (-1, self.width)).transpose(0, 1).flatten(0, 1))

    def gradient_slice(self, gradient_at: GradientAt, theta: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """This process's share of the loss, and its slice of the gradient (R, width), at a slice of theta (R, width) on
        tokens (R, B, T + 1). `gradient_at` gives loss and gradient at whole parameters (R, P), in their memory."""
        loss, gradient = gradient_at(self.to_draws(theta), distributed.own_rows(tokens))
        return loss, self.to_slices(gradient)

    def whole(self, slices: Tensor) -> Tensor:
        """A slice (R, width) -> all parameters (R, P), in every process; all must use it alike."""
        return slices if distributed.size() == 1 else _Whole.apply(slices, self)

    def on_first(self, slices: Tensor) -> Tensor | None:
        """A slice (R, width) -> all parameters (R, P) on the first process, in CPU memory; None on the others."""
        part = slices.cpu().contiguous()
        parts = [torch.empty_like(part) for _ in range(distributed.size())] if distributed.rank() == 0 else None
        with distributed.exchange("gather", part):
            dist.gather(part, parts)
        return None if parts is None else torch.cat(parts, 1)[:, : self.size]

    def named(self, tensors: dict[str, Tensor]) -> dict[str, Tensor | Sliced]:
        """The slices, marked as such for a checkpoint, which stores the whole tensors."""
        alone = distributed.size() == 1
        return {name: tensor if alone else Sliced(tensor, self) for name, tensor in tensors.items()}

    def _join(self, pieces: Tensor) -> Tensor:
        """(W m, width), the slices of m rows by process -> (m, P)."""
        return pieces.unflatten(0, (distributed.size(), -1)).transpose(0, 1).flatten(1)[:, : self.size]


class _Whole(torch.autograd.Function):
    """All processes use the whole alike, so the gradient of a process's slice is its own columns of the gradient."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, slices: Slices) -> Tensor:
        ctx.slices = slices
        return slices._join(_all_to_all(part.repeat(distributed.size(), 1)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.slices.own(gradient), None


def _all_to_all(x: Tensor) -> Tensor:
    received = torch.empty_like(x)
    with distributed.exchange("all_to_all", x):
        dist.all_to_all_single(received, x.contiguous())
    return received


@dataclass(frozen=True)
class Sliced:
    """A tensor (rows, P) of which each process has a slice (rows, width)."""

    part: Tensor
    slices: Slices

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.part), self.slices.size

    @property
    def dtype(self) -> torch.dtype:
        return self.part.dtype

    def copy_(self, whole: Tensor) -> None:
        """Takes this process's columns of the whole tensor."""
        self.part.copy_(self.slices.own(whole))

    def rows(self) -> Iterator[Tensor | None]:
        """The whole rows (P,) on the first process, which never holds more than one of them; None on the others."""
        for row in self.part:
            whole = self.slices.on_first(row[None])
            yield None if whole is None else whole[0]
