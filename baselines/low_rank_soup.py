"""The soup with low-rank experts: each expert changes every matrix by a product of rank r."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from baselines.generated_base import Generated, LowRank
from soe_bench.method import ExpertMethod, MethodContext
from soe_bench.soup import Router


class LowRankExperts(nn.Module):
    """alpha = phi(h), and Delta = sum_j alpha_j A_j B_j for every matrix: h (R, k) -> (R, P)."""

    def __init__(self, router: Router, experts: int, low_rank: LowRank) -> None:
        super().__init__()
        self.router, self.low_rank = router, low_rank
        self.factors = nn.Parameter(low_rank.start(experts))

    def forward(self, h: Tensor) -> Tensor:
        return self.combine(self.router(h), self.factors)

    def combine(self, alpha: Tensor, factors: Tensor) -> Tensor:
        """Delta (R, P) at the coefficients alpha (R, n) with the experts' factors (n, size)."""
        products = []
        for a, b in self.low_rank.pairs(factors):  # (n, out, r), (n, r, in): one product of inner size n r
            weighted = torch.einsum("zn,nor->zonr", alpha, a).flatten(2)
            products.append(weighted @ b.flatten(0, 1))
        return self.low_rank.vector(products)


class LowRankSoup(Generated, ExpertMethod):
    """Soup-of-Experts (arXiv 2502.01804) with n experts of rank r, which a summary of the paper mentions."""

    controls = ExpertMethod.controls

    def __init__(self, n_experts: int, rank: int, router: dict, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.n_experts = n_experts
        self.rank, self.router_config = rank, router

    def network(self, context: MethodContext) -> nn.Module:
        router = Router(len(context.h_0), self.n_experts, **self.router_config)
        return LowRankExperts(router, self.n_experts, LowRank(self.flat, self.rank))

    def parameters_at(self, h: Tensor | None) -> Tensor:
        return self.shared.value if h is None else super().parameters_at(h)

    def coefficients(self, weights: np.ndarray | Tensor) -> Tensor:
        """alpha = phi(h): (R, k) -> (R, n)."""
        h = torch.as_tensor(weights, dtype=self.omega.value.dtype, device=self.omega.value.device)
        omega = self.network_flat.unflatten(self.omega.value[0])
        router = {name.removeprefix("router."): value for name, value in omega.items() if name.startswith("router.")}
        return functional_call(self.delta_network.router, router, (h,))

    def instantiate(self, alpha: Tensor) -> Tensor:
        """Theta (R, P) at the coefficients alpha (R, n)."""
        factors = self.network_flat.unflatten(self.omega.value[0])["factors"]
        return self.shared.value + self.delta_network.combine(alpha, factors)
