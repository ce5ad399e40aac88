"""Domain experts: one dense model for each group of domains, trained apart from a common parent or from scratch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from soe_bench.method import Dense, MethodContext


def domain_groups(centroids: np.ndarray, h_0: np.ndarray, groups: int) -> np.ndarray:
    """The group (k,) of each domain: k-means of the centroids (k, d) weighted by h_0 (k,), at most k groups."""
    with threadpool_limits(1):  # as in data/domains.py: with several threads the sums would differ from run to run
        fitted = KMeans(min(groups, len(h_0)), n_init=10, random_state=0).fit(centroids, sample_weight=h_0)
    return fitted.labels_


def group_mixtures(context: MethodContext, groups: int) -> np.ndarray:
    """(m, k) domain weights, a row per group: h_0 restricted to the group's domains."""
    labels = domain_groups(context.centroids, context.h_0, groups)
    rows = np.where(labels == np.arange(labels.max() + 1)[:, None], context.h_0, 0)
    return rows / rows.sum(1, keepdims=True)


class DomainExperts(Dense):
    """Branch-Train-Merge's experts (Li et al., https://arxiv.org/abs/2208.03306), a group of domains each: they share
    the tokens that the parent left. At h: the expert of the group with the largest share of h.

    `generic_fraction` of an expert's sequences are drawn from h_0, the others from `own` (m, k): h_0 restricted to its
    group. Experts trained on half generic text merged best in DeMix (https://arxiv.org/abs/2602.00747).
    """

    takes_h = True
    controls = ("uniform", "shuffled", "h_0")
    one_model = False

    def __init__(
        self, name: str, lr: float, groups: int, generic_fraction: float = 0.0, parent: Mapping | None = None
    ) -> None:
        super().__init__(name, lr, parent)
        self.groups, self.generic_fraction = groups, generic_fraction

    def mixtures(self, context: MethodContext) -> np.ndarray:
        self.own = group_mixtures(context, self.groups)
        return (1 - self.generic_fraction) * self.own + self.generic_fraction * context.h_0

    def build(self, context: MethodContext) -> None:
        super().build(context)
        self.common = self.start(context)[:1].clone()

    def parameters_at(self, h: Tensor) -> Tensor:
        share = h @ torch.as_tensor(self.own > 0).to(h).T
        return self.models.value[share.argmax(1)]

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {"common.value": self.common}

    def cost(self) -> dict[str, int]:
        return super().cost() | {"stored_parameters": self.n_models * self.flat.size}  # `common` is for merges alone


class SeparateExperts(DomainExperts):
    """Domain experts that share nothing: each starts from an initialisation of its own and has `tokens_each` of the
    budget. With (1 + 1 / m) / 2 for m groups (or domains, if there are fewer) that is as much as the parent and a
    branch of `domain_experts` have together. The reference for merging of distant models.
    """

    def __init__(self, name: str, lr: float, groups: int, tokens_each: float) -> None:
        super().__init__(name, lr, groups)
        self.tokens_each = tokens_each

    def start(self, context: MethodContext) -> Tensor:
        first = self.flat.flatten(context.base)
        seeds = context.seed + 1_000 * np.arange(len(self.weights))
        return torch.stack([first, *(self.flat.flatten(context.initial(int(seed))) for seed in seeds[1:])])
