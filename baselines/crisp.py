"""CRISP: a pretraining run for each specialist, on the mixture of its own domain weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from soe_bench.errors import UserError
from soe_bench.method import Dense, MethodContext


class Crisp(Dense):
    """CRISP (Grangier et al., "Task-Adaptive Pretrained Language Models via Clustered-Importance Sampling",
    https://arxiv.org/abs/2410.03735): each specialist's model has the whole token budget, at that specialist's h.

    At another h: the model that was trained nearest to it (L1), so that the controls show another specialist's model.
    """

    takes_h = True
    controls = ("uniform", "shuffled", "h_0")
    per_specialist = True
    one_model = False
    tokens_each = 1.0

    def mixtures(self, context: MethodContext) -> np.ndarray:
        if not context.specialists:
            raise UserError(
                f"{self.label} trains a model for each specialist, and this corpus has none: set data.specialists"
            )
        return np.stack(list(context.specialists.values()))

    def parameters_at(self, h: Tensor) -> Tensor:
        distance = (torch.as_tensor(self.weights).to(h) - h[:, None]).abs().sum(2)
        return self.models.value[distance.argmin(1)]
