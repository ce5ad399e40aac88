"""A projected network: feed-forward weights that are linear in the domain weights, by way of two small matrices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.generated_base import Generated
from soe_bench.errors import UserError
from soe_bench.method import MethodContext
from soe_bench.ops.flat import Flat

FEED_FORWARD = ".mlp."  # in the names of the parameters that depend on h


class Projection(nn.Module):
    """h (z, k) -> Delta (z, P): for each feed-forward matrix l sum_r c_r T_r with c = h E M^(l), zero for the rest.

    E (k, Q) is one for all matrices, M (L, Q, R) and T (R, out, in) are of each. E is N(0, 1) and M is N(0, 1 / Q), so
    that c has about the length of h in each entry; T is 0.
    """

    def __init__(self, k: int, flat: Flat, embedding: int, count: int) -> None:
        super().__init__()
        self.shapes = flat.shapes
        own = [shape for name, shape in flat.shapes.items() if FEED_FORWARD in name]
        self.domains = nn.Parameter(torch.randn(k, embedding))
        self.mixing = nn.Parameter(embedding**-0.5 * torch.randn(len(own), embedding, count))
        self.matrices = nn.ParameterList(torch.zeros(count, *shape) for shape in own)

    def forward(self, h: Tensor) -> Tensor:
        coefficients = h @ self.domains @ self.mixing  # (L, z, R)
        products = iter(c @ matrix.flatten(1) for c, matrix in zip(coefficients, self.matrices, strict=True))
        return torch.cat(
            [
                next(products) if FEED_FORWARD in name else h.new_zeros(len(h), shape.numel())
                for name, shape in self.shapes.items()
            ],
            1,
        )


class Projected(Generated):
    """Projected networks (Grangier, Katharopoulos, Ablin, Hannun, https://arxiv.org/abs/2402.01093). The paper's: the
    feed-forward weights of domain i in layer l are W^(l,i) = sum_q E_iq sum_r M^(l)_qr T^(l)_r, and all other
    parameters are shared.

    Our reading: at domain weights h the row E_i becomes h E, which is the same where h is one domain; each matrix of a
    feed-forward layer has an M and a T of its own; the shared feed-forward weights S are one more T whose coefficient
    is always 1, so that it starts from the same run as the soup does; and h is drawn from the soup's pi, where the
    paper draws one domain (pi=one_domain). The sizes of E and M and the start of E, M and T are ours.

    It stores as many parameters as a soup with `as_experts` experts: that decides R. `embedding` is Q.
    """

    def __init__(self, embedding: int, as_experts: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.embedding, self.as_experts = embedding, as_experts

    def network(self, context: MethodContext) -> nn.Module:
        own = [shape.numel() for name, shape in self.flat.shapes.items() if FEED_FORWARD in name]
        if not own:
            raise UserError(f"{self.label} has no feed-forward weights: no parameter of the model has {FEED_FORWARD!r}")
        k, q = len(context.h_0), self.embedding
        count = max(1, (self.as_experts * self.flat.size - k * q) // (sum(own) + len(own) * q))
        return Projection(k, self.flat, q, count)
