"""Soup-of-Experts: shared parameters, a bank of experts and a router from domain weights to coefficients.

Paper: Ablin, Katharopoulos, Seto, Grangier, "Soup-of-Experts: Pretraining Specialist Models via Parameters Averaging",
ICML 2025, arXiv 2502.01804. For any `torch.nn.Module` with P parameters:

    alpha = phi_omega(h)                      router, (k,) -> (n,)
    Theta(h) = S + sum_j alpha_j E_j          Combine: one ordinary model of P parameters
    min over S, E, omega of  E_{h ~ pi} loss(Theta(h); mix(h))                            (Eq. 3, Algorithm 2)

Only Theta needs automatic differentiation. With R draws h_r a step, g_r = dL/dTheta_r as rows of G (R, P) and the
coefficients as rows of A (R, n), the chain rule gives

    dL/dS = sum_r g_r,     dL/dA = G E^T,     dL/dE = A^T G (rank R, never formed whole: see optim.py).

Under torchrun each of W processes has P / W columns of S and E and computes R / W of the gradients (see slices.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from soe_bench.errors import UserError
from soe_bench.method import Method, MethodContext, gradient_share
from soe_bench.mixture import MetaDistribution
from soe_bench.ops.adamw import ParameterBank, squared_norm
from soe_bench.ops.flat import Flat, forward_at
from soe_bench.ops.flops import forward_flops
from soe_bench.ops.sharding import Slices
from soe_bench.system import distributed

COMBINED = 2**15  # columns of a block


class Router(nn.Module):
    """phi_omega: domain weights (R, k) -> coefficients alpha (R, n), a two-layer MLP.

    `activation` is that of the output: `softmax` (coefficients on the simplex) or `linear`. The first layer is N(0,
    init_std): the entries of h are small, so the usual 1/sqrt(k) would start with nearly the same coefficients for
    every h."""

    def __init__(self, k: int, n: int, hidden: int, activation: str, init_std: float) -> None:
        super().__init__()
        if activation not in ("softmax", "linear"):
            raise UserError(f"method.router.activation is {activation!r}: it must be 'softmax' or 'linear'")
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
    if len(alpha) > 1 or alpha.requires_grad or experts.device.type != "cpu":
        return torch.addmm(shared, alpha, experts)
    return _combine_in_blocks(shared, experts, alpha)


def _combine_in_blocks(shared: Tensor, experts: Tensor, alpha: Tensor) -> Tensor:
    """`combine` for one row on CPU: in a single product of one row MKL reads E at two thirds of the memory's speed, in
    many small ones at all of it."""
    theta, count = torch.empty_like(shared), shared.shape[1] // COMBINED
    whole = count * COMBINED
    shared_blocks, expert_blocks, blocks = (  # (count, 1, COMBINED), (count, n, COMBINED)
        x[:, :whole].unflatten(1, (count, COMBINED)).transpose(0, 1) for x in (shared, experts, theta)
    )
    torch.baddbmm(shared_blocks, alpha.expand(count, *alpha.shape), expert_blocks, out=blocks)
    torch.addmm(shared[:, whole:], alpha, experts[:, whole:], out=theta[:, whole:])
    return theta


def combine_file(path: Path, alpha: Tensor) -> Tensor:
    """Theta (R, P) of a trained soup's model.safetensors at alpha (R, n), without its bank in memory: the file is
    mapped, and the combination reads it page by page."""
    with safe_open(path, framework="pt") as file:
        return combine(file.get_tensor("shared.value"), file.get_tensor("experts.value"), alpha)


class SoupOfExperts(Method):
    """The Soup-of-Experts, https://arxiv.org/abs/2502.01804. With n_experts = 0 it is `dense_on_pi`: the soup's
    batches on one dense model.

    `expert_lr_ratio` multiplies the learning rate of the experts; `expert_init` is the standard deviation of their
    start. A `parent` of one dense model is a warm start of S."""

    controls = (*Method.controls, "zero")
    parallel = True

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
        if n_experts < 0:
            raise UserError(f"method.n_experts is {n_experts}: it must be 0 (dense on pi) or more")
        super().__init__(name if n_experts else "dense_on_pi", lr, parent)
        self.n_experts, self.takes_h = n_experts, n_experts > 0
        self.expert_lr_ratio, self.expert_init = expert_lr_ratio, expert_init
        self.router_config, self.meta, self.pi = router, pi, str(pi)

    def build(self, context: MethodContext) -> None:
        self.context = context
        self.flat = Slices(context.base)
        shared = context.parent["models.value"][0].clone() if context.parent else self.flat.flatten(context.base)
        experts = shared.new_zeros(self.n_experts, self.flat.width)
        with torch.random.fork_rng(devices=[]), torch.device("meta" if shared.is_meta else "cpu"):
            torch.manual_seed(context.seed)
            self.router = Router(len(context.h_0), self.n_experts, **self.router_config).to(shared)
            for row in experts if self.expert_init else ():
                row.copy_(self.flat.own(torch.empty(shared.shape, dtype=shared.dtype).normal_(std=self.expert_init)))
        self.router_flat = Flat(self.router)
        self.shared = ParameterBank(self.flat.own(shared)[None], self.flat, context.moments)
        self.experts = ParameterBank(experts, self.flat, context.moments)
        self.omega = ParameterBank(self.router_flat.flatten(self.router)[None], self.router_flat, context.moments)

    def coefficients(self, weights: np.ndarray | Tensor) -> Tensor:
        """alpha = phi_omega(h): (R, k) -> (R, n)."""
        h = torch.as_tensor(weights, dtype=self.omega.value.dtype, device=self.omega.value.device)
        return forward_at(self.router, self.router_flat, self.omega.value, h[None])[0]

    def instantiate(self, alpha: Tensor) -> Tensor:
        """Theta (R, P) at the coefficients alpha (R, n); under torchrun in every process, which all call this."""
        return self.flat.whole(combine(self.shared.value, self.experts.value, distributed.replicated(alpha)))

    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        return self.meta.sample(rng, self.context.draws_per_step, self.context.h_0)

    def update(self, tokens: Tensor, weights: Tensor, step: int, rate: float) -> float:
        """Algorithm 2: the weights that drew the batch instantiate the model it is used on."""
        optimizer = self.context.optimizer
        if not self.n_experts:  # every Theta is S: one dense model on all draws
            processes = distributed.size()
            tokens, weights = tokens.reshape(processes, -1, tokens.shape[-1]), weights[:processes]
        self.omega.value.requires_grad_()
        alpha = self.coefficients(weights)
        a = alpha.detach()
        theta = self.flat.to_draws(combine(self.shared.value, self.experts.value, a))
        own = distributed.own_rows(tokens)
        loss, grad = gradient_share(self.context, self.flat, theta, own, out=theta)
        grad = self.flat.to_slices(grad)
        products = grad @ self.experts.value.T, grad @ grad.T  # <E_j, g_r>, <g_r, g_s>
        alpha_grad, gram, loss = distributed.total(*products, loss)
        (omega_grad,) = torch.autograd.grad(alpha, self.omega.value, alpha_grad)
        self.omega.value.requires_grad_(False)

        one = torch.ones_like(grad[:, :1])
        squares = squared_norm(one, gram) + squared_norm(a, gram) + omega_grad.square().sum()
        loss, scale = optimizer.clip_scale(loss, squares)
        self.shared.adamw_(scale * one, grad, step, rate, optimizer)
        self.experts.adamw_(scale * a, grad, step, rate * self.expert_lr_ratio, optimizer)
        self.omega.adamw_(scale * one[:1], omega_grad, step, rate, optimizer)
        return loss

    def parameters_at(self, h: Tensor | None) -> Tensor:
        """Algorithm 3's last line: Theta(h). Without h: alpha = 0, the shared parameters alone."""
        alpha = self.experts.value.new_zeros(1, self.n_experts) if h is None else self.coefficients(h[None])
        return self.instantiate(alpha)[0]

    def tensors(self) -> dict[str, Tensor]:
        banks = self.shared.tensors("shared") | self.experts.tensors("experts")
        return self.flat.named(banks) | self.omega.tensors("router")

    def cost(self) -> dict[str, int]:
        n, size, width, draws = self.n_experts, self.flat.size, self.flat.width, self.context.draws_per_step
        moved = size * draws // distributed.size() if width < size else 0  # own draws' whole Theta, then gradient
        dense = 3 * self.context.sequences * forward_flops(self.context.base, self.context.seq_len)
        products = 3 * n + draws + 1 if n else 0  # combination, dL/dA, dL/dE; G G^T; dL/dS
        return {
            "flops_per_step": dense + 2 * draws * products * size,
            "stored_parameters": (1 + n) * size + (self.router_flat.size if n else 0),
            "deployed_parameters": size,
            "state_bytes": self.shared.bytes
            + self.experts.bytes  # and the base model, Theta or G
            + (size + draws * width + moved) * self.shared.value.element_size(),
        }
