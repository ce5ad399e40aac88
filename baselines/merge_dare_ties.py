"""DARE-TIES merge: drop parameters of the task vectors at random, rescale the rest, elect a sign for each parameter."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from baselines.merge_base import TaskVectorMerge, check_density, elect


class MergeDareTies(TaskVectorMerge):
    """DARE (Yu et al., https://arxiv.org/abs/2311.03099) with TIES' sign election: each number of a task vector is kept
    with probability `density` and divided by it (drop rate 1 - density); of the weighted vectors those that agree with
    the elected sign are summed (as in mergekit, not averaged again). The mask is drawn once, from the run's seed.

    mergekit rescales to the tensor's L1 norm instead, which is the same in expectation; with its `rescale` off and
    lambda = 1 / density it computes this.
    """

    def __init__(
        self,
        name: str,
        parent: Mapping | None,
        weights: str = "h",
        scale: float | str = "default",
        density: float = 0.53,
    ) -> None:
        super().__init__(name, parent, weights, scale)
        self.density = check_density(density)

    def sparsified(self, task_vectors: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.context.seed)
        mask = torch.stack(
            [torch.bernoulli(torch.full((self.flat.size,), self.density), generator=generator) for _ in task_vectors]
        )  # drawn on the CPU: the same on every device
        return task_vectors * mask.to(task_vectors) / self.density

    def task_vector(self, weights: Tensor) -> Tensor:
        weighted = weights[:, None] * self.task_vectors
        return (weighted * elect(weighted)).sum(0)
