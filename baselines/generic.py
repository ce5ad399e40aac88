"""Generic pretraining: one dense model on the generic mixture h_0, the same model for every specialist."""

from __future__ import annotations

import numpy as np

from soe_bench.method import Dense


class Generic(Dense):
    """The baseline of the paper (arXiv 2502.01804): pretraining on the generic corpus, that is on mix(h_0)."""

    def domain_weights(self, rng: np.random.Generator) -> np.ndarray:
        return np.tile(self.setup.h_0, (self.setup.draws, 1))
