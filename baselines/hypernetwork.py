"""A hypernetwork: a router that emits low-rank weights instead of the coefficients of full experts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from baselines.generated_base import Generated, LowRank
from soe_bench.method import MethodContext


class LowRankRouter(nn.Module):
    """h (R, k) -> hidden -> the factors of a low-rank change of every matrix -> Delta (R, P)."""

    def __init__(self, k: int, hidden: int, low_rank: LowRank, init_std: float) -> None:
        super().__init__()
        self.low_rank = low_rank
        self.inner = nn.Linear(k, hidden)
        nn.init.normal_(self.inner.weight, std=init_std)  # as the soup's router: the entries of h are small
        self.outer = nn.Linear(hidden, low_rank.size)
        nn.init.zeros_(self.outer.weight)
        self.outer.bias = nn.Parameter(low_rank.start())

    def forward(self, h: Tensor) -> Tensor:
        factors = self.outer(F.relu(self.inner(h)))
        return self.low_rank.vector([a @ b / self.low_rank.rank for a, b in self.low_rank.pairs(factors)])


class Hypernetwork(Generated):
    """HyperNetworks (Ha, Dai, Le, https://arxiv.org/abs/1609.09106), of low rank: W(h) = W + A(h) B(h) / rank.

    It stores as many parameters as a soup with `as_experts` experts: that decides its hidden width.
    """

    def __init__(self, rank: int, as_experts: int, init_std: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.rank, self.as_experts, self.init_std = rank, as_experts, init_std

    def network(self, context: MethodContext) -> nn.Module:
        low_rank, k = LowRank(self.flat, self.rank), len(context.h_0)
        hidden = max(1, (self.as_experts * self.flat.size - low_rank.size) // (k + 1 + low_rank.size))
        return LowRankRouter(k, hidden, low_rank, self.init_std)
