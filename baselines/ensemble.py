"""Ensemble: the output probabilities of the experts, mixed by their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from baselines.merge_base import PostHoc
from soe_bench.method import with_parameters
from soe_bench.ops.flat import forward_at


def mixed(log_probabilities: Sequence[Tensor], weights: Tensor) -> Tensor:
    """log sum_i w_i p_i of log p_i (..., V) and weights (m,)."""
    each = torch.stack(list(log_probabilities))
    highest = each.detach().amax(0)  # so that no exponential overflows; a weight of 0 keeps its gradient
    return torch.einsum("m,m...->...", weights, (each - highest).exp()).log() + highest


class MixtureOfOutputs(nn.Module):
    """Several models run side by side: tokens (B, T) -> the logarithm (B, T, V) of their mixed probabilities."""

    def __init__(self, models: Sequence[nn.Module], weights: Tensor) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.register_buffer("weights", weights)

    def forward(self, tokens: Tensor) -> Tensor:
        return mixed([model(tokens).log_softmax(-1) for model in self.models], self.weights)


class Ensemble(PostHoc):
    """c-BTM's ensemble (Gururangan et al., https://arxiv.org/abs/2303.14177) with one weight per expert for the whole
    specialist, in place of one for each context. Every expert with a weight runs: it is not one model of P parameters.
    """

    deployable = False

    def specialist(self, h: np.ndarray | None, documents: Sequence[np.ndarray] = ()) -> nn.Module:
        weights = self.expert_weights(None if h is None else self.weights_tensor(h))
        active = weights.nonzero()[:, 0]
        models = [with_parameters(self.context.base, self.flat, self.models[i]) for i in active]
        return MixtureOfOutputs(models, weights[active])

    def logits(self, h: Tensor, tokens: Tensor) -> Tensor:
        """The logarithm of the mixed probabilities: logits whose softmax is the mixture."""
        models = self.models[:, None].expand(-1, len(h), -1)
        each = [forward_at(self.context.base, self.flat, model, tokens).log_softmax(-1) for model in models]
        return torch.stack([mixed([x[r] for x in each], self.expert_weights(row)) for r, row in enumerate(h)])

    def cost(self) -> dict[str, int]:
        most = self.count * (self.flat.size + 1)  # with every expert and its weight
        return super().cost() | {"deployed_parameters": most}
