"""One dense model that is told h: the cheapest rival of the soup."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from baselines.generated_base import Generated
from soe_bench.method import MethodContext


class Shifted(nn.Module):
    """A model whose input embeddings are all shifted by one vector."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = copy.deepcopy(base)
        self.shift = nn.Parameter(next(base.parameters()).new_zeros(base.model.embed_tokens.embedding_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.base(tokens, self.shift)


class ShiftOnly(nn.Module):
    """h (R, k) -> Delta (R, P): zero but for the shift W h, which comes first."""

    def __init__(self, k: int, dim: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, k))
        self.others = size - dim

    def forward(self, h: Tensor) -> Tensor:
        shift = h @ self.weight.T
        return torch.cat([shift, shift.new_zeros(len(h), self.others)], 1)


class DenseConditioned(Generated):
    """h as an embedding that is added to every input token's (as conditioning on a control code, Keskar et al.,
    https://arxiv.org/abs/1909.05858): one dense model on the soup's batches. A specialist is that model with W h.
    """

    def module(self, context: MethodContext) -> nn.Module:
        return Shifted(context.base)

    def network(self, context: MethodContext) -> nn.Module:
        return ShiftOnly(len(context.h_0), len(context.base.shift), self.flat.size)
