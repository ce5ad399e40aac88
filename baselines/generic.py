"""Generic pretraining: one dense model on the generic mixture h_0, the same model for every specialist."""

from __future__ import annotations

import numpy as np

from soe_bench.method import Dense, Setup


class Generic(Dense):
    """The baseline of the paper (arXiv 2502.01804): pretraining on the generic corpus, that is on mix(h_0)."""

    one_model = True

    def mixtures(self, setup: Setup) -> np.ndarray:
        return setup.h_0[None]
