"""Gradient merge: the coefficients of the experts tuned on the specialist's text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from baselines.merge_base import Merge
from soe_bench.estimate import minimise
from soe_bench.method import with_parameters
from soe_bench.ops.flat import forward_at

STEPS, RATE = 100, 0.02


class MergeGradient(Merge):
    """theta_0 + sum_i c_i tau_i with coefficients c (m,) tuned by Adam on the specialist's validation documents, from
    the linear merge (c = w). Task-wise AdaMerging (Yang et al., https://arxiv.org/abs/2310.02575), with the language
    modelling loss in place of its entropy. The weights are only a start, so no other h is tried; there is no scale.
    """

    keeps_common = True
    controls = ()

    def merged(self, weights: Tensor) -> Tensor:
        return weights @ self.models + (1 - weights.sum()) * self.common

    def specialist(self, h: np.ndarray | None, documents: Sequence[np.ndarray] = ()) -> nn.Module:
        if self.count == 1:
            return super().specialist(h)
        c = self.expert_weights(None if h is None else self.weights_tensor(h))[None].requires_grad_()

        def logits(tokens: Tensor) -> Tensor:
            return forward_at(self.context.base, self.flat, self.merged(c[0])[None], tokens)

        minimise(c, logits, self, [documents], STEPS, RATE)
        return with_parameters(self.context.base, self.flat, self.merged(c.detach()[0]))
