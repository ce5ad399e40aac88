"""Soup-of-Experts: shared parameters, a bank of experts and a router from domain weights to coefficients.

Paper: Ablin, Katharopoulos, Seto, Grangier, "Soup-of-Experts: Pretraining Specialist Models via Parameters Averaging",
ICML 2025, arXiv 2502.01804. For any `torch.nn.Module` with P parameters, k domains and n experts:

    alpha = phi_omega(h)                      router, (k,) -> (n,)
    Theta(h) = S + sum_j alpha_j E_j          Combine: one ordinary model of P parameters
    min over S, E, omega of  E_{h ~ pi} loss(Theta(h); mix(h))                            (Eq. 3, Algorithm 2)

The text mix(h) has sequences of single domains, which are drawn with the weights h; omega are the router's parameters.
Only Theta needs automatic differentiation. A step has R draws h_r with a text x_r each, and its loss is L = 1/R sum_r
loss(Theta(h_r); x_r). With g_r = dL/dTheta_r, which contains the 1/R, as rows of G (R, P) and the coefficients as rows
of A (R, n), the chain rule gives

    dL/dS = sum_r g_r,     dL/dA = G E^T,     dL/dE = A^T G (rank R, never formed whole: see ops/adamw.py).

Under torchrun each of W processes has P / W columns of S and E and computes R / W of the gradients (ops/sharding.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soe_bench.errors import UserError
from soe_bench.method import ExpertMethod, MethodContext
from soe_bench.mixture import MetaDistribution
from soe_bench.ops.adamw import Gradient, ParameterBank
from soe_bench.ops.flat import Flat, add_product, forward_at
from soe_bench.ops.sharding import Sliced, Slices
from soe_bench.settings.classes import ACTIVATIONS
from soe_bench.system import distributed


class Router(nn.Module):
    """phi_omega: domain weights (R, k) -> coefficients alpha (R, n), an MLP with one hidden layer.

    `activation` is that of the output: `softmax` (coefficients on the simplex) or `linear`. The first layer is N(0,
    init_std): the entries of h are small, so the usual 1/sqrt(k) would start with nearly the same coefficients for
    every h. Raises UserError for another activation."""

    def __init__(self, k: int, n: int, hidden: int, activation: str, init_std: float) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:  # the settings of another class of soup have no schema
            raise UserError(f"method.router.activation is {activation!r}: it must be one of {', '.join(ACTIVATIONS)}")
        self.activation = activation
        self.inner_weight = nn.Parameter(init_std * torch.randn(hidden, k))
        self.inner_bias = nn.Parameter(torch.zeros(hidden))
        self.outer_weight = nn.Parameter(hidden**-0.5 * torch.randn(n, hidden))
        self.outer_bias = nn.Parameter(torch.zeros(n))

    def forward(self, h: Tensor) -> Tensor:
        hidden = F.relu(F.linear(h, self.inner_weight, self.inner_bias))
        scores = F.linear(hidden, self.outer_weight, self.outer_bias)
        return scores.softmax(-1) if self.activation == "softmax" else scores


def combine(shared: Tensor, experts: Tensor, alpha: Tensor) -> Tensor:
    """Combine(S, E, alpha) = S + sum_j alpha_j E_j: S (1, P), E (n, P), alpha (R, n) -> Theta (R, P), E read once."""
    return add_product(shared, alpha, experts)


class SoupOfExperts(ExpertMethod):
    """The Soup-of-Experts, https://arxiv.org/abs/2502.01804.

    `expert_lr_ratio` multiplies the learning rate of the experts; `expert_init` is the standard deviation of their
    start. A `parent` of one dense model is a warm start of S. A soup with other coefficients gives its own
    `coefficients`, or `make_router` for another network.
    """

    parallel = True
    pi: MetaDistribution

    def __init__(
        self,
        name: str,
        lr: float,
        n_experts: int,
        expert_lr_ratio: float,
        expert_init: float,
        router: dict,
        pi: MetaDistribution,
        parent: Mapping | None = None,
    ) -> None:
        super().__init__(name, lr, parent)
        self.n_experts = n_experts
        self.expert_lr_ratio, self.expert_init = expert_lr_ratio, expert_init
        self.router_config, self.pi = router, pi

    def make_router(self, context: MethodContext) -> nn.Module:
        """phi, a module: domain weights (R, k) -> coefficients (R, n). omega are those of its parameters that require
        a gradient. There may be none."""
        return Router(len(context.h_0), self.n_experts, **self.router_config)

    def build(self, context: MethodContext) -> None:
        self.context = context
        self.flat: Slices = Slices(context.base)
        shared = context.parent["models.value"][0].clone() if context.parent else self.flat.flatten(context.base)
        experts = shared.new_zeros(self.n_experts, self.flat.width)
        with torch.random.fork_rng(devices=[]), torch.device("meta" if shared.is_meta else "cpu"):
            torch.manual_seed(context.seed)
            self.router = self.make_router(context).to(shared)
            for row in experts if self.expert_init else ():
                row.copy_(self.flat.own(torch.empty(shared.shape, dtype=shared.dtype).normal_(std=self.expert_init)))
        self.router_flat = Flat(self.router, frozen=False)
        self.shared = ParameterBank(self.flat.own(shared)[None], self.flat, context.moments)
        self.experts = ParameterBank(experts, self.flat, context.moments)
        omega = self.router_flat.flatten(self.router).to(shared)[None]
        self.omega = ParameterBank(omega, self.router_flat, context.moments)

    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        return self.pi.sample(rng, self.context.draws_per_step, self.context.h_0)

    def coefficients(self, weights: np.ndarray | Tensor) -> Tensor:
        omega = self.omega.value
        return forward_at(self.router, self.router_flat, omega, torch.as_tensor(weights).to(omega)[None])[0]

    def instantiate(self, alpha: Tensor) -> Tensor:
        return self.flat.whole(combine(self.shared.value, self.experts.value, distributed.replicated(alpha)))

    def update(self, tokens: Tensor, weights: Tensor, step: int, lr: float) -> float:
        """One step of Algorithm 2: the domain weights h_r that drew tokens[r] also make the model that they train."""
        S, E, omega = self.shared, self.experts, self.omega.value.requires_grad_()
        alpha = self.coefficients(weights)  # alpha_r = phi_omega(h_r), (R, n)
        a = alpha.detach()
        theta = combine(S.value, E.value, a)  # Theta_r = S + sum_j alpha_rj E_j, (R, P)
        loss, g = self.flat.gradient_slice(self.gradient_at, theta, tokens)  # g_r = dL/dTheta_r, (R, P)
        d_alpha, gram, loss = distributed.total(g @ E.value.T, g @ g.T, loss)  # dL/dalpha_rj = <E_j, g_r>, (R, n);
        # gram = G G^T gives the norm that clips
        gradients = [
            Gradient(S, torch.ones_like(g[:, :1]), g, gram),  # dL/dS = sum_r g_r
            Gradient(E, a, g, gram, self.expert_lr_ratio),  # dL/dE_j = sum_r alpha_rj g_r, never formed whole
        ]
        if alpha.requires_grad:  # phi may be a fixed function
            (d_omega,) = torch.autograd.grad(alpha, omega, d_alpha)
            gradients.append(Gradient.of_sum(self.omega, d_omega))
        omega.requires_grad_(False)
        return self.context.optimizer.step(loss, gradients, step, lr)

    def parameters_at(self, h: Tensor | None) -> Tensor:
        """Algorithm 3's last line: Theta(h). Without h: alpha = 0, the shared parameters alone."""
        return self.instantiate(self.experts.value.new_zeros(1, self.n_experts) if h is None else self.coefficients(h))

    def tensors(self) -> Mapping[str, Tensor | Sliced]:
        banks = self.shared.tensors("shared") | self.experts.tensors("experts")
        return self.flat.named(banks) | self.omega.tensors("router")

    def cost(self) -> dict[str, int]:
        n, size, width, draws = self.n_experts, self.flat.size, self.flat.width, self.context.draws_per_step
        moved = size * draws // distributed.size() if width < size else 0  # own draws' whole Theta, then gradient
        products = 3 * n + draws + 1  # combination, dL/dA, dL/dE; G G^T; dL/dS
        state = self.shared.bytes + self.experts.bytes  # and the base model, Theta or G
        return super().cost() | {
            "flops_per_step": self.dense_flops() + 2 * draws * products * size,
            "state_bytes": state + (size + draws * width + moved) * self.shared.value.element_size(),
        }
