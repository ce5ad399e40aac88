"""Parameters generated from domain weights: Theta(h) = S + Delta(h), Delta any network, trained as the soup is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from soe_bench.method import Method, MethodContext
from soe_bench.mixture import MetaDistribution
from soe_bench.ops.adamw import Gradient, ParameterBank
from soe_bench.ops.flat import Flat, forward_at
from soe_bench.ops.flops import FlopCounter


class Generated(Method):
    """Minimises over S and the network's parameters omega the expectation over h ~ pi of the loss of S + Delta(h) on
    mix(h): Algorithm 2 of the Soup-of-Experts (arXiv 2502.01804) with another map from h to parameters.

    `network_lr_ratio` multiplies the learning rate of omega. A `parent` of one dense model is a warm start of S.
    """

    takes_h = True
    pi: MetaDistribution

    def __init__(
        self, name: str, lr: float, network_lr_ratio: float, pi: MetaDistribution, parent: Mapping | None = None
    ) -> None:
        super().__init__(name, lr, parent)
        self.network_lr_ratio, self.pi = network_lr_ratio, pi

    @abstractmethod
    def network(self, context: MethodContext) -> nn.Module:
        """A module from domain weights (R, k) to Delta (R, P), in the order of the base model's parameters."""

    def module(self, context: MethodContext) -> nn.Module:
        """The model whose parameters Theta(h) are: the base model, or one that adds parameters of its own before it."""
        return context.base

    def build(self, context: MethodContext) -> None:
        self.context = context = replace(context, base=self.module(context))
        self.flat = Flat(context.base)
        shared = self.flat.flatten(context.base)
        if context.parent:
            start = context.parent["models.value"][0]
            shared[-len(start) :] = start  # what a module adds to the base model stands before it
        with torch.random.fork_rng(devices=[]), torch.device("meta" if shared.is_meta else "cpu"):
            torch.manual_seed(context.seed)
            self.delta_network = self.network(context).to(shared)
        self.network_flat = Flat(self.delta_network)
        self.shared = ParameterBank(shared[None], self.flat, context.moments)
        self.omega = ParameterBank(
            self.network_flat.flatten(self.delta_network)[None], self.network_flat, context.moments
        )

    def delta(self, weights: np.ndarray | Tensor, omega: Tensor | None = None) -> Tensor:
        """Delta (R, P) at the domain weights (R, k)."""
        omega = self.omega.value if omega is None else omega
        return forward_at(self.delta_network, self.network_flat, omega, torch.as_tensor(weights).to(omega)[None])[0]

    def parameters_at(self, h: Tensor) -> Tensor:
        return self.shared.value + self.delta(h)

    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        return self.pi.sample(rng, self.context.draws_per_step, self.context.h_0)

    def update(self, tokens: Tensor, weights: Tensor, step: int, lr: float) -> float:
        omega = self.omega.value.detach().requires_grad_()
        delta = self.delta(weights, omega)
        loss, g = self.gradient_at(self.shared.value + delta.detach(), tokens)
        (d_omega,) = torch.autograd.grad(delta, omega, g)
        gradients = [Gradient.of_sum(self.shared, g), Gradient.of_sum(self.omega, d_omega, self.network_lr_ratio)]
        return self.context.optimizer.step(loss, gradients, step, lr)

    def tensors(self) -> dict[str, Tensor]:
        return self.shared.tensors("shared") | self.omega.tensors("network")

    def cost(self) -> dict[str, int]:
        context, draws, size = self.context, self.context.draws_per_step, self.flat.size
        with FlopCounter() as counter, torch.no_grad():
            self.delta(np.tile(context.h_0, (draws, 1)))
        cost, numbers = super().cost(), self.network_flat.size + (2 * draws - 1) * size  # its gradient; Delta and Theta
        norms = 2 * draws * (draws + 1) * size  # of the gradient of S: its products with itself, and its sum
        return cost | {
            "flops_per_step": cost["flops_per_step"] + 3 * counter.get_total_flops() + norms,
            "state_bytes": cost["state_bytes"] + numbers * self.shared.value.element_size(),
        }


class LowRank(nn.Module):
    """For a model's matrices W (out, in): products A B of factors A (R, out, r) and B (R, r, in) as one vector (R, P),
    zero for its other parameters (LoRA, Hu et al., https://arxiv.org/abs/2106.09685)."""

    def __init__(self, flat: Flat, rank: int) -> None:
        super().__init__()
        self.shapes, self.rank = list(flat.shapes.values()), rank
        self.sizes = [(rank * shape[0], rank * shape[1]) for shape in self.shapes if len(shape) == 2]

    @property
    def size(self) -> int:
        """Numbers in all factors of one model."""
        return sum(map(sum, self.sizes))

    def start(self, *leading: int) -> Tensor:
        """(*leading, size) factors whose products are zero: A is N(0, 1), B is 0."""
        parts = [part for a, b in self.sizes for part in (torch.randn(*leading, a), torch.zeros(*leading, b))]
        return torch.cat(parts, -1)

    def pairs(self, factors: Tensor) -> list[tuple[Tensor, Tensor]]:
        """factors (..., size) -> for each matrix A (..., out, r) and B (..., r, in)."""
        parts = iter(factors.split([size for pair in self.sizes for size in pair], -1))
        matrices = [shape for shape in self.shapes if len(shape) == 2]
        return [
            (next(parts).unflatten(-1, (shape[0], self.rank)), next(parts).unflatten(-1, (self.rank, shape[1])))
            for shape in matrices
        ]

    def vector(self, products: list[Tensor]) -> Tensor:
        """products, for each matrix (R, out, in) -> (R, P)."""
        left, rows = iter(products), products[0]
        return torch.cat(
            [
                next(left).flatten(1) if len(shape) == 2 else rows.new_zeros(len(rows), shape.numel())
                for shape in self.shapes
            ],
            1,
        )
