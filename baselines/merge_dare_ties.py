"""DARE-TIES merge: drop parameters of the task vectors at random, rescale the rest, elect a sign for each parameter."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from baselines.merge_base import TaskVectorMerge, disjoint_merge


class MergeDareTies(TaskVectorMerge):
    """DARE (Yu et al., https://arxiv.org/abs/2311.03099, section 3) before TIES, whose trimming it replaces: each
    number of a task vector is dropped with probability p = 1 - `density`, the others are divided by 1 - p, and TIES'
    sign election and mean of the agreeing vectors follow (https://arxiv.org/abs/2306.01708, section 4.2). The mask is
    drawn once, from the run's seed.

    `normalize: false` is mergekit's default: the sum of the agreeing vectors instead of their mean. mergekit rescales
    to the tensor's L1 norm, which is the same in expectation; with its `rescale` off and lambda = 1 / density it
    computes this.
    """

    def __init__(
        self,
        name: str,
        parent: Mapping | None,
        weights: str = "h",
        scale: float | str = "default",
        density: float = 0.53,
        normalize: bool = True,
    ) -> None:
        super().__init__(name if normalize else f"{name}_sum", parent, weights, scale)
        self.density = density
        self.normalize = normalize

    def sparsified(self, task_vectors: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.context.seed)
        mask = torch.stack(
            [torch.bernoulli(torch.full((self.flat.size,), self.density), generator=generator) for _ in task_vectors]
        )  # drawn on the CPU: the same on every device
        return task_vectors * mask.to(task_vectors) / self.density

    def task_vector(self, weights: Tensor) -> Tensor:
        return disjoint_merge(self.task_vectors, weights, self.normalize)
