"""Dense on pi: one dense model on the batches of the soup, which shows what the experts add to these batches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from soe_bench.method import Dense, MethodContext
from soe_bench.mixture import MetaDistribution


class DenseOnPi(Dense):
    """The soup (arXiv 2502.01804) without experts: S alone, trained on mix(h) for h drawn from `pi`."""

    pi: MetaDistribution

    def __init__(self, name: str, lr: float, pi: MetaDistribution, parent: Mapping | None = None) -> None:
        super().__init__(name, lr, parent)
        self.pi = pi

    def mixtures(self, context: MethodContext) -> np.ndarray:
        return context.h_0[None]  # one model; each step draws what it is trained on

    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        return self.pi.sample(rng, self.context.draws_per_step, self.context.h_0)
