"""TIES merge: trim the task vectors, elect a sign for each parameter, average those that agree with it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from baselines.merge_base import TaskVectorMerge, disjoint_merge, trim


class MergeTies(TaskVectorMerge):
    """TIES-Merging (Yadav et al., https://arxiv.org/abs/2306.01708, Algorithm 1) with weights: trim, elect, merge.

    `trim` says over what a task vector keeps its largest `density`: over the whole `model`, as in section 4.2 of the
    paper, or over each `tensor`, as in mergekit. The paper's recipe without validation: density 0.2 and lambda 1.
    """

    def __init__(
        self,
        name: str,
        parent: Mapping | None,
        weights: str = "h",
        scale: float | str = "default",
        density: float = 0.2,
        trim: str = "model",
    ) -> None:
        super().__init__(name if trim == "model" else f"{name}_by_tensor", parent, weights, scale)
        self.density = density
        self.by_tensor = trim == "tensor"

    def sparsified(self, task_vectors: Tensor) -> Tensor:
        sizes = self.flat.sizes if self.by_tensor else [self.flat.size]
        return torch.cat([trim(part, self.density) for part in task_vectors.split(sizes, dim=1)], dim=1)

    def task_vector(self, weights: Tensor) -> Tensor:
        return disjoint_merge(self.task_vectors, weights)
