"""Task arithmetic: the common parent plus a scaled sum of the experts' task vectors."""

from __future__ import annotations

from torch import Tensor

from baselines.merge_base import TaskVectorMerge


class MergeTaskArithmetic(TaskVectorMerge):
    """Task arithmetic (Ilharco et al., https://arxiv.org/abs/2212.04089): theta_0 + lambda sum_i w_i tau_i, with the
    paper's lambda 0.4 for untuned merges. The weights are relative to the largest, so that uniform ones give the
    paper's plain sum.
    """

    default_scale = 0.4

    def task_vector(self, weights: Tensor) -> Tensor:
        return weights / weights.max() @ self.task_vectors
