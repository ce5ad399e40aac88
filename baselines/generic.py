"""Generic pretraining: one dense model on the generic mixture h_0, the same model for every specialist."""

from __future__ import annotations

import numpy as np

from soe_bench.method import Dense, MethodContext


class Generic(Dense):
    """The baseline of the paper (arXiv 2502.01804): pretraining on the generic corpus, that is on mix(h_0)."""

    def mixtures(self, context: MethodContext) -> np.ndarray:
        return context.h_0[None]
