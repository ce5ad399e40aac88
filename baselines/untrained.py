"""What methods share that train nothing themselves: they use the models of their parent run."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from soe_bench.method import Method


class Untrained(Method):
    """A method that takes no training step and stores nothing of its own."""

    def domain_weights(self, rng: np.random.Generator, step: int) -> np.ndarray:
        raise NotImplementedError(f"{self.label} takes no training step")

    def update(self, tokens: Tensor, weights: Tensor, step: int, lr: float) -> float:
        raise NotImplementedError(f"{self.label} takes no training step")

    def tensors(self) -> dict[str, Tensor]:
        """None: the parent run keeps the models."""
        return {}
