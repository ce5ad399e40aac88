"""What the post-hoc methods share: the trained experts of the parent run, their weights, and the scale of a merge."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from baselines.domain_experts import DomainExperts, SeparateExperts, domain_groups
from baselines.untrained import Untrained
from soe_bench.errors import UserError
from soe_bench.evaluate import mean_loss
from soe_bench.method import Method, MethodContext, with_parameters
from soe_bench.ops.flat import Flat

log = logging.getLogger("soe_bench")
SCALES = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0)  # what a tuned scale is chosen from


class PostHoc(Untrained):
    """A method on the experts of its parent run (baselines/domain_experts.py), which trains nothing itself.

    `weights`: how much each expert counts, (m,) on the simplex. `h`: the share of h in the expert's group of domains;
    `uniform`: 1/m for every specialist. After `build`: `models` (m, P), the experts, and `common` (P,), their parent.
    With one expert nothing depends on h.
    """

    keeps_common = False  # whether a specialist is made from the common parent too
    usual_experts = "domain_experts"  # the label names the experts if they are others

    def __init__(self, name: str, parent: Mapping | None, weights: str = "h") -> None:
        super().__init__(name if weights == "h" else f"{name}_uniform", 0.0, parent)
        self.takes_h = weights == "h"
        if not parent:
            raise UserError(f"{name} has nothing to merge: set method.parent.method to domain_experts")

    def start_from(self, parent: Method) -> None:
        if not isinstance(parent, DomainExperts):
            raise UserError(
                f"{self.label} has nothing to merge: method.parent.method must be a set of experts (domain_experts or "
                "separate_experts)"
            )
        if self.parent["fraction"] != 1:
            raise UserError(
                f"method.parent.fraction is {self.parent['fraction']}: {self.label} trains nothing itself, so "
                "set it to 1: the experts have the whole budget"
            )
        self.experts = parent
        if parent.label != self.usual_experts:
            self.label += f"_of_{parent.label}"

    def build(self, context: MethodContext) -> None:
        self.context, self.flat = context, Flat(context.base)
        self.count = min(self.experts.groups, len(context.h_0))
        if context.parent is not None:  # None in planning: only the costs are asked for
            models = context.parent["models.value"]
            if models.shape[1] != self.flat.size:
                raise UserError(
                    f"the experts of the parent run have {models.shape[1]} parameters, the base model has "
                    f"{self.flat.size}: train them anew for this model"
                )
            self.models, self.common, self.count = models, context.parent["common.value"][0], len(models)
            self.takes_h = self.takes_h and self.count > 1
            labels = domain_groups(context.centroids, context.h_0, self.count)
            self.labels = torch.as_tensor(labels, dtype=torch.long, device=models.device)

    def expert_weights(self, h: Tensor | None) -> Tensor:
        """(m,) weights of the experts at h (k,), differentiable in it; uniform without h."""
        if h is None or not self.takes_h:
            return self.models.new_full((self.count,), 1 / self.count)
        return h.new_zeros(self.count).index_add(0, self.labels, h)

    def best_on(self, candidates: Iterable[Tensor], documents: Sequence[np.ndarray]) -> Tensor:
        """The parameters (P,) among the candidates with the lowest loss on the documents (token ids), the first of
        equals."""

        def loss(theta: Tensor) -> float:
            model = with_parameters(self.context.base, self.flat, theta)
            return mean_loss(model, documents, self.context.seq_len)

        return min(candidates, key=loss)

    def cost(self) -> dict[str, int]:
        size, element = self.flat.size, next(self.context.base.parameters()).element_size()
        return {
            "flops_per_step": 0,
            "stored_parameters": (self.count + self.keeps_common) * size,
            "deployed_parameters": size,
            "state_bytes": (2 * self.count + 2) * size * element,  # experts and as much to work with; base and parent
        }


class Merge(PostHoc):
    """A merge of the experts' parameters into one model. The merge of one expert is that expert."""

    def build(self, context: MethodContext) -> None:
        super().build(context)
        if context.parent is not None and isinstance(self.experts, SeparateExperts):
            log.warning(
                "%s merges experts that have no common parent: expect a barrier between them (claim C3)", self.label
            )

    @abstractmethod
    def merged(self, weights: Tensor) -> Tensor:
        """The merged parameters (P,) at the weights (m,) of the experts, differentiable in them."""

    def parameters_at(self, h: Tensor | None) -> Tensor:
        if self.count == 1:
            return self.models.expand(1 if h is None else len(h), -1)
        return torch.stack([self.merged(self.expert_weights(row)) for row in ([None] if h is None else h)])


class TaskVectorMerge(Merge):
    """common + scale * task_vector(weights), where an expert's task vector is its difference from the common parent.

    `scale` (lambda) is a number, `default` (the paper's, `default_scale`), or `tuned`: for each specialist the one of
    SCALES with the lowest loss on its validation documents (`parameters_at`, and so a tuned h, has the default scale).
    """

    keeps_common = True
    default_scale = 1.0

    def __init__(self, name: str, parent: Mapping | None, weights: str = "h", scale: float | str = "default") -> None:
        super().__init__(name, parent, weights)
        self.tuned = scale == "tuned"
        self.label += "_tuned" if self.tuned else ""
        self.scale = self.default_scale if isinstance(scale, str) else scale

    def build(self, context: MethodContext) -> None:
        super().build(context)
        if context.parent is not None:
            self.task_vectors = self.sparsified(self.models - self.common)

    def sparsified(self, task_vectors: Tensor) -> Tensor:
        """The task vectors (m, P) as they are merged."""
        return task_vectors

    @abstractmethod
    def task_vector(self, weights: Tensor) -> Tensor:
        """The merged task vector (P,) at the weights (m,) of the experts, differentiable in them."""

    def merged(self, weights: Tensor) -> Tensor:
        return self.common + self.scale * self.task_vector(weights)

    @torch.no_grad()
    def specialist(self, h: np.ndarray | None, documents: Sequence[np.ndarray] = ()) -> nn.Module:
        if not self.tuned or self.count == 1:
            return super().specialist(h)
        vector = self.task_vector(self.expert_weights(None if h is None else self.weights_tensor(h)))
        best = self.best_on((self.common + scale * vector for scale in SCALES), documents)
        return with_parameters(self.context.base, self.flat, best)


def trim(task_vectors: Tensor, density: float) -> Tensor:
    """Each vector of (m, N) with all but its largest `density * N` magnitudes (at least one) set to zero."""
    kept = max(1, int(density * task_vectors.shape[1]))
    mask = torch.zeros_like(task_vectors).scatter_(1, task_vectors.abs().topk(kept).indices, 1)
    return task_vectors * mask


def disjoint_merge(task_vectors: Tensor, weights: Tensor, normalize: bool = True) -> Tensor:
    """TIES' second and third step (Yadav et al., https://arxiv.org/abs/2306.01708, Algorithm 1 and section 4.2) with
    weights: task vectors (m, N), weights (m,) -> (N,). Elects each number's sign, that of the weighted sum (a zero sum
    counts as positive); the result is the weighted mean of the numbers of that sign, or without `normalize` their
    weighted sum.
    """
    weighted = weights[:, None] * task_vectors
    majority = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
    agreeing = (weighted.sign() == majority).to(weighted)
    total = weights @ agreeing if normalize else weights.new_ones(())
    return (weighted * agreeing).sum(0) / torch.where(total == 0, 1, total)
