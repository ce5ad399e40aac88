"""Linear merge: the weighted average of the experts."""

from __future__ import annotations

from torch import Tensor

from baselines.merge_base import Merge


class MergeLinear(Merge):
    """Weight averaging (Wortsman et al., "Model soups", https://arxiv.org/abs/2203.05482; with weights from h:
    Branch-Train-Merge, https://arxiv.org/abs/2208.03306). The weights sum to 1: there is no scale to choose.
    """

    def merged(self, weights: Tensor) -> Tensor:
        return weights @ self.models
