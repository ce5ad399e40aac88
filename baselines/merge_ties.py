"""TIES merge: trim the task vectors, elect a sign for each parameter, average those that agree with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from baselines.merge_base import TaskVectorMerge, check_density, elect, trim


class MergeTies(TaskVectorMerge):
    """TIES-Merging (Yadav et al., https://arxiv.org/abs/2306.01708) with weights, a tensor at a time as in mergekit:
    task vectors trimmed to their largest `density`, signs elected by the weighted sum, weighted mean of those that
    agree. The paper's recipe without validation: density 0.2 and lambda 1.
    """

    def __init__(
        self,
        name: str,
        parent: Mapping | None,
        weights: str = "h",
        scale: float | str = "default",
        density: float = 0.2,
    ) -> None:
        super().__init__(name, parent, weights, scale)
        self.density = check_density(density)

    def sparsified(self, task_vectors: Tensor) -> Tensor:
        return torch.cat([trim(part, self.density) for part in task_vectors.split(self.flat.sizes, dim=1)], dim=1)

    def task_vector(self, weights: Tensor) -> Tensor:
        weighted = weights[:, None] * self.task_vectors
        agreeing = elect(weighted)
        total = weights @ agreeing
        return (weighted * agreeing).sum(0) / torch.where(total == 0, 1, total)
